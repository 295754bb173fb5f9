"""Integrators against closed forms; noise that does not depend on the machine or the batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from braing3n_core.errors import Cancelled, RequestError
from braing3n_core.generation.flow import DEFAULT_SHIFT, Velocity
from braing3n_core.generation.sampling import (
    METHODS,
    evaluations,
    integrate,
    log_odds_grid,
    micro_batches,
    noise,
    noise_batch,
    opposed_noise,
    time_grid,
)
from braing3n_core.progress import Cancel
from braing3n_core.schema import SAMPLERS

ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "ab2": 2, "fireflow": 2, "extrapolated": 2}


def _gaussian_velocity(mean: float, std: float) -> Velocity:
    """The exact marginal velocity of the linear path from N(0,1) to N(mean, std^2)."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        s = t.reshape(-1, 1, 1)
        variance = (1 - s) ** 2 + s**2 * std**2
        return mean + (s * std**2 - (1 - s)) / variance * (x - s * mean)

    return velocity


@pytest.mark.parametrize("method", METHODS)
def test_a_gaussian_flows_to_a_gaussian_by_its_exact_map(method: str) -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64).reshape(-1, 1, 1)
    steps = 4000 if method == "euler" else 200
    end = integrate(_gaussian_velocity(2.0, 0.5), x, time_grid(steps), method)
    torch.testing.assert_close(end, 2.0 + 0.5 * x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shift", [1.0, DEFAULT_SHIFT])
def test_the_error_shrinks_with_the_order_of_the_method_on_even_and_uneven_grids(method: str, shift: float) -> None:
    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return (1 + t.square()).reshape(-1, 1, 1) * x

    x = torch.tensor([[[1.5]]], dtype=torch.float64)
    truth = 1.5 * math.exp(4 / 3)
    errors = [abs(integrate(velocity, x, time_grid(n, shift), method).item() - truth) for n in (160, 320)]
    assert ORDERS[method] - 0.2 < math.log2(errors[0] / errors[1]) < ORDERS[method] + 0.5


def test_an_extrapolated_half_step_is_nearer_to_the_midpoint_rule_than_fireflows_and_costs_as_much() -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64).reshape(-1, 1, 1)
    velocity, times = _gaussian_velocity(2.0, 0.5), log_odds_grid(20)
    whole = integrate(velocity, x, times, "midpoint")
    fireflow, extrapolated = (
        float((integrate(velocity, x, times, method) - whole).norm()) for method in ("fireflow", "extrapolated")
    )
    assert 0 < extrapolated < 0.7 * fireflow
    assert evaluations("extrapolated", 20) == evaluations("fireflow", 20) == 21


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_velocity_is_integrated_exactly(method: str) -> None:
    end = integrate(lambda x, t: torch.full_like(x, 3.0), torch.zeros(2, 3, 4), time_grid(7, DEFAULT_SHIFT), method)
    torch.testing.assert_close(end, torch.full((2, 3, 4), 3.0))


def test_faces_offer_the_integrators_that_there_are() -> None:
    assert SAMPLERS == METHODS


@pytest.mark.parametrize("method", ["midpoint", "heun"])
def test_a_velocity_linear_in_time_is_integrated_exactly_by_second_order_methods(method: str) -> None:
    start = torch.zeros(2, 1, 1, dtype=torch.float64)
    end = integrate(lambda x, t: t.reshape(-1, 1, 1).expand_as(x), start, [0.0, 0.3, 1.0], method)
    torch.testing.assert_close(end, torch.full((2, 1, 1), 0.5, dtype=torch.float64))


