"""Rendering keeps the patient's own voxels and draws only what was changed."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.errors import RequestError
from braing3n_core.generation.render import (
    difference,
    ensemble_statistics,
    full,
    intensity_change,
    residual,
    soft_mask,
)

RNG = np.random.default_rng(0)
VOLUME = RNG.uniform(0, 900, (12, 14, 10)).astype(np.float32)
MASK = np.zeros(VOLUME.shape, np.float32)
MASK[2:10, 2:12, 2:8] = 1


def test_a_null_edit_gives_back_every_voxel() -> None:
    decoded = RNG.normal(size=VOLUME.shape).astype(np.float32)
    change = intensity_change(decoded, decoded, std=250.0)
    assert np.array_equal(residual(VOLUME, change, MASK, bias_field=np.full_like(VOLUME, 1.3)), VOLUME)


def test_a_change_in_z_scores_becomes_one_in_intensities_inside_the_mask_only() -> None:
    change = intensity_change(np.full(VOLUME.shape, 0.5, np.float16), np.zeros(VOLUME.shape, np.float16), std=200.0)
    output = residual(VOLUME, change, MASK)
    np.testing.assert_allclose(output[MASK > 0], VOLUME[MASK > 0] + 100, rtol=1e-6)
    assert np.array_equal(output[MASK == 0], VOLUME[MASK == 0]) and output.dtype == np.float32


def test_the_change_is_multiplied_by_the_bias_field_that_was_divided_out() -> None:
    field = RNG.uniform(0.7, 1.4, VOLUME.shape).astype(np.float32)
    corrected, change = VOLUME / field, np.full(VOLUME.shape, 40, np.float32)
    output = residual(VOLUME, change, np.ones_like(VOLUME), field)
    np.testing.assert_allclose(output / field, corrected + 40, rtol=1e-4)


def test_no_voxel_is_driven_below_zero_and_negative_input_outside_the_edit_stays() -> None:
    volume = VOLUME.copy()
    volume[0, 0, 0], volume[5, 5, 5] = -7, -3
    output = residual(volume, np.full(volume.shape, -2000, np.float32), MASK)
    assert output[0, 0, 0] == -7 and output[5, 5, 5] == -3
    assert output[MASK > 0].min() == -3 and (output[4] >= 0).all()


def test_integer_scans_are_rendered_in_float() -> None:
    output = residual(VOLUME.astype(np.int16), np.full(VOLUME.shape, 0.5, np.float32), MASK)
    assert output.dtype == np.float32 and output[5, 5, 5] % 1 == 0.5


def test_the_soft_mask_rises_smoothly_from_the_edge_in_millimetres() -> None:
    mask = np.zeros((40, 40, 40), bool)
    mask[5:35, 5:35, 5:35] = True
    weights = soft_mask(mask, (1.0, 1.0, 1.0), falloff_mm=4.0)
    profile = weights[5:20, 20, 20]
    assert weights[~mask].max() == 0 and weights[20, 20, 20] == 1 and (np.diff(profile) >= 0).all()
    assert profile[0] < 0.1 and profile[5] == 1 and np.diff(profile).max() < 0.45
    coarse = soft_mask(mask, (2.0, 1.0, 1.0), falloff_mm=4.0)
    assert coarse[7, 20, 20] > weights[7, 20, 20] and np.isclose(coarse[20, 7, 20], weights[20, 7, 20])


def test_a_soft_mask_that_touches_the_border_of_the_grid_still_falls_off() -> None:
    weights = soft_mask(np.ones((20, 20, 20)), falloff_mm=4.0)
    assert weights[0].max() < 0.1 and weights[10, 10, 10] == 1
    assert soft_mask(np.zeros((4, 4, 4))).max() == 0


def test_full_rendering_inverts_the_z_score_inside_the_mask() -> None:
    z = (VOLUME - 400) / 250
    np.testing.assert_allclose(full(z, 400, 250), VOLUME, atol=1e-3)
    assert full(z, 400, 250, MASK)[0].max() == 0 and full(np.full((2, 2, 2), -9.0), 400, 250).min() == 0


def test_the_difference_map_is_output_minus_input() -> None:
    np.testing.assert_allclose(difference(VOLUME + 3, VOLUME), 3, atol=1e-3)


def test_ensemble_statistics_equal_those_of_the_stack() -> None:
    samples = RNG.normal(500, 20, (7, 5, 6, 4)).astype(np.float32)
    mean, spread = ensemble_statistics(iter(samples))
    np.testing.assert_allclose(mean, samples.mean(0), rtol=1e-5)
    np.testing.assert_allclose(spread, samples.std(0, ddof=1), rtol=1e-3)
    assert ensemble_statistics(samples[:1])[1].max() == 0
    with pytest.raises(RequestError, match="at least one"):
        ensemble_statistics([])


def test_arrays_of_different_grids_are_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"mask \(3, 3, 3\)"):
        residual(VOLUME, VOLUME, np.ones((3, 3, 3)))
