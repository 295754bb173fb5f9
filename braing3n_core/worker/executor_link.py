"""The worker's end of the executor: starting it, talking to it, ending it for good."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import IO, Any

from ..protocol import TOKEN_VARIABLE
from .checks import parser_environment
from .settings import Settings


class ExecutorLink:
    """One executor process. events: what it says, and ``{"event": "gone"}`` when it has ended.

    gpu: the device it sees, as in CUDA_VISIBLE_DEVICES; None: all.
    """

    def __init__(self, settings: Settings, gpu: str | None = None) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._gone = False
        command = [
            sys.executable, "-m", "braing3n_core.worker.executor", settings.checkpoint, settings.device,
            str(settings.limits.forget_seconds), *(["--rehearsal"] if settings.rehearsal else []),
        ]  # fmt: skip
        given = ("OMP_", "OPENBLAS_", "BRAING3N_")
        own = {k: v for k, v in os.environ.items() if k.startswith(given) and k != TOKEN_VARIABLE}
        environment = {k: v for k, v in parser_environment().items() if not k.startswith(given)} | own
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
            start_new_session=os.name != "nt",
        )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process runs and can be heard: one that was killed closes its output before it has ended."""
        return not self._gone and self._process.poll() is None

    def say(self, **message: Any) -> bool:
        """Send one message; False when nobody is there to hear it."""
        stream = self._process.stdin
        if stream is None:
            return False
        try:
            stream.write(json.dumps(message) + "\n")
            stream.flush()
        except (OSError, ValueError):
            return False
        return True

    def kill(self) -> None:
        """End the process and all its children, now."""
        try:
            if os.name == "nt":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _listen(self, stream: IO[str]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in stream:
                with contextlib.suppress(ValueError):
                    self.events.put(json.loads(line))
        self._gone = True  # before it is told, so that no more jobs go to a process that is ending
        self.events.put({"event": "gone"})
