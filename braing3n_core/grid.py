"""Where voxels lie: checks and readings of an affine (voxel indices to world RAS+ mm)."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from .errors import VolumeError

MIN_SPACING_MM, MAX_SPACING_MM = 0.05, 25.0
MIN_AXIS, MAX_AXIS, MAX_VOXELS = 8, 1024, 2**28
MAX_WORLD_MM = 5000.0
"""No scanner places a voxel five metres from its origin."""
MIN_SKEW = 0.1
"""Least singular value of the unit axes; 1 is orthogonal, a gantry tilt of 30 degrees gives 0.7."""


def spacing_mm(affine: np.ndarray) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxels along X, Y, Z."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def orientation(affine: np.ndarray) -> str:
    """Three letters such as ``RAS``: the direction of the body in which each voxel axis grows."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best = max(permutations(range(3)), key=lambda world: sum(abs(axes[w, v]) for v, w in enumerate(world)))
    letters = ("LR", "PA", "IS")
    return "".join(letters[w][int(axes[w, v] > 0)] for v, w in enumerate(best))


def corners_mm(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """World coordinates (8, 3) of the centres of the corner voxels."""
    corners = np.array(list(product(*((0, n - 1) for n in shape))), dtype=np.float64)
    world: np.ndarray = corners @ affine[:3, :3].T + affine[:3, 3]
    return world


def shift_mm(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far apart, in mm, two affines put the same voxel of a grid, at worst."""
    return float(np.linalg.norm(corners_mm(first, shape) - corners_mm(second, shape), axis=1).max())


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse a grid that is not 3D, tiny, or absurdly large. Codes ``volume.dimensions``, ``volume.too_large``."""
    text = " x ".join(str(n) for n in shape)
    if len(shape) != 3 or min(shape) < MIN_AXIS:
        raise VolumeError(
            "volume.dimensions", f"Expected one 3D volume of at least {MIN_AXIS} voxels along each axis, got {text}.",
            "Give a single 3D scan; extract one volume of a series first.",
        )
    if max(shape) > MAX_AXIS or int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise VolumeError(
            "volume.too_large", f"The grid of {text} voxels exceeds {MAX_AXIS} per axis or {MAX_VOXELS} in all.",
            "Crop or resample the scan; if it is a normal scan, its header is damaged.",
        )


def check_spacing(spacing: tuple[float, ...]) -> None:
    """Refuse spacing in mm that is zero, negative, not finite or impossible for a head. Code ``volume.spacing``."""
    if not all(MIN_SPACING_MM <= s <= MAX_SPACING_MM for s in spacing):
        text = " x ".join(f"{s:.4g}" for s in spacing)
        raise VolumeError(
            "volume.spacing", f"The voxel spacing must be {MIN_SPACING_MM} to {MAX_SPACING_MM} mm, got {text} mm.",
            "Correct the spacing in the header, or export the scan again from its DICOM files.",
        )


def check_affine(affine: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse an affine that does not place the grid in the world. Codes ``volume.affine``, ``volume.spacing``."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise _bad_affine("is not a finite 4 x 4 matrix with the last row 0 0 0 1")
    check_spacing(spacing_mm(affine))
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.linalg.svd(axes, compute_uv=False)[-1] < MIN_SKEW:
        raise _bad_affine("is singular: two voxel axes point the same way")
    if np.abs(corners_mm(affine, shape)).max() > MAX_WORLD_MM:
        raise _bad_affine(f"places voxels more than {MAX_WORLD_MM / 1000:.0f} m from the scanner's origin")


def _bad_affine(reason: str) -> VolumeError:
    return VolumeError(
        "volume.affine", f"The affine (voxel to world) {reason}.",
        "Correct the orientation in the header, or export the scan again from its DICOM files.",
    )
