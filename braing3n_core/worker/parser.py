"""The process that reads an uploaded file first: ``python -m braing3n_core.worker.parser BYTES SECONDS``.

It answers lines of JSON, ``{"folder", "name"}``, one at a time, with ``{"error": null}`` or
``{"error": {code, message, hint, type}}``. Each file is read in a fork of its own, with limits of memory and time that
cannot be lifted, so that nothing in a file reaches the next one. It is warm: a small file takes milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any

from ..errors import BrainG3NError, VolumeError
from ..volume import Volume

_AGAIN = "Export the scan again, or convert it."


def limit(address_space_bytes: int, cpu_seconds: int) -> None:
    """Bound this process for good. Windows has no such limits; there the caller's clock is the only one."""
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def judge(path: str) -> dict[str, str] | None:
    """Why a file is refused, or None. A mask may be of one value."""
    try:
        Volume.load(path, allow_constant="mask" in path)
    except BrainG3NError as error:
        return error.to_dict()
    except MemoryError:
        message = f"{path}: the voxels need more memory than the worker allows a file."
        return VolumeError("volume.memory", message, "Crop or resample the scan.").to_dict()
    return None


def judge_apart(folder: str, name: str, limits: tuple[int, int]) -> dict[str, Any]:
    """The verdict of a fork of this process: ``{"error": ...}``, or ``{"died": signal}`` when somebody killed it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            limit(*limits)
            os.chdir(folder)
            os.write(writing, json.dumps({"error": judge(name)}).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return _verdict(name, said, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)


def _verdict(name: str, said: bytes, signal: int) -> dict[str, Any]:
    if signal == 9:
        return {"died": signal}
    with suppress(ValueError):
        answer = json.loads(said)
        if isinstance(answer, dict):
            return answer
    slow = signal == 24  # SIGXCPU
    why = "takes too long" if slow else "broke the process that read it"
    code = "volume.time" if slow else "volume.unreadable"
    return {"error": VolumeError(code, f"{name}: the file is refused: reading it {why}.", _AGAIN).to_dict()}


def main(arguments: list[str]) -> int:
    """Answer until the input closes. arguments: bytes of address space and seconds of processor time for each file."""
    limits = int(arguments[0]), int(arguments[1])
    for line in sys.stdin:
        order = json.loads(line)
        if hasattr(os, "fork"):
            answer = judge_apart(order["folder"], order["name"], limits)
        else:  # Windows: the caller ends this process after each file
            os.chdir(order["folder"])
            answer = {"error": judge(order["name"])}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
