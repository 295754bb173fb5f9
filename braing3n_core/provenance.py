"""Where a result comes from: software, input, checkpoint, device, seed, time. Written beside every result."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from . import __version__

PACKAGES: tuple[str, ...] = ("numpy", "scipy", "torch", "nibabel", "SimpleITK", "antspyx", "nilearn", "safetensors")


def file_sha256(path: str | Path) -> str:
    """The sha256 of a file; of a folder (a DICOM series), that of the names and sha256 of its files."""
    if Path(path).is_dir():
        listed = [f"{one.name} {file_sha256(one)}\n" for one in sorted(Path(path).iterdir()) if one.is_file()]
        return hashlib.sha256("".join(listed).encode()).hexdigest()
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def software() -> dict[str, Any]:
    """The version of BrainG3N, of Python and of the packages that touch voxels."""
    return {
        "name": "BrainG3N", "version": __version__, "python": platform.python_version(),
        "platform": platform.platform(), "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@dataclass
class Timings:
    """Seconds of each named step of a run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the block to ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in self.seconds.items()}
