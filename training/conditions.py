"""Labels of store records as the models' conditions, and the closed-form fit of the Gaussian prior (ADR 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from braing3n_core.errors import ConfigError
from braing3n_core.models.conditions import ConditionBatch, ConditionSpec
from braing3n_core.models.prior import GaussianPrior

from .fit_fields import fit_group
from .round_checkpoint import rounded
from .store import Record

RIDGE = 1.0
"""Penalty of the prior's regression, in rows."""


def conditions_of(records: Sequence[Record], spec: ConditionSpec, **extra: Sequence[Any]) -> ConditionBatch:
    """One row a record; ``extra`` adds columns such as the horizon. A label that is None is unknown.

    Raises ConfigError for a label that the model's vocabulary does not have.
    """
    rows = [
        {name: extra[name][i] if name in extra else record.get(name) for name in spec.names}
        for i, record in enumerate(records)
    ]
    try:
        return ConditionBatch.from_rows(spec, rows)
    except KeyError as error:
        raise ConfigError(
            "train.vocabulary", f"The data have a label that the model does not know: {error.args[0]}.",
            "Add the word to its list in [<stage>.model.categories], or leave those volumes out.",
        ) from error


@dataclass(frozen=True)
class Reliability:
    """How well halves of the subjects must agree on an effect. subjects: whose each row is. least: 0..1."""

    subjects: Sequence[str]
    least: float


@torch.no_grad()
def fit_prior(
    prior: GaussianPrior, conditions: ConditionBatch, target: Tensor, *, context: Tensor | None = None,
    weight: Tensor | None = None, reliability: Reliability | None = None,
) -> None:
    """Weighted ridge regression of the target (n,N,C) on the conditions (and the baseline's components).

    What they leave becomes factors and sigma. weight (n,): importance of each row, in any unit. With ``reliability``
    effects that are not reliable keep their share in those that are (:func:`reliable_part`). A prior of few maps is
    for a small file, and its sigma too is kept in few digits.
    """
    row, known = prior.features.rows(conditions)
    prior.features.averages.copy_((row * known).sum(0) / known.sum(0).clamp(min=1))
    if context is not None and len(prior.components):
        _fit_components(prior, context)
    design = prior.design(conditions, context).double()
    w = torch.ones(len(design), dtype=torch.float64) if weight is None else weight.double() / weight.double().mean()
    y = target.flatten(1)
    solution = ridge(design, y, w)
    if reliability is not None:
        solution = reliable_part(solution, design, y, w, reliability)
    prior.set_coefficients(solution)
    share = w / w.sum()
    residual = (y - prior.mean(conditions, context).flatten(1)) * share.sqrt().float()[:, None]
    if len(prior.factors):
        prior.factors.copy_(principal_factors(residual, len(prior.factors)))
    if prior.fields is not None:
        _fit_fields(prior, residual, prior.features.group(conditions), share)
        return
    variance = residual.square().sum(0) - prior.factors.square().sum(0)
    sigma = variance.clamp(min=1e-4).sqrt().reshape(prior.sigma.shape)
    prior.sigma.copy_(_few_digits(sigma) if len(prior.maps) else sigma)


@torch.no_grad()
def fit_fields(prior: GaussianPrior, conditions: ConditionBatch, target: Tensor, weight: Tensor | None) -> None:
    """Fields and sigma alone, from what a mean and factors leave that stay as they are. As for :func:`fit_prior`."""
    w = torch.ones(len(target), dtype=torch.float64) if weight is None else weight.double()
    share = w / w.sum()
    residual = (target - prior.mean(conditions)).flatten(1) * share.sqrt().float()[:, None]
    _fit_fields(prior, residual, prior.features.group(conditions), share)


def _few_digits(sigma: Tensor) -> Tensor:
    """Three binary digits, for a small file."""
    return rounded(sigma, sigma / 4)


def _fit_fields(prior: GaussianPrior, residual: Tensor, group: Tensor, share: Tensor) -> None:
    """Fields and sigma of each group from what the factors leave of its rows (n,P); one without rows has none.

    share (n,): of each row in the whole; the rows are times its root already.
    """
    if prior.fields is None:
        raise ValueError("the prior has no fields to fit")
    unit = torch.nn.functional.normalize(prior.factors, dim=1)  # the factors are orthogonal
    rest = residual - residual @ unit.T @ unit
    for i in group.unique().tolist():
        mine = group == i
        size = share[mine].sum().sqrt().float()
        rows = rest[mine].reshape(-1, *prior.shape) / size
        prior.sigma[i] = _few_digits(fit_group(prior.fields, i, rows).clamp(min=1e-4).sqrt())
        if len(unit):
            prior.mixing[i] = _mixing(prior, i, residual[mine] @ unit.T / size)


