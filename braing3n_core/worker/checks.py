"""The worker's end of the parser: one warm process, a clock, and a new process whenever that one is gone."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from ..errors import VolumeError
from .settings import Limits


class ParserDied(Exception):
    """The parser was ended by somebody else: the file is not to blame, try again."""


class Checker:
    """Judges files, one at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()

    def judge(self, folder: Path, name: str) -> dict[str, str] | None:
        """Why the volume ``folder/name`` is refused, or None. Raises ParserDied."""
        process = self._running()
        try:
            stream = process.stdin
            if stream is None:
                raise ParserDied
            stream.write(json.dumps({"folder": str(folder), "name": name}) + "\n")
            stream.flush()
            line = self._answers.get(timeout=self._limits.parse_seconds)
        except (OSError, ValueError) as error:
            self.stop()
            raise ParserDied from error
        except queue.Empty:
            self.stop()
            told = f"{name}: the file is refused: reading it takes longer than {self._limits.parse_seconds:g} s."
            return VolumeError("volume.time", told, "Export the scan again, or convert it.").to_dict()
        answer = _parsed(line)
        if answer is None or "died" in answer or os.name == "nt":
            self.stop()
        if answer is None or "died" in answer:
            raise ParserDied
        error_dict = answer["error"]
        return error_dict if isinstance(error_dict, dict) else None

    def stop(self) -> None:
        """End the parser and its forks."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "nt":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._answers = queue.Queue()
            seconds = str(max(1, int(self._limits.parse_seconds)))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "braing3n_core.worker.parser", str(self._limits.parse_bytes), seconds],
                env=parser_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                encoding="utf-8", start_new_session=os.name != "nt",
            )  # fmt: skip
            threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True).start()
        return self._process


def parser_environment() -> dict[str, str]:
    """The worker's environment without its secrets, and with this package to be found."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("BRAING3N_")}
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return keep | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _listen(stream: IO[str], answers: queue.Queue[str | None]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            answers.put(line)
    answers.put(None)


def _parsed(line: str | None) -> dict[str, Any] | None:
    try:
        answer = json.loads(line or "")
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and ("error" in answer or "died" in answer) else None
