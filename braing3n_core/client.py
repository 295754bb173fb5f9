"""The engine in a child process, for callers without torch (3D Slicer, scripts).

:class:`ProcessEngine` has the engine's interface and drives ``python -m braing3n_core`` of any interpreter that has the
full installation. The wire, one process a call:

- ``run REQUEST.json -o DIR --json`` and ``capabilities --json``;
- standard error: progress as JSON lines ``{"progress": fraction, "message": text}``; any other line is a log;
- standard output: one JSON object, the result (``Result.to_dict``) or ``{"error": {code, message, hint, type}}``.

A crash of the child costs the call and not the caller. Needs the standard library only.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .child import Child
from .errors import Cancelled, ProcessError, RequestError, error_from_dict
from .progress import Cancel, Progress, silent
from .schema import AnyRequest, Result, request_to_dict, result_from_dict

POLL_SECONDS = 0.1
"""How often a waiting call looks at its cancel flag."""


class ProcessEngine:
    """The engine of another interpreter.

    python: interpreter that has braing3n with its models; the default is this one. checkpoint: folder, or None for the
    embedded default. device: ``auto``, ``cpu`` or ``cuda``. grace_seconds: what a cancelled child gets for tidying up
    before it is killed with all its children. environment: of the child, None for this process's; a host that has
    changed it for itself (3D Slicer) gives its start-up environment.

    Each call is its own process: calls from several threads do not share state.
    """

    def __init__(
        self,
        python: str | Path = sys.executable,
        *,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        grace_seconds: float = 5.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.python = str(python)
        self.checkpoint = checkpoint
        self.device = device
        self.grace_seconds = grace_seconds
        self.environment = environment

    def capabilities(self) -> dict[str, Any]:
        """See :class:`~braing3n_core.schema.EngineProtocol`. Raises ProcessError when the child does not answer."""
        return self._call(["capabilities"], silent, None)

    def run(
        self, request: AnyRequest, out_dir: str | Path, *, progress: Progress = silent, cancel: Cancel | None = None
    ) -> Result:
        """Do the request in the child; ``progress`` is called on this thread.

        Raises what the engine raised, with its type, code and hint; Cancelled; ProcessError when the child failed.
        """
        if cancel is not None:
            cancel.check()
        with _request_file(request) as path:
            answer = self._call(["run", str(path), "-o", str(out_dir)], progress, cancel)
        try:
            return result_from_dict(answer)
        except RequestError as error:
            raise ProcessError("process.protocol", f"The engine's answer is not a result: {error.message}",
                               "Install the same braing3n version on both sides.") from error  # fmt: skip

    def _call(self, verb: list[str], progress: Progress, cancel: Cancel | None) -> dict[str, Any]:
        child = Child(self._command(verb), self._environment())
        try:
            while child.running():
                self._relay(child, progress)
                if cancel is not None and cancel.cancelled:
                    raise Cancelled()
            self._relay(child, progress)
        finally:
            child.stop(self.grace_seconds)
        return _answer(child)

    def _command(self, verb: list[str]) -> list[str]:
        command = [self.python, "-m", "braing3n_core", *verb, "--json", "--device", self.device]
        return command if self.checkpoint is None else [*command, "--checkpoint", str(self.checkpoint)]

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ if self.environment is None else self.environment)
        if self.python != sys.executable:
            for name in ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE"):  # they describe the caller's interpreter
                environment.pop(name, None)
        return environment | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}

    @staticmethod
    def _relay(child: Child, progress: Progress) -> None:
        """Hand over what the child reported, waiting a moment for the first line."""
        try:
            line = child.reports.get(timeout=POLL_SECONDS)
            while True:
                progress(*line)
                line = child.reports.get_nowait()
        except queue.Empty:
            return


@contextmanager
def _request_file(request: AnyRequest) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="braing3n-") as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request_to_dict(request)), encoding="utf-8")
        yield path


def _answer(child: Child) -> dict[str, Any]:
    """The object on standard output. Raises the engine's own error, or ProcessError."""
    try:
        answer = json.loads(child.output)
    except json.JSONDecodeError as error:
        raise _silence(child) from error
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        raise error_from_dict(answer["error"])
    if child.exit_code != 0 or not isinstance(answer, dict):
        raise _silence(child)
    return answer


def _silence(child: Child) -> ProcessError:
    """Why there is no answer, as well as the exit code and the log tell it."""
    log = "\n".join(child.log)
    if "No module named braing3n_core" in log:
        return ProcessError(
            "process.not_installed", f"{child.command[0]} has no braing3n.",
            "Install it there: pip install 'braing3n[torch,preprocess]'.",
        )  # fmt: skip
    if child.exit_code < 0:
        reason = f"was killed by signal {-child.exit_code}"
        hint = "Signal 9 often means that the memory did not suffice." if child.exit_code == -9 else ""
    else:
        reason, hint = f"ended with exit code {child.exit_code} and no answer", "Its last words are above."
    return ProcessError("process.died", f"The engine's process {reason}." + (f"\n{log}" if log else ""), hint)