def _mixing(prior: GaussianPrior, group: int, scores: Tensor) -> Tensor:
    """A (K,K) by which the factors of a group vary as its rows' scores (n,K) on them do, together with the fields and
    sigma, which have a share in every direction. The squares of the rows' weights add up to 1.
    """
    length = prior.factors.norm(dim=1, keepdim=True).clamp(min=1e-12)
    unit = prior.factors / length
    of_fields = prior.fields.covariance(group, unit.reshape(-1, *prior.shape))
    own = (unit * prior.sigma[group].square().flatten()) @ unit.T
    sizes, turned = torch.linalg.eigh((scores.T @ scores - of_fields - own).double())
    return (sizes.clamp(min=0).sqrt()[:, None] * turned.T / length.T).float()


def principal_factors(rows: Tensor, count: int) -> Tensor:
    """W (count,P) of the covariance rows^T rows = W^T W + noise, for rows (n,P); ConfigError unless n > count.

    Probabilistic principal components (Tipping and Bishop, 1999): the mean variance of the directions that are left
    out is noise in those that are kept too.
    """
    if count >= len(rows):
        raise ConfigError(
            "train.prior_factors", f"prior_factors asks for {count} factors of {len(rows)} volumes.",
            "Set it below the number of volumes, or to 0.",
        )
    values, directions = _principal(rows, count)
    noise = (rows.square().sum() - values.sum()) / (rows.shape[1] - count)
    return directions * (values - noise).clamp(min=0).sqrt()[:, None]


def ridge(design: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Coefficients (F,P) of the weighted ridge regression of y (n,P) float32 on the design (n,F) float64."""
    return torch.linalg.solve(_gram(design, weight), ((design * weight[:, None]).T.float() @ y).double())


def _gram(design: Tensor, weight: Tensor) -> Tensor:
    return (design * weight[:, None]).T @ design + RIDGE * torch.eye(design.shape[1], dtype=torch.float64)


def reliable_part(
    solution: Tensor, design: Tensor, y: Tensor, weight: Tensor, reliability: Reliability
) -> Tensor:
    """Coefficients (F,P) in which effects of a low split-half reliability are no more than a multiple of reliable ones.

    The effect of a column is what it adds to those before it (Gram and Schmidt). Between halves of the subjects a true
    effect agrees and noise does not: with S the product of their two estimates and N a quarter of the square of their
    difference, the whole's reliability is S / (S + N) (Spearman and Brown). With few subjects most of an effect that is
    not reliable, such as that of age on the rate of change, is noise all over the brain; but how much of the reliable
    effects it holds (the old change as the ill do, by so much) is one number each, that all the elements tell together.
    """
    to_effects = torch.linalg.cholesky(_gram(design, weight)).T
    order = {subject: i for i, subject in enumerate(sorted(set(reliability.subjects)))}
    odd = torch.tensor([order[subject] % 2 == 1 for subject in reliability.subjects])
    a, b = (to_effects @ ridge(design[half], y[half], weight[half]) for half in (odd, ~odd))
    signal, noise = (a * b).sum(1), (a - b).square().sum(1) / 4
    kept = signal > reliability.least * (signal + noise)
    effects = to_effects @ solution
    shares = torch.linalg.lstsq(effects[kept].T, effects[~kept].T).solution  # (reliable, others)
    effects[~kept] = shares.T @ effects[kept]
    return torch.linalg.solve_triangular(to_effects, effects, upper=True)


@torch.no_grad()
def _fit_components(prior: GaussianPrior, context: Tensor) -> None:
    """Leading principal components of the baselines, scaled so that their scores have unit variance."""
    flat = context.flatten(1)
    prior.centre.copy_(flat.mean(0))
    centred = flat - prior.centre
    values, directions = _principal(centred, len(prior.components))
    prior.components.copy_(directions * (len(flat) / values).sqrt()[:, None])


def _principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues (count,) of rows^T rows, and their unit eigenvectors (count,P), for rows (n,P)."""
    values, vectors = torch.linalg.eigh((rows @ rows.T).double())  # (n,n): far fewer rows than columns
    top = values[-count:].float()
    return top, (rows.T @ vectors[:, -count:].float()).T / top.sqrt()[:, None]
