"""The table of integrators says what closed forms say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.sampling import Draw, Row, cheapest, measure
from braing3n_core.generation.sampling import time_grid


def _gaussian(x: Tensor, t: Tensor) -> Tensor:
    """The exact velocity from N(0,1) to N(1, 0.6^2)."""
    s = t.reshape(-1, 1, 1)
    return 1 + (s * 0.36 - (1 - s)) / ((1 - s) ** 2 + s**2 * 0.36) * (x - s)


def test_second_order_integrators_come_to_the_answer_of_euler_200_in_a_fraction_of_its_evaluations() -> None:
    start = torch.randn(2, 50, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = measure(Draw(_gaussian, _gaussian, start), costs=(4, 8, 16, 32), grid=time_grid)
    best = cheapest(rows[1:], within=0.02)
    assert best["ab2"] <= 32 and best["midpoint"] <= 32
    errors = {(r.method, r.evaluations): r.exact for r in rows}
    assert errors["ab2", 32] < errors["euler", 32] and errors["euler", 200] < 0.01


def test_the_cheapest_is_where_all_that_cost_more_are_good_too() -> None:
    rows = [Row("ab2", cost, error, error) for cost, error in ((4, 0.001), (8, 0.05), (16, 0.009), (32, 0.002))]
    assert cheapest(rows, 0.01) == {"ab2": 16} and cheapest(rows[:2], 0.01) == {}


def test_an_answer_that_is_more_exact_than_euler_200_counts_however_far_from_it() -> None:
    rows = [Row("ab2", 8, 0.03, 0.03), Row("ab2", 16, 0.008, 0.012), Row("ab2", 32, 0.011, 0.002)]
    assert cheapest(rows, 0.01, 0.01) == {"ab2": 16} and cheapest(rows, 0.01) == {}


def test_an_integrator_that_cannot_have_a_cost_is_left_out_of_it() -> None:
    start = torch.zeros(1, 2, 1, dtype=torch.float64)
    rows = measure(Draw(_gaussian, _gaussian, start), costs=(5,), grid=time_grid)
    assert {r.method for r in rows if r.evaluations == 5} == {"euler", "ab2", "fireflow", "extrapolated"}
    assert pytest.approx(0) == rows[0].error


def test_brains_are_compared_as_users_get_them() -> None:
    start = torch.randn(1, 9, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    as_drawn = Draw(_gaussian, _gaussian, start)
    twice = Draw(_gaussian, _gaussian, start, lambda x: x.mean() + 2 * (x - x.mean()))
    first, second = (measure(draw, costs=(8,), grid=time_grid)[-1].error for draw in (as_drawn, twice))
    assert 1.2 * first < second < 2.5 * first
