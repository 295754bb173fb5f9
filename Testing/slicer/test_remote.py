"""The panel speaks to a real worker over TLS, with the fingerprint of its certificate pinned."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")
pytest.importorskip("fastapi", reason="pip install fastapi uvicorn cryptography")
pytest.importorskip("cryptography", reason="pip install cryptography")

from BrainG3NLib.Logic import Logic
from BrainG3NLib.Worker import REMOTE, Compute, ComputeSettings

from braing3n_core.errors import BrainG3NError
from braing3n_core.worker.certificate import fingerprint_of, make_certificate
from braing3n_core.worker.store import Database
from braing3n_core.worker.tokens import SCOPES, TokenStore

from .conftest import REPOSITORY


@pytest.fixture
def place(python: str, tinyCheckpoint: Path, tmp_path: Path):
    """A worker with TLS on this computer: its settings for the panel."""
    cert, key = make_certificate(tmp_path, "127.0.0.1")
    database = Database(tmp_path / "worker.sqlite")
    token = TokenStore(database).create("alice", SCOPES, None)
    database.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "braing3n_core.worker", "--spool", tmp_path, "--port", port, "--checkpoint",
               tinyCheckpoint, "--device", "cpu", "--tls-cert", cert, "--tls-key", key]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    yield ComputeSettings(REMOTE, url=f"https://127.0.0.1:{port}", token=token, fingerprint=fingerprint_of(cert))
    process.terminate()
    process.wait(30)


def waitFor(engine) -> dict:
    """The worker's capabilities, once it listens."""
    import time

    end = time.monotonic() + 300
    while True:
        try:
            return engine.capabilities()
        except BrainG3NError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_a_scan_is_read_by_a_worker_whose_certificate_is_pinned(mrml, scan, settings, place) -> None:
    logic = Logic(mrml.scene, Compute(place))
    assert waitFor(logic.compute.engine())["vocabularies"]
    run = logic.process("probe", settings(inputVolume=scan))
    assert run.named["readings"].GetNumberOfRows() >= 4
    wrong = ComputeSettings(REMOTE, url=place.url, token=place.token, fingerprint="0" * 64)
    refused = ComputeSettings(REMOTE, url=place.url, token="wrong", fingerprint=place.fingerprint)
    for other in (wrong, refused):
        before = mrml.nodes()
        with pytest.raises(BrainG3NError) as caught:
            Logic(mrml.scene, Compute(other)).process("probe", settings(inputVolume=scan))
        assert caught.value.hint and mrml.nodes() == before
