"""From stored numbers to finite float32 intensities, and back to stored numbers without loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import VolumeError

STORED: dict[str, str] = {"uint8": "u1", "int16": "<i2", "float32": "<f4"}
"""The data types that are written."""


@dataclass(frozen=True)
class Decoded:
    """What a file holds: raw (X,Y,Z) as stored, affine voxel to world RAS+ mm; intensity = raw * slope + intercept."""

    raw: np.ndarray
    affine: np.ndarray
    slope: float
    intercept: float
    description: str


def to_float32(decoded: Decoded) -> np.ndarray:
    """Intensities (X,Y,Z) float32 in Fortran order. Codes ``volume.not_finite``, ``volume.range``."""
    raw = decoded.raw
    if raw.dtype == np.dtype("f4"):
        array = raw
    else:
        array = np.empty(raw.shape, dtype=np.float32, order="F")
        with np.errstate(over="ignore", invalid="ignore"):
            for k in range(raw.shape[2]):  # by slices: a float64 copy of all would double the memory
                array[:, :, k] = raw[:, :, k].astype(np.float64) * decoded.slope + decoded.intercept
    if not np.isfinite(array).all() and np.isfinite(raw).all():
        raise _out_of_range("float32")
    check_finite(array)
    if raw.dtype.kind == "u" and raw.dtype.itemsize == 8 and int(raw.max()) >= 2**63:
        raise _out_of_range("any scanner; were signed numbers stored?")
    return array


def check_finite(array: np.ndarray) -> None:
    """Refuse NaN and infinite voxels. Code ``volume.not_finite``."""
    finite = np.isfinite(array)
    if finite.all():
        return
    bad = np.argwhere(~finite)
    raise VolumeError(
        "volume.not_finite", f"{len(bad)} of {array.size} voxels are NaN or infinite, the first at {bad[0].tolist()}.",
        "Replace them (0 for background), or export the scan again.",
    )


def check_not_constant(array: np.ndarray) -> None:
    """Refuse an image without content. Code ``volume.constant``."""
    if array.min() == array.max():
        raise VolumeError(
            "volume.constant", f"All voxels have the same value {float(array.flat[0]):g}.",
            "This is no scan; check that the export finished and that the right file was chosen.",
        )


def stored_dtype(name: str) -> np.dtype:
    """The little-endian dtype of a name in :data:`STORED`. Code ``volume.dtype``."""
    if name not in STORED:
        raise VolumeError("volume.dtype", f"Cannot store voxels as {name!r}.", f"Choose one of: {', '.join(STORED)}.")
    return np.dtype(STORED[name])


def check_lossless(array: np.ndarray, dtype: np.dtype) -> None:
    """Refuse an integer type that would change a voxel. Code ``volume.lossy_cast``."""
    if dtype.kind == "f":
        return
    limits = np.iinfo(dtype)
    low, high = float(array.min()), float(array.max())
    if low < limits.min or high > limits.max or not np.array_equal(array, np.rint(array)):
        raise VolumeError(
            "volume.lossy_cast", f"Voxels of {low:g} to {high:g} do not all fit {dtype.name} without loss.",
            "Store them as float32, or round and clip them first on purpose.",
        )


def _out_of_range(what: str) -> VolumeError:
    return VolumeError("volume.range", f"Voxel values exceed the range of {what}.", "Rescale the scan.")
