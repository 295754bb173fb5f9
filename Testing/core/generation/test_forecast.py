"""Forecasts on flows of change whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from braing3n_core.errors import Cancelled, RequestError
from braing3n_core.generation.flow import BridgePath
from braing3n_core.generation.forecast import (
    ForecastOptions,
    change_scale,
    forecast,
    forecast_bridge,
)
from braing3n_core.progress import Cancel

MEAN, STD = 2.0, 0.25
BASELINE = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))


def _conditions(horizons: Sequence[float]) -> Tensor:
    return torch.tensor(horizons).reshape(-1, 1, 1)


def _conditional(x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
    """Noise to a change per ten years of N(MEAN, STD^2)."""
    s = t.reshape(-1, 1, 1)
    variance = (1 - s) ** 2 + s**2 * STD**2
    return MEAN + (s * STD**2 - (1 - s)) / variance * (x - s * MEAN)


def _bridge(x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
    """A bridge whose follow-up lies 0.3 a year above the baseline, with a floor of 0.05 of its own."""
    return 0.3 * torch.cat(list(conds)).expand_as(x) + 0.05


def test_the_scale_of_change_is_signed_and_zero_at_horizon_zero() -> None:
    assert change_scale(0) == 0 and change_scale(10) == 1 and change_scale(-5) == -0.5


def test_horizon_zero_is_the_baseline_bit_for_bit() -> None:
    result = forecast(_conditional, BASELINE, [0.0, 1.0], _conditions, ForecastOptions(samples=3))
    assert result.shape == (2, 3, 6, 2)
    assert all(torch.equal(sample, BASELINE) for sample in result[0]) and not torch.equal(result[1, 0], BASELINE)


def test_the_ensemble_has_the_mean_and_spread_of_the_true_change() -> None:
    options = ForecastOptions(samples=200, num_steps=40, batch_rows=100)
    change = forecast(_conditional, BASELINE, [5.0], _conditions, options)[0] - BASELINE
    assert change.mean().item() == pytest.approx(0.5 * MEAN, abs=0.01)
    assert change.std().item() == pytest.approx(0.5 * STD, rel=0.05)


def test_the_noise_of_opposed_samples_cancels_in_the_mean() -> None:
    options = ForecastOptions(samples=4, num_steps=40)
    change = forecast(_conditional, BASELINE, [10.0], _conditions, options)[0] - BASELINE
    assert change.std(0).mean() > 0.1
    torch.testing.assert_close(change.mean(0), torch.full_like(BASELINE, MEAN), atol=1e-4, rtol=0)


def test_each_sample_is_a_trajectory_that_moves_away_from_the_baseline_monotonically() -> None:
    horizons = [1.0, 2.0, 5.0, 10.0]
    result = forecast(_conditional, BASELINE, horizons, _conditions, ForecastOptions(samples=4))
    sizes = (result - BASELINE).abs().mean((2, 3))
    assert (sizes.diff(dim=0) > 0).all()
    torch.testing.assert_close((result[3] - BASELINE) / 10, (result[0] - BASELINE) / 1, atol=1e-6, rtol=1e-5)


def test_a_negative_horizon_looks_back() -> None:
    ahead, back = forecast(_conditional, BASELINE, [3.0, -3.0], _conditions) - BASELINE
    torch.testing.assert_close(ahead, -back, atol=1e-6, rtol=0)


def test_the_answer_does_not_depend_on_the_size_of_the_micro_batch_and_repeats_with_its_seed() -> None:
    seen: list[int] = []

    def watched(x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
        seen.append(len(x))
        assert len(conds[0]) == len(x)
        return torch.sin(x) * (1 + conds[0])

    def run(rows: int, seed: int = 0) -> Tensor:
        options = ForecastOptions(samples=3, batch_rows=rows, seed=seed)
        return forecast(watched, BASELINE, [1.0, 2.0, 5.0], _conditions, options)

    one, many = run(2), run(64)
    torch.testing.assert_close(one, many)
    assert max(seen[:25]) == 2 and torch.equal(run(64), many) and not torch.equal(run(64, seed=1), many)


def test_the_calibrated_gain_scales_the_change() -> None:
    raw = forecast(_conditional, BASELINE, [2.0], _conditions) - BASELINE
    gained = forecast(_conditional, BASELINE, [2.0], _conditions, ForecastOptions(gain=1.5)) - BASELINE
    torch.testing.assert_close(gained, 1.5 * raw, atol=1e-6, rtol=0)


def test_a_forecast_reports_its_progress_and_can_be_cancelled() -> None:
    seen: list[float] = []
    forecast(_conditional, BASELINE, [1.0, 2.0], _conditions, progress=lambda f, m: seen.append(f))
    assert seen == sorted(seen) and seen[-1] == 1
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(Cancelled):
        forecast(_conditional, BASELINE, [1.0], _conditions, cancel=cancel)
    with pytest.raises(RequestError, match="sample"):
        ForecastOptions(samples=0)


def test_the_bridge_starts_at_the_baseline_and_loses_its_own_floor() -> None:
    result = forecast_bridge(_bridge, BASELINE, [0.0, 1.0, 4.0], _conditions)
    assert result.shape == (3, 1, 6, 2) and torch.equal(result[0, 0], BASELINE)
    torch.testing.assert_close(result[1, 0], BASELINE + 0.3, atol=1e-5, rtol=0)
    torch.testing.assert_close(result[2, 0], BASELINE + 1.2, atol=1e-5, rtol=0)


def test_a_bridge_integrates_its_own_noiseless_path_to_the_follow_up() -> None:
    follow_up = BASELINE + 0.3 * 4.0
    point = BridgePath(sigma=0.5).at(BASELINE[None], follow_up[None], torch.tensor([0.4]))
    result = forecast_bridge(lambda x, t, c: point.dx_t * (torch.cat(list(c)) / 4.0), BASELINE, [4.0], _conditions)
    torch.testing.assert_close(result[0, 0], follow_up, atol=1e-5, rtol=0)


def test_a_sample_is_one_smooth_trajectory_because_its_horizons_share_their_noise() -> None:
    def ageing(x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
        """A change whose mean and spread both depend on the horizon, smoothly."""
        mean = (torch.cat(list(conds)).to(x) / 5).tanh()
        return _conditional(x - mean, t, conds) * (1 + 0.2 * mean)

    horizons = [0.5 * i for i in range(-8, 9)]
    options = ForecastOptions(samples=6, seed=2)
    path = forecast(ageing, BASELINE, horizons, _conditions, options) - BASELINE  # (H,S,N,C)
    steps, bends = path.diff(dim=0), path.diff(n=2, dim=0)
    assert bends.abs().max() < 0.25 * steps.abs().max()
    other = forecast(ageing, BASELINE, horizons, _conditions, ForecastOptions(samples=6, seed=3)) - BASELINE
    mixed = torch.where(torch.arange(17).reshape(-1, 1, 1, 1) % 2 == 0, path, other)
    assert mixed.diff(n=2, dim=0).abs().max() > 3 * bends.abs().max()
    deviation = (path - path.mean(1, keepdim=True))[9:].flatten(1)
    assert torch.corrcoef(deviation)[0].min() > 0.95
