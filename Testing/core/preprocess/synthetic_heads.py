"""Small made-up heads whose truth is known."""

from __future__ import annotations

import numpy as np

from braing3n_core.atlas import ATLAS_AFFINE, ATLAS_SHAPE
from braing3n_core.volume import Volume


def ellipsoid(
    shape: tuple[int, int, int], affine: np.ndarray, centre: np.ndarray, radii: tuple[float, float, float]
) -> np.ndarray:
    """Bool (X,Y,Z): inside the ellipsoid given in world mm; the affine is diagonal."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    parts = [((affine[a, a] * axes[a] + affine[a, 3] - centre[a]) / radii[a]) ** 2 for a in range(3)]
    return np.asarray(parts[0] + parts[1] + parts[2] <= 1.0)


def brain(shape: tuple[int, int, int] = (60, 72, 60), spacing: float = 3.0) -> Volume:
    """A stripped, lopsided brain-like body with inner structure, centred at the world's origin; zero outside."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    array = np.zeros(shape, dtype=np.float32)
    array[ellipsoid(shape, affine, np.array([0, 0, 0]), (65, 82, 62))] = 60.0
    array[ellipsoid(shape, affine, np.array([0, 4, 2]), (52, 68, 50))] = 100.0
    array[ellipsoid(shape, affine, np.array([9, 10, 6]), (9, 26, 10))] = 15.0
    array[ellipsoid(shape, affine, np.array([-11, 8, 6]), (7, 22, 13))] = 15.0
    array[ellipsoid(shape, affine, np.array([30, -40, -20]), (12, 9, 16))] = 40.0
    return Volume.from_array(array, affine, modality="T1", name="ball")


def head() -> tuple[Volume, np.ndarray]:
    """A whole head at 2 mm with scalp, dark skull and neck; and its true brain, bool (X,Y,Z)."""
    shape, affine = (100, 120, 110), np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-99, -119, -130)
    rng = np.random.default_rng(3)
    array = rng.normal(6, 3, shape).clip(0)
    array[ellipsoid(shape, affine, np.array([0, 5, -90]), (55, 60, 90))] = 70.0
    array[ellipsoid(shape, affine, np.array([0, 0, 0]), (81, 99, 84))] = 180.0
    array[ellipsoid(shape, affine, np.array([0, 0, 0]), (75, 93, 78))] = 8.0
    inside = ellipsoid(shape, affine, np.array([0, 0, 0]), (67, 84, 69))
    array[inside] = 100.0
    array[ellipsoid(shape, affine, np.array([0, 4, 4]), (14, 28, 10))] = 20.0
    return Volume.from_array(array + rng.normal(0, 2, shape).clip(0), affine, modality="T1"), inside


def atlas_brain() -> Volume:
    """A stripped body on the SRI24 grid, about where the atlas has its brain."""
    centre = ATLAS_AFFINE[:3, :3] @ np.array([120.0, 118, 78]) + ATLAS_AFFINE[:3, 3]
    inside = ellipsoid(ATLAS_SHAPE, ATLAS_AFFINE, centre, (66, 84, 62))
    return Volume.from_array(inside * np.float32(50), ATLAS_AFFINE, modality="T1")
