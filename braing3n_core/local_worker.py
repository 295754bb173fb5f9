"""A worker of one's own on this machine: started as a child on a free port with a random token, and stopped again.

Needs the standard library, ``requests`` and numpy here; ``python`` is an interpreter with the full installation.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from .errors import ProcessError
from .protocol import TOKEN_VARIABLE
from .remote import RemoteEngine

START_SECONDS = 120.0
"""How long a worker may take to listen; Python's first start on a slow disk is slow."""
STOP_SECONDS = 8.0
_LOG_LINES = 40


class LocalWorker:
    """``with LocalWorker() as engine: engine.run(...)``.

    python: interpreter that has braing3n with its models and the worker. checkpoint: folder, or None for the embedded
    default. device: ``auto``, ``cpu`` or ``cuda``. environment: of the child, None for this process's (see
    :class:`~braing3n_core.client.ProcessEngine`). arguments: more flags of ``braing3n worker``.

    The worker ends when this process ends, however that happens, and takes its files with it.
    """

    def __init__(
        self,
        python: str | Path = sys.executable,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        *,
        environment: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.python, self.checkpoint, self.device = str(python), checkpoint, device
        self.environment, self.arguments = environment, arguments
        self.url = ""
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self._process: subprocess.Popen[str] | None = None
        self._engine: RemoteEngine | None = None

    def __enter__(self) -> RemoteEngine:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the child lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid if self._process is not None else None

    def start(self) -> RemoteEngine:
        """Start the child and wait until it listens; the engine loads meanwhile. Raises ProcessError."""
        if self.running and self._engine is not None:
            return self._engine
        token = secrets.token_urlsafe(32)
        self._process = self._spawn(token)
        said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(self._process.stdout, said.put), daemon=True).start()
        threading.Thread(target=_read, args=(self._process.stderr, self.log.append), daemon=True).start()
        try:
            self.url = self._announced(said)
        except BaseException:
            self.stop()
            raise
        self._engine = RemoteEngine(self.url, token)
        return self._engine

    def stop(self) -> None:
        """End the child, its executor and its files. Does nothing when it is not running."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()  # the child ends when its input does
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _kill(process)
        process.wait()

    def _spawn(self, token: str) -> subprocess.Popen[str]:
        command = [
            self.python, "-m", "braing3n_core.worker", "--child", "--port", "0", "--device", self.device,
            *(["--checkpoint", str(self.checkpoint)] if self.checkpoint is not None else []), *self.arguments,
        ]  # fmt: skip
        environment = dict(os.environ if self.environment is None else self.environment)
        if self.python != sys.executable:
            for name in ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE"):  # they describe the caller's interpreter
                environment.pop(name, None)
        environment |= {TOKEN_VARIABLE: token, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
        try:
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                encoding="utf-8", errors="replace", start_new_session=os.name != "nt", creationflags=flags,
            )  # fmt: skip
        except OSError as error:
            raise ProcessError("process.interpreter", f"Cannot start {self.python}: {error.strerror}.",
                               "Give the path of a Python that has braing3n installed.") from error  # fmt: skip

    def _announced(self, said: queue.Queue[str]) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            alive = self.running
            with contextlib.suppress(queue.Empty, ValueError, KeyError, TypeError):
                return str(json.loads(said.get(timeout=0.1))["url"])
            if not alive:
                raise self._silence()
        raise ProcessError("process.slow", f"The worker did not listen within {START_SECONDS:g} s.", "Try again.")

    def _silence(self) -> ProcessError:
        time.sleep(0.2)  # for its last words
        log = "\n".join(self.log)
        if ("No module named" in log and "braing3n_core" in log) or "braing3n[worker]" in log:
            return ProcessError("process.not_installed", f"{self.python} has no braing3n worker.",
                                "Install it there: pip install 'braing3n[torch,preprocess,worker]'.")  # fmt: skip
        code = self._process.poll() if self._process is not None else None
        why = f"The worker ended with exit code {code}.\n{log}"
        return ProcessError("process.died", why, "Its last words are above.")


def _read(stream: IO[str] | None, take: Callable[[str], object]) -> None:
    if stream is None:
        return
    with contextlib.suppress(ValueError, OSError), stream:
        for line in stream:
            take(line.rstrip())


def _kill(process: subprocess.Popen[str]) -> None:
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