def test_two_step_adams_bashforth_is_exact_for_velocities_linear_in_time_after_its_first_step() -> None:
    start = torch.zeros(1, 1, 1, dtype=torch.float64)
    end = integrate(lambda x, t: t.reshape(-1, 1, 1).expand_as(x), start, [0, 1e-9, 0.2, 1], "ab2")
    assert end.item() == pytest.approx(0.5, abs=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_evaluations_is_the_announced_one(method: str) -> None:
    calls: list[Tensor] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return x

    integrate(velocity, torch.ones(3, 2, 2), time_grid(5), method)
    assert len(calls) == evaluations(method, 5) and all(t.shape == (3,) for t in calls)


@pytest.mark.parametrize("method", METHODS)
def test_integrating_there_and_back_returns_to_the_start(method: str) -> None:
    x = torch.randn(1, 2, 2, dtype=torch.float64)
    there = integrate(lambda x, t: torch.sin(x), x, time_grid(2000), method)
    back = integrate(lambda x, t: torch.sin(x), there, time_grid(2000).flip(0), method)
    torch.testing.assert_close(back, x, atol=2e-3, rtol=0)


def test_half_precision_latents_get_exact_times() -> None:
    seen: list[Tensor] = []
    integrate(lambda x, t: seen.append(t) or x * 0, torch.zeros(1, 1, 1, dtype=torch.bfloat16), [0.0, 0.501, 0.502])  # type: ignore[func-returns-value]
    assert seen[1].item() == pytest.approx(0.501, abs=1e-6)


def test_the_log_odds_grid_is_even_in_its_own_clock_and_finer_at_both_ends_than_in_the_middle() -> None:
    grid = log_odds_grid(40)
    clock = ((grid + 0.1) / (1.3 - grid)).log()
    steps, ticks = grid.diff(), clock.diff()
    torch.testing.assert_close(ticks, ticks.mean().expand(40), rtol=1e-9, atol=0)
    assert grid[0] == 0 and grid[-1] == 1 and (steps > 0).all()
    assert steps[0] < steps[-1] < steps.max() and 0.3 < grid[:-1][steps.argmax()] < 0.9
    with pytest.raises(RequestError, match="At least one step"):
        log_odds_grid(0)


def test_the_time_grid_ends_exactly_and_is_finer_near_the_noise() -> None:
    grid = time_grid(10, DEFAULT_SHIFT, start=0.25)
    steps = grid.diff()
    assert grid[0] == 0.25 and grid[-1] == 1 and len(grid) == 11
    assert (steps > 0).all() and (steps.diff() > 0).all()
    with pytest.raises(RequestError, match="step"):
        time_grid(0)


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.5, 0.5], [0.0, 1.0, 0.5], []])
def test_times_that_are_not_monotone_are_refused(times: list[float]) -> None:
    with pytest.raises(RequestError, match="monotone"):
        integrate(lambda x, t: x, torch.zeros(1, 1, 1), times)


def test_an_unknown_integrator_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RequestError, match="'heun'"):
        integrate(lambda x, t: x, torch.zeros(1, 1, 1), [0.0, 1.0], "huen")


def test_a_cancelled_integration_stops_between_steps_and_progress_reaches_one() -> None:
    cancel, seen = Cancel(), []

    def progress(fraction: float, message: str) -> None:
        seen.append(fraction)
        if len(seen) == 2:
            cancel.cancel()

    with pytest.raises(Cancelled):
        integrate(lambda x, t: x, torch.zeros(1, 1, 1), time_grid(4), progress=progress, cancel=cancel)
    assert seen == [0.25, 0.5]
    seen.clear()
    integrate(lambda x, t: x, torch.zeros(1, 1, 1), time_grid(4), progress=lambda f, m: seen.append(f))
    assert seen[-1] == 1


def test_a_sample_does_not_depend_on_how_many_are_drawn_with_it() -> None:
    few, many = noise_batch(2, (1200, 8), seed=5), noise_batch(6, (1200, 8), seed=5)
    assert torch.equal(few, many[:2]) and torch.equal(noise((1200, 8), 5), few[0])
    assert not torch.equal(few[0], few[1]) and not torch.equal(few, noise_batch(2, (1200, 8), seed=6))


def test_opposed_noise_comes_in_pairs_of_opposite_sign_whatever_the_count() -> None:
    draw = opposed_noise(5, (1200, 8), seed=5)
    assert torch.equal(draw[0], noise((1200, 8), 5)) and torch.equal(draw[1], -draw[0])
    assert torch.equal(draw[2], -draw[3]) and not torch.equal(draw[2], draw[0])
    assert torch.equal(draw[:3], opposed_noise(3, (1200, 8), seed=5))


def test_noise_is_standard_normal_independent_of_the_global_seed_and_leaves_it_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    draw = noise_batch(4, (1200, 32), seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(draw.mean().item()) < 0.01 and draw.std().item() == pytest.approx(1, abs=0.01)
    assert torch.corrcoef(draw.flatten(1)).fill_diagonal_(0).abs().max().item() < 0.02


def test_micro_batches_cover_every_row_once() -> None:
    assert [(s.start, s.stop) for s in micro_batches(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert list(micro_batches(0, 3)) == []
