"""The first affine comes close to the truth, across contrasts too, and is never worse than where it started."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.preprocess.prealign import prealign
from braing3n_core.preprocess.spatial import align_centres, isotropic_grid, to_grid
from braing3n_core.volume import Volume
from Testing.core.preprocess.test_spatial import KNOWN, error_mm


@pytest.fixture(scope="module")
def fixed(brain: Volume) -> Volume:
    shape, affine = isotropic_grid(brain, 3.0, pad_mm=15.0)
    return to_grid(brain, KNOWN, shape, affine)


def other_contrast(brain: Volume) -> Volume:
    """Dark where the brain was bright and the other way round."""
    return brain.with_array(np.where(brain.array > 0, 120.0 - brain.array, 0.0))


@pytest.mark.parametrize(("change", "limit_mm"), [(lambda b: b, 0.6), (other_contrast, 2.0)])
def test_a_tilt_is_found_from_the_centres(change, limit_mm: float, brain: Volume, fixed: Volume) -> None:
    moving = change(brain)
    start = align_centres(moving, fixed)
    assert error_mm(start, KNOWN, brain).mean() > 5
    assert error_mm(prealign(moving, fixed, start), KNOWN, brain).mean() < limit_mm


def test_the_same_bits_come_out_twice(brain: Volume, fixed: Volume) -> None:
    start = align_centres(brain, fixed)
    np.testing.assert_array_equal(prealign(brain, fixed, start), prealign(brain, fixed, start))


def test_a_brain_in_its_place_stays_there(fixed: Volume) -> None:
    assert error_mm(prealign(fixed, fixed, np.eye(4)), np.eye(4), fixed).max() < 0.05
