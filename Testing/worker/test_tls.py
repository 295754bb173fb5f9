"""Nobody reads along and nobody takes the worker's place: one test for each way to try."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from braing3n_core.errors import UntrustedError
from braing3n_core.remote import RemoteEngine
from braing3n_core.worker.certificate import make_certificate

from .conftest import RunningWorker, secure_worker, steps


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    running = secure_worker(tmp_path_factory.mktemp("secure")).start().wait_ready()
    yield running
    running.stop()


def test_a_pinned_certificate_is_trusted(secure: RunningWorker, tmp_path: Path) -> None:
    assert secure.engine().run(steps(1), tmp_path / "out").outputs


def test_a_fingerprint_may_be_written_as_other_tools_write_it(secure: RunningWorker) -> None:
    plain = str(secure.fingerprint)
    for written in (plain.upper(), f"sha256:{plain}", ":".join(plain[n : n + 2] for n in range(0, 64, 2))):
        assert secure.engine(fingerprint=written).health()["ok"]


def test_a_self_signed_certificate_that_is_not_pinned_is_refused(secure: RunningWorker, tmp_path: Path) -> None:
    with pytest.raises(UntrustedError, check=lambda e: "cannot be verified" in e.message):
        RemoteEngine(secure.url, secure.tokens["alice"]).run(steps(1), tmp_path / "out")


def test_another_fingerprint_is_refused(secure: RunningWorker, tmp_path: Path) -> None:
    with pytest.raises(UntrustedError, check=lambda e: "not the one that was pinned" in e.message):
        RemoteEngine(secure.url, secure.tokens["alice"], "0" * 64).run(steps(1), tmp_path / "out")


@pytest.mark.parametrize("fingerprint", ["", "12:34", "g" * 64, "0" * 63])
def test_what_is_no_fingerprint_is_refused_and_not_taken_for_none(fingerprint: str) -> None:
    with pytest.raises(UntrustedError, check=lambda e: e.code == "worker.fingerprint"):
        RemoteEngine("https://127.0.0.1:1", "x" * 32, fingerprint)


def test_plain_http_is_not_answered_where_tls_is_on(secure: RunningWorker) -> None:
    with pytest.raises(requests.RequestException):
        requests.get(secure.url.replace("https", "http"), timeout=5)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(secure: RunningWorker, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # so that this side would
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", secure.port), 5) as plain, pytest.raises(OSError):
        context.wrap_socket(plain)


def test_tls_where_there_is_none_says_so(worker: RunningWorker, tmp_path: Path) -> None:
    with pytest.raises(UntrustedError) as caught:
        RemoteEngine(worker.url.replace("http", "https"), worker.tokens["alice"], "0" * 64).run(steps(1), tmp_path)
    assert caught.value.code == "worker.plain"
    assert "http://" in caught.value.hint


def test_a_certificate_that_is_replaced_behind_the_clients_back_ends_the_conversation(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    first = secure_worker(spool).start().wait_ready()
    engine = first.engine()
    assert engine.run(steps(1), tmp_path / "before").outputs
    first.stop()
    for name in ("worker-cert.pem", "worker-key.pem"):
        (spool / name).unlink()
    second = secure_worker(spool)
    second.port = first.port
    second.start().wait_ready()
    try:
        with pytest.raises(UntrustedError):
            engine.run(steps(1), tmp_path / "after")
    finally:
        second.stop()
    assert not (tmp_path / "after").exists()


@pytest.mark.parametrize("pinned", [True, False])
def test_an_impostor_hears_no_word_of_a_request(secure: RunningWorker, tmp_path: Path, pinned: bool) -> None:
    """Neither the token nor the address: the handshake alone decides."""
    heard: list[bytes] = []
    impostor = Impostor(tmp_path, heard)
    engine = RemoteEngine(impostor.url, secure.tokens["alice"], secure.fingerprint if pinned else None)
    with pytest.raises(UntrustedError):
        engine.run(steps(1), tmp_path / "out")
    engine.close()
    impostor.close()
    assert b"".join(heard) == b""
    assert impostor.called


class Impostor:
    """Takes TLS connections with a certificate of its own, and notes what it hears inside."""

    def __init__(self, folder: Path, heard: list[bytes]) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*make_certificate(folder, "127.0.0.1"))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._heard, self.called = heard, 0
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(20)

    def _listen(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            self.called += 1
            plain.settimeout(5)
            try:
                with self._context.wrap_socket(plain, server_side=True) as inside:
                    self._heard.append(inside.recv(4096))
            except OSError:
                plain.close()
