"""The process that has the device: ``python -m braing3n_core.worker.executor CHECKPOINT DEVICE [--rehearsal]``.

One warm engine on the main thread does one job at a time. Lines of JSON come on standard input, ``{"run": ...}`` and
``{"cancel": id}``, and go on what was standard output: ``ready``, ``progress``, ``done``, ``failed``, ``alive``.
Anything a library prints goes to standard error. When the input closes, the worker has died, and so does this.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from ..errors import BrainG3NError, Cancelled, ProcessError
from ..progress import Cancel
from ..protocol import map_text
from ..schema import Result, request_from_dict
from .privacy import without_folders

ALIVE_SECONDS = 1.0
PROGRESS_SECONDS = 0.05


class Wire:
    """One line of JSON at a time, from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def say(self, **message: Any) -> None:
        """Send one message."""
        with self._lock:
            self._stream.write(json.dumps(message) + "\n")
            self._stream.flush()


class Executor:
    """Runs jobs one after the other. engine: an Engine or a Rehearsal."""

    def __init__(self, engine: Any, wire: Wire, forget_seconds: float) -> None:
        self.engine, self.wire, self.forget_seconds = engine, wire, forget_seconds
        self._orders: queue.Queue[dict[str, Any]] = queue.Queue()
        self._job, self._cancel, self._lock = "", Cancel(), threading.Lock()
        self._home = os.getcwd()

    def listen(self, stream: TextIO) -> None:
        """Take orders until the worker is gone (runs on its own thread)."""
        for line in stream:
            order = json.loads(line)
            if "cancel" in order:
                with self._lock:
                    if order["cancel"] == self._job:
                        self._cancel.cancel()
            else:
                with self._lock:  # here and not at its start, so that a cancel that follows at once is heard
                    self._job, self._cancel = order["run"], Cancel()
                self._orders.put(order)
        os._exit(0)

    def work(self) -> None:
        """Do orders for ever (the main thread)."""
        while True:
            self._prepare_next()
            try:
                order = self._orders.get(timeout=self.forget_seconds)
            except queue.Empty:
                self._forget()
                continue
            self._do(order)

    def _prepare_next(self) -> None:
        """Use the time until the next order for what it would wait for: templates, networks, the last scan's tokens."""
        ahead = getattr(self.engine, "ahead", None)
        for piece in ahead() if ahead is not None else ():
            if not self._orders.empty():
                return
            with suppress(Exception):  # what is wrong is said to the job that needs it
                piece()

    def _do(self, order: dict[str, Any]) -> None:
        job, said = order["run"], 0.0

        def progress(fraction: float, message: str) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said >= PROGRESS_SECONDS:
                said = now
                self.wire.say(event="progress", job=job, fraction=fraction, message=without_folders(message))

        try:
            os.chdir(order["folder"])  # paths of a job are relative, so that no folder of the worker is in a result
            self.engine.output_format = order["format"]
            request = request_from_dict(order["request"])
            result = self.engine.run(request, "out", progress=progress, cancel=self._cancel)
            self.wire.say(event="done", job=job, **_published(result))
        except Cancelled:
            self.wire.say(event="cancelled", job=job)
        except BrainG3NError as error:
            self.wire.say(event="failed", job=job, error=map_text(error.to_dict(), without_folders))
        except Exception as error:  # noqa: BLE001 - a job's failure is an answer, whatever it was
            self._fail(job, error)
        finally:
            os.chdir(self._home)  # the job's folder will be erased

    def _fail(self, job: str, error: Exception) -> None:
        """A bug or a lack of memory. A broken CUDA context stays broken: then the process must go."""
        name = type(error).__name__
        sys.stderr.write(f"job failed: {name}\n")
        if "CUDA" in str(error) and "out of memory" not in str(error):
            os._exit(70)
        self._forget()
        memory = isinstance(error, MemoryError) or "OutOfMemory" in name
        code = "job.memory" if memory else "job.failed"
        text = "The job needs more memory than the worker has." if memory else f"The engine failed with a {name}."
        hint = "Ask for fewer samples, or try again later." if memory else "Tell the worker's operator the job's id."
        self.wire.say(event="failed", job=job, error=ProcessError(code, text, hint).to_dict())

    def _forget(self) -> None:
        """Let go of the last scan."""
        forget = getattr(self.engine, "forget_scan", None)
        if forget is not None:
            forget()


def _published(result: Result) -> dict[str, Any]:
    """The result and its files, with every folder of this machine taken out, all of it on the disk."""
    artifacts = []
    for path in sorted(Path("out").iterdir()):
        if path.suffix == ".json":
            data = map_text(json.loads(path.read_text(encoding="utf-8")), without_folders)
            path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with open(path, "rb+") as handle:
            sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
            os.fsync(handle.fileno())
        artifacts.append({"name": path.name, "sha256": sha256, "size": path.stat().st_size})
    data = map_text(json.loads(json.dumps(result.to_dict(), default=str)), without_folders)
    for output in data["outputs"]:
        output["path"] = output["path"].replace("\\", "/")
    return {"result": data, "artifacts": artifacts}


def _die_with_parent() -> None:
    """Linux ends this process when the worker is killed, even in the middle of a computation."""
    with suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)


def main(arguments: list[str]) -> int:
    """Load the engine, say what it can do, then work. arguments: checkpoint, device, seconds, maybe --rehearsal."""
    _die_with_parent()
    wire = Wire(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    checkpoint, device, forget_seconds = arguments[:3]
    try:
        engine = _engine(checkpoint, device, "--rehearsal" in arguments)
        wire.say(event="ready", capabilities=map_text(_plain(engine.capabilities()), without_folders))
    except BrainG3NError as error:
        wire.say(event="unfit", error=map_text(error.to_dict(), without_folders))
        return 1
    executor = Executor(engine, wire, float(forget_seconds))
    threading.Thread(target=executor.listen, args=(sys.stdin,), daemon=True).start()
    threading.Thread(target=_live, args=(wire,), daemon=True).start()
    executor.work()
    return 0


def _engine(checkpoint: str, device: str, rehearsal: bool) -> Any:
    if rehearsal:
        from .rehearsal import Rehearsal

        return Rehearsal()
    from ..engine import Engine

    return Engine(checkpoint, device)


def _plain(data: Any) -> Any:
    return json.loads(json.dumps(data, default=str))


def _live(wire: Wire) -> None:
    while True:
        time.sleep(ALIVE_SECONDS)
        with suppress(OSError):
            wire.say(event="alive")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
