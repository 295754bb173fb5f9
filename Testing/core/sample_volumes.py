"""Small arrays and affines of every orientation, for the tests of volumes."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from braing3n_core.errors import VolumeError

SHAPE = (9, 10, 11)
SIGNED_AXES = [(p, s) for p in permutations(range(3)) for s in product((1, -1), repeat=3)]


def rotation(seed: int, angle: float = 0.3) -> np.ndarray:
    axis = np.random.default_rng(seed).normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def affine_of(axes: tuple = ((0, 1, 2), (1, 1, 1)), seed: int = 0, angle: float = 0.3) -> np.ndarray:
    order, signs = axes
    affine = np.eye(4)
    affine[:3, :3] = rotation(seed, angle) @ np.eye(3)[:, order] @ np.diag(signs) * (0.9, 1.1, 2.5)
    affine[:3, 3] = (-12.5, 30.25, -7.125)
    return affine


def voxels(seed: int = 0, dtype: str = "f4", shape: tuple = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = 0 if np.dtype(dtype).kind == "u" else -100
    values = rng.integers(low, 120, shape) if np.dtype(dtype).kind in "iu" else rng.normal(size=shape)
    return values.astype(dtype)


def refused(code: str):
    return pytest.raises(VolumeError, check=lambda error: error.code == code and bool(error.hint))
