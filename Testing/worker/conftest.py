"""Workers as real processes: a worker with the test operation, its spool and tokens in the test's hands."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.progress import Cancel
from braing3n_core.protocol import API, TOKEN_VARIABLE
from braing3n_core.remote import Errand, RemoteEngine
from braing3n_core.schema import Conditions, GenerateRequest, request_to_dict
from braing3n_core.volume import Volume
from braing3n_core.worker.certificate import fingerprint_of, make_certificate
from braing3n_core.worker.store import Database
from braing3n_core.worker.tokens import SCOPES, TokenStore

SLACK = float(os.environ.get("BRAING3N_RELIABILITY_SLACK", "5"))
"""How many times slower than promised a machine that is busy with other things may be."""
REPOSITORY = Path(__file__).resolve().parents[2]


class RunningWorker:
    """A worker process on a spool that outlives it. users: a token for each. rehearsal: in the place of the engine."""

    def __init__(
        self, spool: Path, *arguments: str, users: tuple[str, ...] = ("alice", "bob"), rehearsal: bool = True
    ) -> None:
        self.spool, self.arguments = spool, (*arguments, *(["--rehearsal"] if rehearsal else []))
        self.tokens = {user: self.add_token(user) for user in users}
        self.port = 0
        self._log = open(spool / "log.txt", "ab")  # noqa: SIM115 - held as long as the worker lives
        self.process: subprocess.Popen[bytes] | None = None

    def add_token(self, user: str, scopes: tuple[str, ...] = SCOPES, expires: float | None = None) -> str:
        database = Database(self.spool / "worker.sqlite")
        try:
            return TokenStore(database).create(user, scopes, expires)
        finally:
            database.close()

    @property
    def scheme(self) -> str:
        return "https" if "--tls-cert" in self.arguments else "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> RunningWorker:
        self.port = self.port or free_port()
        environment = {k: v for k, v in os.environ.items() if k != TOKEN_VARIABLE}
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), environment.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "braing3n_core.worker", "--spool", str(self.spool), "--port", str(self.port),
             *self.arguments],
            env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        return self

    def wait_ready(self, seconds: float = 60.0) -> RunningWorker:
        with RemoteSession(self.engine()) as engine:
            wait_for(lambda: ready(engine), seconds)
        return self

    def engine(self, user: str = "alice", fingerprint: str | None = None, **rest: float) -> RemoteEngine:
        return RemoteEngine(self.url, self.tokens[user], fingerprint or self.fingerprint, **rest)  # type: ignore[arg-type]

    fingerprint: str | None = None

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(30)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill(signal.SIGTERM)
        self._log.close()

    def children(self, word: str) -> list[int]:
        """Process ids of the worker's own children whose command line holds a word."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if word in command_line(pid)]


class RemoteSession:
    """Closes an engine's connections."""

    def __init__(self, engine: RemoteEngine) -> None:
        self.engine = engine

    def __enter__(self) -> RemoteEngine:
        return self.engine

    def __exit__(self, *_: object) -> None:
        self.engine.close()


def ready(engine: RemoteEngine) -> bool:
    from braing3n_core.errors import UnreachableError

    with contextlib.suppress(UnreachableError):
        return bool(engine.health()["ok"])
    return False


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def free_port() -> int:
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def descendants(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found += [int(folder.name), *descendants(int(folder.name))]
    return found


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    running = RunningWorker(tmp_path_factory.mktemp("spool")).start().wait_ready()
    yield running
    running.stop()


def secure_worker(spool: Path, *arguments: str, rehearsal: bool = True) -> RunningWorker:
    """A worker with TLS, not yet started, its certificate made as `worker init` makes it."""
    cert, key = make_certificate(spool, "127.0.0.1")
    running = RunningWorker(spool, "--tls-cert", str(cert), "--tls-key", str(key), *arguments, rehearsal=rehearsal)
    running.fingerprint = fingerprint_of(cert)
    return running


@pytest.fixture
def own_worker(tmp_path: Path) -> Iterator[RunningWorker]:
    """A worker of one test, which may treat it badly."""
    folder = tmp_path / "spool"
    folder.mkdir()
    running = RunningWorker(folder).start().wait_ready()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scan with a patient's name in its file name."""
    array = np.random.default_rng(0).normal(100, 20, (20, 21, 22))
    volume = Volume.from_array(array, np.diag([1.0, 1.5, 2.0, 1.0]), description="a scan")
    return volume.save(tmp_path_factory.mktemp("scan") / "Ångström_Anders_ses-2_T1w.nii.gz")


def steps(number: int, seed: int = 0, site: str | None = None) -> GenerateRequest:
    """A job of about ``number`` hundredths of a second. site: the trouble it makes."""
    return GenerateRequest(Conditions(site=site), seed=seed, num_steps=number)


def submit(worker: RunningWorker, seed: int, number: int = 10) -> Errand:
    """Send a job without waiting for it."""
    errand = Errand(worker.engine()._wire, request_to_dict(steps(number, seed)), "auto", Cancel())
    assert errand._submit({})
    return errand


def state(errand: Errand) -> str:
    """Where a job is."""
    return str(json.loads(errand.wire.call("GET", f"{API}/jobs/{errand.id}").content)["state"])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def audit_lines(worker: RunningWorker) -> list[dict[str, str]]:
    return [json.loads(line) for line in (worker.spool / "audit.jsonl").read_text().splitlines()]
