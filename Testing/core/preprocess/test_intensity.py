"""N4 removes a known bias; the z-score is exact and reversible."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.atlas import ATLAS_SHAPE, MODEL_SHAPE
from braing3n_core.errors import PreprocessError
from braing3n_core.preprocess.intensity import from_model, n4_bias_field, to_model
from braing3n_core.preprocess.masks import otsu_threshold


@pytest.fixture(scope="module")
def biased(brain):
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in brain.shape], indexing="ij")
    bias = np.exp(0.35 * axes[0] - 0.25 * axes[1] * axes[2] + 0.2 * axes[2] ** 2).astype(np.float32)
    noise = np.random.default_rng(0).normal(1, 0.02, brain.shape)
    return brain.with_array(brain.array * bias * noise), bias


def test_n4_finds_most_of_a_known_bias(brain, biased) -> None:
    volume, true = biased
    inside = brain.array > 0
    found = n4_bias_field(volume, inside).array
    left = np.log(true[inside] / found[inside])
    assert left.std() < 0.35 * np.log(true[inside]).std()


def test_the_field_keeps_the_scale_of_the_scan(brain, biased) -> None:
    field = n4_bias_field(biased[0], brain.array > 0)
    assert np.log(field.array[brain.array > 0]).mean() == pytest.approx(0.0, abs=1e-4)
    assert (field.array > 0).all() and field.same_grid(brain)


def test_n4_gives_the_same_bits_twice(brain, biased) -> None:
    first, second = (n4_bias_field(biased[0], brain.array > 0).array for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_an_empty_mask_is_refused(brain) -> None:
    with pytest.raises(PreprocessError, match="mask is empty"):
        n4_bias_field(brain, np.zeros(brain.shape, dtype=bool))


def test_otsu_parts_two_heaps() -> None:
    heaps = np.concatenate([np.full(900, 10.0), np.full(300, 90.0)])
    assert 10 <= otsu_threshold(heaps) < 90


def test_the_model_input_has_mean_zero_and_spread_one_over_the_whole_grid(atlas_brain) -> None:
    array, kept = to_model(atlas_brain.array)
    assert array.shape == MODEL_SHAPE and array.dtype == np.float32
    assert abs(array.mean(dtype=np.float64)) < 1e-5 and array.std(dtype=np.float64) == pytest.approx(1.0, abs=1e-5)
    assert kept.std > 0


def test_the_z_score_is_reversible(atlas_brain) -> None:
    array, kept = to_model(atlas_brain.array)
    np.testing.assert_allclose(from_model(array, kept), atlas_brain.array, atol=1e-3)


def test_a_constant_volume_cannot_be_scored() -> None:
    with pytest.raises(PreprocessError) as caught:
        to_model(np.full(ATLAS_SHAPE, 7.0, dtype=np.float32))
    assert caught.value.code == "model.constant"


def test_another_grid_cannot_be_scored() -> None:
    with pytest.raises(PreprocessError) as caught:
        to_model(np.zeros((10, 10, 10), dtype=np.float32))
    assert caught.value.code == "model.grid"
