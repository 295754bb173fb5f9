"""Variance components find the channels that speak, and a probe that knows them reads better."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from training.fit_linear import fit_ridge
from training.fit_probes import fit_by_channel
from training.relevance import channel_grams, channel_scales, variance_components


@pytest.fixture(scope="module")
def made() -> tuple[np.ndarray, np.ndarray]:
    """Latents (160,30,6) and y (160,) that depends on channel 2 alone."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((160, 30, 6)).astype(np.float32)
    return latents, latents[:, :, 2] @ rng.standard_normal(30) + rng.standard_normal(160)


def test_the_channel_that_carries_the_signal_gets_the_variance(made: tuple[np.ndarray, np.ndarray]) -> None:
    latents, y = made
    variances, noise = variance_components(channel_grams(latents), y)
    assert variances.argmax() == 2
    assert variances[2] > 5 * np.delete(variances, 2).max()
    assert 0 < noise < 0.5


def test_no_iteration_lowers_the_likelihood(made: tuple[np.ndarray, np.ndarray]) -> None:
    latents, y = made
    grams, y = channel_grams(latents), (y - y.mean()) / y.std()

    def likelihood(iterations: int) -> float:
        variances, noise = variance_components(grams, y, iterations)
        covariance = np.tensordot(variances, grams.astype(float), 1) + noise * np.eye(len(y))
        return float(-np.linalg.slogdet(covariance)[1] - y @ np.linalg.solve(covariance, y))

    trace = [likelihood(n) for n in range(8)]
    assert all(later >= earlier - 1e-2 for earlier, later in pairwise(trace)), trace


def test_scales_do_not_depend_on_the_units_of_a_channel(made: tuple[np.ndarray, np.ndarray]) -> None:
    latents, y = made
    units = np.array([1, 10, 0.1, 1, 5, 1], np.float32)
    there, back = channel_scales(latents, y), channel_scales(latents * units, y) * units
    np.testing.assert_allclose(back / back.max(), there, atol=0.02)


def test_a_few_scans_that_explain_everything_give_finite_scales() -> None:
    latents = np.random.default_rng(1).standard_normal((12, 40, 4)).astype(np.float32)
    for y in (latents[:, 0, 0], np.repeat([0.0, 1.0], 6), np.ones(12)):
        scales = channel_scales(latents, y)
        assert np.isfinite(scales).all() and scales.max() == 1


def test_a_probe_that_knows_its_channels_reads_better_and_is_still_linear(
    made: tuple[np.ndarray, np.ndarray],
) -> None:
    latents, y = made
    groups, flat = np.arange(len(y)), latents.reshape(len(y), -1)
    plain, knowing = fit_ridge(flat, y, groups), fit_by_channel(fit_ridge, latents, y, groups)
    error = [float(np.square(fit.out_of_fold - y).mean()) for fit in (plain, knowing)]
    assert error[1] < 0.6 * error[0]
    fitted = flat @ knowing.weights[0] + knowing.bias
    assert np.corrcoef(fitted, y)[0, 1] > 0.95
