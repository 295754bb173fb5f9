"""The weights of MindGrab: where they lie, how they are fetched once and checked."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_file
from ..errors import DependencyError, PreprocessError
from .template import cache_dir

WEIGHTS_VARIABLE = "BRAING3N_MINDGRAB_WEIGHTS"
OFFLINE_VARIABLE = "BRAING3N_OFFLINE"
URL = (
    "https://raw.githubusercontent.com/neuroneural/brainchop/7b3e6efc02b6b92df50b7a5b44000b8d14b46e7c"
    "/public/models/mindgrab/model.bin"
)
"""The brainchop project's own file (MIT), 584,948 bytes: little-endian float32, kernels as (3,3,3,in,out), in order."""
SHA256 = "c9a01490fe2d13acc1515fd019b69db176ebe6f40c9b84aeb77f25acbc2ee0f3"
CHANNELS = 15
_SECONDS = 30.0


def shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, in the order of the published file; 146,237 numbers."""
    named: dict[str, tuple[int, ...]] = {
        f"model.{i}.0.weight": (CHANNELS, 1 if i == 0 else CHANNELS, 3, 3, 3) for i in range(25)
    }
    return {**named, "model.25.weight": (2, CHANNELS, 1, 1, 1), "model.25.bias": (2,)}


def cached_weights() -> Path:
    """Where the downloaded weights are kept."""
    return cache_dir() / "mindgrab.safetensors"


def where_to_find(given: str | Path | None) -> tuple[bool, str]:
    """Whether the weights are on this machine, and where or why not; nothing is fetched."""
    path = given or os.environ.get(WEIGHTS_VARIABLE)
    if path:
        found = Path(path).is_file()
        return found, f"weights at {path}" if found else f"there is no weights file at {path}"
    if cached_weights().is_file():
        return True, f"weights in the cache, {cached_weights()}"
    return False, (
        f"no weights in {cached_weights()} (set {WEIGHTS_VARIABLE}, or ask for mindgrab by name to fetch 0.6 MB once)"
    )


def find_weights(given: str | Path | None) -> Path:
    """The weights file; fetches it into the cache when no other was named. Raises DependencyError."""
    named = given or os.environ.get(WEIGHTS_VARIABLE)
    if named and not Path(named).is_file():
        raise DependencyError(
            "brain.mindgrab", f"MindGrab cannot run: there is no weights file at {named}.",
            f"Set {WEIGHTS_VARIABLE} to mindgrab.safetensors.",
        )
    if not named and not cached_weights().is_file():
        _download()
    return Path(named or cached_weights())


def load_weights(path: Path) -> dict[str, Any]:
    """The tensors by name, shapes checked. Raises PreprocessError for another or a damaged file."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise DependencyError("dependency.safetensors", f"{error}.", "pip install torch safetensors") from error
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise PreprocessError(
            "brain.mindgrab_weights", f"{path} is no readable safetensors file: {error}.",
            "Delete it; it is fetched again.",
        ) from error
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != shapes():
        raise PreprocessError(
            "brain.mindgrab_weights", f"{path} does not hold MindGrab's {len(shapes())} tensors.",
            "Give the right file.",
        )
    return tensors


def _download() -> None:
    """Fetch the published file, check its sha256, and keep it as safetensors in the cache. Raises DependencyError."""
    hint = f"Set {WEIGHTS_VARIABLE} to a file that you have, or connect once."
    if os.environ.get(OFFLINE_VARIABLE):
        message = f"MindGrab has no weights in {cached_weights()}, and {OFFLINE_VARIABLE} forbids fetching {URL}."
        raise DependencyError("brain.mindgrab", message, hint)
    try:
        with urllib.request.urlopen(URL, timeout=_SECONDS) as answer:
            data = answer.read(2_000_000)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        message = f"MindGrab's weights could not be fetched from {URL} into {cached_weights()} ({error})."
        raise DependencyError("brain.mindgrab", message, hint) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise DependencyError("brain.mindgrab", f"The fetched weights have sha256 {digest}, not {SHA256}.", hint)
    from safetensors.numpy import save

    cached_weights().parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(cached_weights()) as handle:
        handle.write(save(from_published(data)))


def from_published(data: bytes) -> dict[str, np.ndarray]:
    """The published bytes as named tensors with kernels (out,in,3,3,3)."""
    numbers, start = np.frombuffer(data, dtype="<f4"), 0
    tensors = {}
    for name, shape in shapes().items():
        size = int(np.prod(shape))
        piece = numbers[start : start + size]
        start += size
        if len(shape) == 5:
            piece = piece.reshape(*shape[2:], shape[1], shape[0]).transpose(4, 3, 0, 1, 2)
        tensors[name] = np.ascontiguousarray(piece, dtype=np.float32)
    return tensors
