"""Guidance as arithmetic on velocities, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from braing3n_core.errors import RequestError
from braing3n_core.generation.guidance import Contrast, Guidance, closest, evaluate, guide
from braing3n_core.generation.sampling import integrate, time_grid


class _Network:
    """``v = x + sum(condition)``, with a note of each call's rows. A condition is a (B, K) tensor."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
        self.rows.append(len(x))
        assert t.shape == (len(x),)
        return x + torch.cat(list(conds)).sum(1)[:, None, None]


X, T = torch.zeros(2, 3, 1), torch.full((2,), 0.5)
NULL, COND = torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def test_guidance_extrapolates_from_the_null_to_the_conditional_velocity() -> None:
    v = guide(_Network(), COND, [Contrast(NULL, Guidance(2.5))])(X, T)
    torch.testing.assert_close(v[:, 0, 0], 2.5 * COND.sum(1))


def test_scale_one_is_off_bit_for_bit_and_does_not_evaluate_the_null() -> None:
    network = _Network()
    x = torch.randn(2, 3, 1)
    assert torch.equal(guide(network, COND, [Contrast(NULL, Guidance(1.0))])(x, T), network(x, T, [COND]))
    assert network.rows == [2, 2]


def test_scale_zero_is_the_null_velocity() -> None:
    torch.testing.assert_close(guide(_Network(), COND, [Contrast(NULL, Guidance(0.0))])(X, T), X)


def test_a_guided_evaluation_is_one_call_of_the_network() -> None:
    network = _Network()
    guide(network, COND, [Contrast(NULL, Guidance(2.0))])(X, T)
    assert network.rows == [4]


def test_factored_guidance_amplifies_only_the_changed_condition() -> None:
    without_second = COND * torch.tensor([1.0, 0.0])
    v = guide(_Network(), COND, [Contrast(without_second, Guidance(3.0))])(X, T)
    torch.testing.assert_close(v[:, 0, 0], COND[:, 0] + 3 * COND[:, 1])


def test_each_contrast_has_its_own_scale() -> None:
    first, second = COND * torch.tensor([0.0, 1.0]), COND * torch.tensor([1.0, 0.0])
    v = guide(_Network(), COND, [Contrast(first, Guidance(2.0)), Contrast(second, Guidance(4.0))])(X, T)
    torch.testing.assert_close(v[:, 0, 0], 2 * COND[:, 0] + 4 * COND[:, 1])


def test_outside_its_interval_guidance_is_off_and_free() -> None:
    network = _Network()
    velocity = guide(network, COND, [Contrast(NULL, Guidance(2.0, (0.2, 0.6)))])
    inside, outside = velocity(X, T), velocity(X, torch.full((2,), 0.7))
    torch.testing.assert_close(inside[:, 0, 0], 2 * COND.sum(1))
    torch.testing.assert_close(outside[:, 0, 0], COND.sum(1))
    assert network.rows == [4, 2]


def test_groups_keep_their_own_latents_and_conditions() -> None:
    a, b = evaluate(_Network(), T, [(X, COND), (X + 10, NULL)])
    assert a[1, 0, 0] == 7 and b[1, 0, 0] == 10


@pytest.mark.parametrize("interval", [(-0.1, 1.0), (0.8, 0.2), (0.0, 1.5)])
def test_an_interval_outside_the_unit_interval_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(RequestError, match="interval"):
        Guidance(2.0, interval)


def test_zero_star_amplifies_what_is_left_of_the_velocity_after_the_best_multiple_of_the_null() -> None:
    v, w = torch.tensor([[[3.0], [4.0]], [[1.0], [0.0]]]), torch.tensor([[[2.0], [0.0]], [[0.0], [5.0]]])
    torch.testing.assert_close(closest(v, w), torch.tensor([[[3.0], [0.0]], [[0.0], [0.0]]]))

    def network(x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(conds))

    x, t = torch.zeros(2, 2, 1), torch.full((2,), 0.5)
    guided = guide(network, v, [Contrast(w, Guidance(2.0, zero_star=True))])(x, t)
    torch.testing.assert_close(guided, torch.tensor([[[3.0], [8.0]], [[2.0], [0.0]]]))


def test_zero_star_does_nothing_where_the_null_is_a_multiple_of_the_velocity_and_survives_a_null_of_zero() -> None:
    v = torch.randn(2, 3, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(closest(v, 7 * v), v)
    assert torch.equal(closest(v, torch.zeros_like(v)), torch.zeros_like(v))


def test_the_first_share_of_the_time_can_stand_still_and_costs_nothing() -> None:
    network = _Network()
    velocity = guide(network, COND, still_until=0.1)
    assert not velocity(X, torch.full((2,), 0.05)).any() and not network.rows
    assert velocity(X, torch.full((2,), 0.1)).any()


class _Drifting(_Network):
    """Its contrast to NULL grows in a straight line with time."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def __call__(self, x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
        self.rows.append(len(x))
        return x + (torch.cat(list(conds)).sum(1) * (1 + self.slope * t))[:, None, None]


@pytest.mark.parametrize("slope", [0.0, 3.0])
def test_what_guidance_adds_goes_on_in_a_straight_line_where_it_is_not_asked_for(slope: float) -> None:
    network = _Drifting(slope)
    velocity = guide(network, COND, [Contrast(NULL, Guidance(2.5))], every=2)
    always = guide(_Drifting(slope), COND, [Contrast(NULL, Guidance(2.5))])
    for n, time in enumerate((0.0, 0.1, 0.3, 0.4, 0.7, 0.9)):
        t = torch.full((2,), time)
        if n != 1 or slope == 0:  # one answer alone has no slope
            torch.testing.assert_close(velocity(X, t), always(X, t))
        else:
            torch.testing.assert_close(velocity(X, t), always(X, t) - 1.5 * slope * 0.1 * COND.sum(1)[:, None, None])
    assert network.rows == [4, 2, 4, 2, 4, 2]


def test_another_path_and_other_scales_ask_again() -> None:
    network = _Drifting(3.0)
    velocity = guide(network, COND, [Contrast(NULL, Guidance(2.0, (0.0, 0.5)))], every=2)
    for time in (0.2, 0.3, 0.6, 0.9, 0.2, 0.2):  # the second 0.2 is another path's
        velocity(X, torch.full((2,), time))
    assert network.rows == [4, 2, 2, 2, 4, 2]
    between = guide(network, COND, [Contrast(NULL, Guidance(2.0, (0.0, 0.5))), Contrast(NULL, Guidance(3.0))], every=2)
    network.rows.clear()
    for time in (0.4, 0.6, 0.8):  # from 0.6 on one contrast alone acts: what two added is of no use
        between(X, torch.full((2,), time))
    assert network.rows == [6, 4, 2]


def test_asking_at_every_second_evaluation_keeps_the_second_order_of_an_integrator() -> None:
    network = _Drifting(3.0)
    start = torch.ones(2, 3, 1, dtype=torch.float64)

    def end(steps: int, every: int) -> Tensor:
        velocity = guide(network, COND.double(), [Contrast(NULL.double(), Guidance(2.0))], every=every)
        return integrate(velocity, start, time_grid(steps), "fireflow")

    exact = end(400, 1)
    errors = [float((end(steps, 2) - exact).norm()) for steps in (20, 40)]
    assert errors[0] / errors[1] > 3
