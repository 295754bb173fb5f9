"""The process that reads an uploaded file first: ``python -m braing3n_core.worker.parser FILE BYTES SECONDS``.

It sets itself limits of memory and time, reads the volume strictly and says on standard output ``{"error": null}`` or
``{"error": {code, message, hint, type}}``. Whatever a file does to it, the worker goes on.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress


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
    from ..errors import BrainG3NError, VolumeError
    from ..volume import Volume

    try:
        Volume.load(path, allow_constant="mask" in path)
    except BrainG3NError as error:
        return error.to_dict()
    except MemoryError:
        return VolumeError("volume.memory", f"{path}: the voxels need more memory than the worker allows a file.",
                           "Crop or resample the scan.").to_dict()  # fmt: skip
    return None


def main(arguments: list[str]) -> int:
    """Judge one file. arguments: path relative to the working directory, bytes, seconds."""
    path, address_space_bytes, cpu_seconds = arguments
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # each thread of a pool takes address space
    limit(int(address_space_bytes), int(cpu_seconds))
    sys.stdout.write(json.dumps({"error": judge(path)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
