"""The closed-form Gaussian of few rows: held to the strongest directions it is nearer to the truth."""

from __future__ import annotations

import torch

from braing3n_core.models.conditions import ConditionBatch, ConditionSpec
from braing3n_core.models.prior import GaussianPrior
from training.conditions import fit_prior

SPEC = ConditionSpec({"disease": ("HC", "AD")}, {"age_years": (50.0, 20.0)})


def fitted(rank: int) -> tuple[GaussianPrior, float]:
    """A prior of 40 noisy rows whose mean moves in one direction, and its mean squared distance from the true mean."""
    draw = torch.Generator().manual_seed(0)
    ages = (20 + 70 * torch.rand(40, generator=draw)).tolist()
    people = [{"disease": ("HC", "AD")[i % 2], "age_years": age} for i, age in enumerate(ages)]
    rows = ConditionBatch.from_rows(SPEC, people)
    direction = torch.randn(30, 4, generator=draw)
    truth = (rows.value[:, :1] + rows.index.float())[:, :, None] * direction
    prior = GaussianPrior(SPEC, 30, 4)
    fit_prior(prior, rows, truth + 2 * torch.randn(truth.shape, generator=draw), rank=rank)
    return prior, float((prior.mean(rows) - truth).square().mean())


def test_a_prior_held_to_one_direction_moves_the_target_in_one_direction() -> None:
    assert int(torch.linalg.matrix_rank(fitted(1)[0].weight, rtol=1e-4)) == 1


def test_what_is_left_out_is_mostly_noise() -> None:
    assert fitted(1)[1] < 0.7 * fitted(0)[1]
