"""The closed-form Gaussian of few rows: of effects that two halves of the subjects do not agree on, little is kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from braing3n_core.errors import ConfigError
from braing3n_core.models.conditions import ConditionBatch, ConditionSpec
from braing3n_core.models.prior import GaussianPrior
from training.conditions import Reliability, fit_prior

SPEC = ConditionSpec({"disease": ("HC", "AD")}, {"age_years": (50.0, 20.0)})
COUNT = 80


def people(draw: torch.Generator) -> ConditionBatch:
    ages = (20 + 70 * torch.rand(COUNT, generator=draw)).tolist()
    return ConditionBatch.from_rows(SPEC, [
        {"disease": ("HC", "AD")[i % 2], "age_years": age} for i, age in enumerate(ages)
    ])


def fitted(noise: float, least: float | None) -> tuple[GaussianPrior, ConditionBatch, Tensor]:
    """A prior of noisy rows that depend on the disease alone, the rows, and their true mean."""
    draw = torch.Generator().manual_seed(0)
    rows = people(draw)
    truth = rows.index[:, :1, None].float() * torch.randn(30, 4, generator=draw)
    prior = GaussianPrior(SPEC, (30, 4))
    target = truth + noise * torch.randn(truth.shape, generator=draw)
    subjects = [f"sub-{i // 2}" for i in range(COUNT)]
    fit_prior(prior, rows, target, reliability=None if least is None else Reliability(subjects, least))
    return prior, rows, truth


def age_matters(prior: GaussianPrior) -> float:
    """Mean absolute change of the guess between 30 and 80 years."""
    ends = ConditionBatch.from_rows(SPEC, [{"disease": "AD", "age_years": age} for age in (30.0, 80.0)])
    return float(prior.mean(ends).diff(dim=0).abs().mean())


def test_an_age_that_has_no_effect_is_left_out_of_the_mean() -> None:
    everything = age_matters(fitted(noise=2.0, least=None)[0])
    assert everything > 0.1
    assert age_matters(fitted(noise=2.0, least=0.5)[0]) < 0.2 * everything


def test_what_is_left_out_is_mostly_noise_and_the_disease_stays() -> None:
    errors = {}
    for least in (None, 0.5):
        prior, rows, truth = fitted(noise=2.0, least=least)
        errors[least] = float((prior.mean(rows) - truth).square().mean())
    assert errors[0.5] < 0.6 * errors[None]
    assert 0.8 < float((prior.mean(rows) * truth).sum() / truth.square().sum()) < 1.2


def test_an_age_that_acts_as_the_disease_does_is_kept_where_its_own_map_is_noise() -> None:
    """At 80 the healthy change half as much as the ill, in the same place: too little to be seen element by element."""
    draw = torch.Generator().manual_seed(1)
    rows, pattern = people(draw), torch.randn(30, 4, generator=draw)
    size = rows.index[:, 0].float() + rows.value[:, 0] / 3
    target = size[:, None, None] * pattern + 3 * torch.randn(COUNT, 30, 4, generator=draw)
    subjects = [f"sub-{i // 2}" for i in range(COUNT)]
    ends = ConditionBatch.from_rows(SPEC, [{"disease": "HC", "age_years": age} for age in (20.0, 80.0)])
    errors = {}
    for least in (None, 0.5):
        prior = GaussianPrior(SPEC, (30, 4))
        fit_prior(prior, rows, target, reliability=None if least is None else Reliability(subjects, least))
        aged = prior.mean(ends).diff(dim=0)[0]  # by three units of the age: the pattern itself
        errors[least] = float((aged - pattern).square().mean().sqrt())
        share = float((aged * pattern).sum() / pattern.square().sum())
        assert 0.6 < share < 1.4
    assert errors[0.5] < 0.6 * errors[None]


def test_the_unit_of_the_weights_does_not_matter() -> None:
    draw = torch.Generator().manual_seed(2)
    rows, target, means = people(draw), torch.randn(COUNT, 30, 4, generator=draw), []
    for unit in (1.0, 0.01):
        prior = GaussianPrior(SPEC, (30, 4))
        fit_prior(prior, rows, target, weight=unit * torch.linspace(0.5, 2, COUNT))
        means.append(prior.mean(rows))
    assert torch.allclose(*means, atol=1e-5)


def test_without_noise_every_effect_is_reliable() -> None:
    plain, rows, _ = fitted(noise=0.0, least=None)
    assert torch.allclose(plain.mean(rows), fitted(noise=0.0, least=0.5)[0].mean(rows), atol=1e-4)


def test_what_varies_together_becomes_factors_and_the_rest_sigma() -> None:
    draw = torch.Generator().manual_seed(1)
    count, shape = 600, (30, 4)
    directions = torch.linalg.qr(torch.randn(120, 2, generator=draw))[0].T  # (2,P), orthonormal
    amounts = torch.tensor([6.0, 3.0])
    common = torch.randn(count, 2, generator=draw) * amounts @ directions
    target = common.reshape(-1, *shape) + 0.5 * torch.randn(count, *shape, generator=draw)
    rows = ConditionBatch.from_rows(SPEC, [{"disease": ("HC", "AD")[i % 2], "age_years": 50.0} for i in range(count)])
    prior = GaussianPrior(SPEC, shape, factors=2)
    fit_prior(prior, rows, target)
    found = prior.factors.norm(dim=1).flip(0)
    torch.testing.assert_close(found, amounts, rtol=0.1, atol=0)
    assert (prior.factors.flip(0) / found[:, None] * directions).sum(1).abs().min() > 0.95
    torch.testing.assert_close(prior.sigma.mean(), torch.tensor(0.5), rtol=0.03, atol=0)


def test_rows_that_weigh_more_decide_the_mean_and_the_spread() -> None:
    rows = ConditionBatch.from_rows(SPEC, [{"disease": "HC", "age_years": 50.0}] * 400)
    target = torch.cat([torch.zeros(200, 1, 1), torch.full((200, 1, 1), 2.0)])
    prior = GaussianPrior(SPEC, (1, 1))
    fit_prior(prior, rows, target, weight=torch.cat([torch.full((200,), 0.1), torch.full((200,), 1.9)]))
    assert abs(float(prior.mean(rows)[0]) - 1.9) < 0.03
    assert abs(float(prior.sigma) - (0.05 * 1.9**2 + 0.95 * 0.1**2) ** 0.5) < 0.03


def test_more_factors_than_volumes_are_refused_in_words() -> None:
    rows = ConditionBatch.from_rows(SPEC, [{"disease": "HC", "age_years": 50.0 + i} for i in range(5)])
    with pytest.raises(ConfigError, match="7 factors of 5 volumes"):
        fit_prior(GaussianPrior(SPEC, (3, 2), factors=7), rows, torch.randn(5, 3, 2))


def test_a_prior_of_one_map_says_how_much_of_it_each_has_and_knows_what_it_leaves() -> None:
    draw = torch.Generator().manual_seed(3)
    rows, pattern = people(draw), torch.randn(30, 4, generator=draw)
    size = 1 + rows.index[:, 0].float() + rows.value[:, 0] / 3
    target = size[:, None, None] * pattern + 0.5 * torch.randn(COUNT, 30, 4, generator=draw)
    prior = GaussianPrior(SPEC, (30, 4), maps=1)
    fit_prior(prior, rows, target)
    found = (prior.mean(rows) * pattern).sum((1, 2)) / pattern.square().sum()
    torch.testing.assert_close(found, size, rtol=0.05, atol=0.1)
    torch.testing.assert_close(prior.sigma.mean(), torch.tensor(0.5), rtol=0.05, atol=0)
    assert 1 < len(prior.sigma.unique()) < 20  # few numbers, which compress
