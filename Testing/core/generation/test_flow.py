"""Paths, times and the loss against closed forms."""

from __future__ import annotations

import pytest
import torch

from braing3n_core.errors import RequestError
from braing3n_core.generation.flow import (
    DEFAULT_SHIFT,
    BridgePath,
    LinearPath,
    Pair,
    flow_matching_loss,
    sample_times,
    shift_time,
    velocity_loss,
)


def _ends(batch: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, 5, 3, generator=g, dtype=torch.float64) for _ in range(3))  # type: ignore[return-value]


def test_the_linear_path_starts_at_the_source_ends_at_the_target_and_its_velocity_is_target_minus_source() -> None:
    x_0, x_1, _ = _ends()
    assert torch.equal(LinearPath().at(x_0, x_1, torch.zeros(4)).x_t, x_0)
    assert torch.equal(LinearPath().at(x_0, x_1, torch.ones(4)).x_t, x_1)
    assert torch.equal(LinearPath().at(x_0, x_1, torch.rand(4)).dx_t, x_1 - x_0)


@pytest.mark.parametrize("envelope", ["parabolic", "brownian"])
def test_the_bridge_meets_both_ends_whatever_the_noise(envelope: str) -> None:
    x_0, x_1, eps = _ends()
    path = BridgePath(sigma=2.0, envelope=envelope)
    assert torch.equal(path.at(x_0, x_1, torch.zeros(4), eps).x_t, x_0)
    assert torch.equal(path.at(x_0, x_1, torch.ones(4), eps).x_t, x_1)
    assert not torch.allclose(path.at(x_0, x_1, torch.full((4,), 0.5), eps).x_t, (x_0 + x_1) / 2)


@pytest.mark.parametrize("path", [LinearPath(), BridgePath(0.7, "parabolic"), BridgePath(0.7, "brownian")])
def test_the_velocity_of_every_path_is_the_derivative_of_its_points(path: LinearPath | BridgePath) -> None:
    x_0, x_1, eps = _ends()
    t = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    h = 1e-6
    numeric = (path.at(x_0, x_1, t + h, eps).x_t - path.at(x_0, x_1, t - h, eps).x_t) / (2 * h)
    torch.testing.assert_close(path.at(x_0, x_1, t, eps).dx_t, numeric, rtol=1e-6, atol=1e-6)


def test_the_brownian_bridge_has_a_finite_velocity_at_its_ends() -> None:
    x_0, x_1, eps = _ends()
    point = BridgePath(1.0, "brownian").at(x_0.float(), x_1.float(), torch.tensor([0.0, 1.0, 0.0, 1.0]), eps.float())
    assert torch.isfinite(point.dx_t).all()


def test_an_unknown_envelope_is_refused() -> None:
    with pytest.raises(RequestError, match="envelope"):
        BridgePath(envelope="square")


def test_the_time_shift_moves_times_towards_the_noise_and_its_inverse_is_one_over_it() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    shifted = shift_time(t, DEFAULT_SHIFT)
    assert (shifted[1:-1] < t[1:-1]).all() and shifted[0] == 0 and shifted[-1] == 1
    torch.testing.assert_close(shift_time(shifted, 1 / DEFAULT_SHIFT), t)
    # The published form, in the noise level u = 1 - t.
    u = 1 - t
    torch.testing.assert_close(1 - shifted, DEFAULT_SHIFT * u / (1 + (DEFAULT_SHIFT - 1) * u))
    assert pytest.approx(3.06, abs=0.01) == DEFAULT_SHIFT


def test_training_times_are_reproducible_inside_the_unit_interval_and_of_the_asked_distribution() -> None:
    def draw(name: str) -> torch.Tensor:
        return sample_times(20_000, name, generator=torch.Generator().manual_seed(3))

    for name in ("uniform", "logit-normal"):
        assert torch.equal(draw(name), draw(name)) and (draw(name) >= 0).all() and (draw(name) <= 1).all()
    assert draw("uniform").var().item() == pytest.approx(1 / 12, abs=0.003)
    assert draw("logit-normal").var().item() == pytest.approx(0.0433, abs=0.003)
    with pytest.raises(RequestError, match="distribution"):
        sample_times(2, "cosine")


def test_the_loss_of_the_exact_velocity_is_zero_and_of_a_wrong_one_its_mean_square() -> None:
    x_0, x_1, _ = _ends()
    t = torch.rand(4, dtype=torch.float64)
    assert flow_matching_loss(lambda x, t: x_1 - x_0, LinearPath(), Pair(x_0, x_1), t).item() == 0
    off = flow_matching_loss(lambda x, t: x_1 - x_0 + 0.5, LinearPath(), Pair(x_0, x_1), t)
    assert off.item() == pytest.approx(0.25)


def test_the_weights_of_the_loss_choose_among_samples() -> None:
    predicted, target = torch.tensor([[[1.0]], [[3.0]]]), torch.zeros(2, 1, 1)
    assert velocity_loss(predicted, target).item() == pytest.approx(5.0)
    assert velocity_loss(predicted, target, torch.tensor([0.0, 2.0])).item() == pytest.approx(9.0)
    assert velocity_loss(predicted, target, torch.tensor([3.0, 1.0])).item() == pytest.approx(3.0)
