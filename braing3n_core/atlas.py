"""The SRI24 atlas grid and the model grid inside it (paper, section 2; conventions in docs/conventions.md).

World space is RAS+ in mm; affines map voxel indices to world.
"""

from __future__ import annotations

import numpy as np

ATLAS_SHAPE: tuple[int, int, int] = (240, 240, 155)
"""Voxels of the SRI24 grid, 1 mm, stored LPS."""

ATLAS_AFFINE: np.ndarray = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
"""Voxel to RAS+ world of the SRI24 grid."""
ATLAS_AFFINE.setflags(write=False)

MODEL_SHAPE: tuple[int, int, int] = (160, 192, 160)
"""The grid the encoder sees: centre crop/pad of the atlas grid."""

MNI_TO_ATLAS: np.ndarray = np.array(
    [
        [0.922127, -0.009655, -0.001393, -119.045],
        [-0.007442, 0.935719, -0.186784, 125.591],
        [-0.007155, 0.192806, 0.846908, 71.864],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""RAS+ world of MNI152 (ICBM 2009a symmetric) to RAS+ world of SRI24.

Estimated once by ANTs (affine, Mattes mutual information, 1 mm, both stripped); brain masks then overlap with
Dice .971.
"""
MNI_TO_ATLAS.setflags(write=False)


def to_model_grid(array: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Centre crop/pad an atlas-grid array (240,240,155) to the model grid (160,192,160)."""
    return _centre(array, MODEL_SHAPE, fill)


def to_atlas_grid(array: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """The inverse of :func:`to_model_grid`; voxels outside the model grid get ``fill``."""
    return _centre(array, ATLAS_SHAPE, fill)


def model_affine() -> np.ndarray:
    """Voxel to RAS+ world of the model grid."""
    offset = [(a - m) // 2 for a, m in zip(ATLAS_SHAPE, MODEL_SHAPE, strict=True)]
    affine = ATLAS_AFFINE.copy()
    affine[:3, 3] += ATLAS_AFFINE[:3, :3] @ np.array(offset, dtype=float)
    return affine


def _centre(array: np.ndarray, shape: tuple[int, int, int], fill: float) -> np.ndarray:
    out = np.full(shape, fill, dtype=array.dtype)
    src, dst = [], []
    for have, want, atlas, model in zip(array.shape, shape, ATLAS_SHAPE, MODEL_SHAPE, strict=True):
        offset = (atlas - model) // 2 if have == atlas else -((atlas - model) // 2)
        size = min(have - max(offset, 0), want - max(-offset, 0))
        src.append(slice(max(offset, 0), max(offset, 0) + size))
        dst.append(slice(max(-offset, 0), max(-offset, 0) + size))
    out[tuple(dst)] = array[tuple(src)]
    return out
