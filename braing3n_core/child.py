"""A child process with its own process group, whose output is read while it runs and which can be stopped for good."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from typing import IO

from .errors import ProcessError

LOG_LINES = 40
"""Lines of the child's log that an error message quotes."""
_WINDOWS = os.name == "nt"


class Child:
    """A running command. reports: queue of (fraction, message); log: last other lines of standard error;
    output: all of standard output, complete once :meth:`running` is False."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self.command = command
        self.reports: queue.Queue[tuple[float, str]] = queue.Queue()
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.output = ""
        self._process = _start(command, environment)
        self._readers = [
            threading.Thread(target=self._read_output, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_reports, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def exit_code(self) -> int:
        """The exit code; negative is the number of the signal that ended it. 0 while it runs."""
        return self._process.poll() or 0

    def running(self) -> bool:
        """Whether the child lives; once it does not, all it wrote is read."""
        if self._process.poll() is None:
            return True
        for reader in self._readers:
            reader.join(timeout=1.0)  # a grandchild may hold the pipe open
        return False

    def stop(self, grace_seconds: float) -> None:
        """Ask the child to end, wait, then kill whatever is left of its process group."""
        if self._process.poll() is None and not _WINDOWS:  # there, ending the parent first would lose its children
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_seconds)
        _kill_group(self._process)
        self._process.wait()

    def _read_output(self, stream: IO[str]) -> None:
        with stream:
            self.output = stream.read()

    def _read_reports(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                report = _report(line)
                if report is None:
                    self.log.append(line.rstrip())
                else:
                    self.reports.put(report)


def _start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        return subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace", start_new_session=not _WINDOWS, creationflags=flags,
        )  # fmt: skip
    except OSError as error:
        raise ProcessError(
            "process.interpreter", f"Cannot start {command[0]}: {error.strerror}.",
            "Give the path of a Python that has braing3n installed.",
        ) from error  # fmt: skip


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End the whole process group, the child's own children included."""
    if _WINDOWS:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group that is gone
        return


def _report(line: str) -> tuple[float, str] | None:
    """A progress line as (fraction, message), or None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        data = json.loads(line)
        return float(data["progress"]), str(data.get("message", ""))
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
