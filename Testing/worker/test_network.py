"""A network that breaks is only a delay: right files or a typed error, and little is sent twice."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.encoding import smaller
from braing3n_core.errors import UnreachableError
from braing3n_core.protocol import CHUNK_BYTES
from braing3n_core.remote import RemoteEngine
from braing3n_core.schema import GenerateRequest, ProbeRequest
from braing3n_core.volume import Volume
from braing3n_core.wire import Wire

from .conftest import SLACK, RunningWorker, contents, free_port, steps
from .fault_proxy import FAULTS, Fault, FaultProxy

ROUNDS = int(os.environ.get("BRAING3N_RELIABILITY_FAULTS", "1"))
"""How often each fault strikes in each phase."""
AGAIN_BYTES = 4 * 2**20


@pytest.fixture(scope="module")
def proxy(worker: RunningWorker) -> Iterator[FaultProxy]:
    running = FaultProxy(worker.port)
    yield running
    running.close()


@pytest.fixture(scope="module")
def large_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of several pieces, that does not compress."""
    array = np.random.default_rng(1).normal(size=(120, 120, 100))
    return Volume.from_array(array, np.eye(4)).save(tmp_path_factory.mktemp("large") / "sub-02_T1w.nii.gz")


@pytest.fixture(scope="module")
def expected(
    worker: RunningWorker, large_scan: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("expected")
    worker.engine().run(ProbeRequest(str(large_scan)), folder / "scan")
    worker.engine().run(steps(30), folder / "steps")
    return {name: contents(folder / name) for name in ("scan", "steps")}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("phase", ["upload", "poll", "download"])
def test_a_fault_is_only_a_delay(
    worker: RunningWorker, proxy: FaultProxy, large_scan: Path, expected: dict[str, dict[str, bytes]], tmp_path: Path,
    kind: str, phase: str,
) -> None:  # fmt: skip
    for number in range(ROUNDS):
        rng = random.Random(f"{kind}{phase}{number}")
        size = large_scan.stat().st_size
        after = {"upload": rng.randrange(2000, size), "poll": rng.randrange(600, 3000),
                 "download": size + rng.randrange(20_000, size)}[phase]  # fmt: skip
        proxy.plan(Fault(kind, times=rng.randint(1, 3), after=after, seed=number))
        engine = RemoteEngine(f"http://127.0.0.1:{proxy.port}", worker.tokens["alice"], patience_seconds=30.0)
        request, what = (steps(30), "steps") if phase == "poll" else (ProbeRequest(str(large_scan)), "scan")
        start = time.monotonic()
        engine.run(request, tmp_path / str(number))
        engine.close()
        assert contents(tmp_path / str(number)) == expected[what]
        assert proxy.struck
        assert time.monotonic() - start < 60 * SLACK
        if phase != "poll":
            assert proxy.sent - size <= AGAIN_BYTES


def test_five_broken_connections_cost_no_more_than_four_megabytes(
    worker: RunningWorker, proxy: FaultProxy, large_scan: Path, tmp_path: Path
) -> None:
    proxy.plan(Fault("cut", times=5, after=2_000_000))
    engine = RemoteEngine(f"http://127.0.0.1:{proxy.port}", worker.tokens["alice"])
    assert engine.run(ProbeRequest(str(large_scan)), tmp_path / "out").outputs
    assert proxy.hit == 5
    assert proxy.sent - large_scan.stat().st_size <= AGAIN_BYTES


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\ncontent-ty", b"HTTP/1.1 409 Conflict\r\nUpload-Offset: 20", b"HTTP"]
)
def test_an_answer_whose_headers_are_cut_off_is_a_broken_connection(head: bytes) -> None:
    """The standard library takes the end of the connection for the end of the headers, and the body for empty."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(head)

        thread = threading.Thread(target=answer)
        thread.start()
        wire = Wire(f"http://127.0.0.1:{listening.getsockname()[1]}", "x" * 32, None, 0.0)
        with pytest.raises(UnreachableError):
            wire.call("GET", "/v1/jobs")
        thread.join(20)


def test_a_worker_that_is_not_there_is_a_typed_error_in_time(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        RemoteEngine(f"http://127.0.0.1:{free_port()}", "x" * 32, patience_seconds=2.0).run(steps(1), tmp_path / "out")
    assert time.monotonic() - start < 5 * SLACK
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_worker_that_starts_again_in_between_is_only_a_delay(own_worker: RunningWorker, tmp_path: Path) -> None:
    own_worker.engine().run(steps(100), tmp_path / "expected")

    def restart() -> None:
        own_worker.kill()
        own_worker.start()

    timer = threading.Timer(0.8, restart)
    timer.start()
    own_worker.engine().run(steps(100), tmp_path / "out")
    timer.join()
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_a_second_file_of_the_same_content_is_sent_once_per_job(
    worker: RunningWorker, proxy: FaultProxy, large_scan: Path, tmp_path: Path
) -> None:
    proxy.plan(Fault("none", 0))
    engine = RemoteEngine(f"http://127.0.0.1:{proxy.port}", worker.tokens["alice"])
    engine.run(ProbeRequest(str(large_scan)), tmp_path / "out")
    assert large_scan.stat().st_size <= proxy.sent < large_scan.stat().st_size + 50_000


def test_a_request_without_files_sends_nothing_but_words(
    worker: RunningWorker, proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.plan(Fault("none", 0))
    engine = RemoteEngine(f"http://127.0.0.1:{proxy.port}", worker.tokens["alice"])
    assert engine.run(GenerateRequest(num_steps=1), tmp_path / "out").kind == "generate"
    assert proxy.sent < 10_000


@pytest.fixture(scope="module")
def empty_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of several pieces that compresses well."""
    array = np.zeros((120, 120, 100))
    array[60] = np.arange(12_000).reshape(120, 100)
    return Volume.from_array(array, np.eye(4)).save(tmp_path_factory.mktemp("empty") / "sub-03_T1w.nii")


@pytest.mark.parametrize("encodings", [("zstd", "gzip"), ("gzip",), ("strange", "gzip"), ()], ids=lambda e: "-".join(e))
def test_what_compresses_travels_compressed_in_what_both_ends_have(
    worker: RunningWorker, proxy: FaultProxy, empty_scan: Path, tmp_path: Path, encodings: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if "zstd" in encodings:
        pytest.importorskip("zstandard")

    def pack(piece: bytes, known: tuple[str, ...]) -> tuple[bytes, str]:
        return (piece[::-1], "strange") if known[:1] == ("strange",) else smaller(piece, known)

    monkeypatch.setattr("braing3n_core.remote.encodings_here", lambda: encodings)
    monkeypatch.setattr("braing3n_core.remote.smaller", pack)
    proxy.plan(Fault("none", 0))
    engine = RemoteEngine(f"http://127.0.0.1:{proxy.port}", worker.tokens["alice"])
    result = engine.run(ProbeRequest(str(empty_scan)), tmp_path / "out")
    negative = Volume.load(result.outputs[0].path).array
    assert np.array_equal(-negative, Volume.load(empty_scan).array)
    size, refused = empty_scan.stat().st_size, CHUNK_BYTES if encodings[:1] == ("strange",) else 0
    assert (proxy.sent < size / 4 + refused) == bool(encodings)
