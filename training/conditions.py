"""Labels of store records as the models' conditions, and the closed-form fit of the Gaussian prior (ADR 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from braing3n_core.errors import ConfigError
from braing3n_core.models.conditions import ConditionBatch, ConditionSpec
from braing3n_core.models.prior import GaussianPrior

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


@torch.no_grad()
def fit_prior(
    prior: GaussianPrior, conditions: ConditionBatch, target: Tensor, *, context: Tensor | None = None,
    weight: Tensor | None = None, rank: int = 0,
) -> None:
    """Weighted ridge regression of the target (n,N,C) on the conditions (and the baseline's components).

    weight (n,): importance of each row. The residual's standard deviation becomes sigma. rank: directions of the target
    that the conditions may move it in, the strongest ones (reduced-rank regression); 0 keeps all. With few rows most of
    the others are noise.
    """
    row, known = prior.features.rows(conditions)
    prior.features.averages.copy_((row * known).sum(0) / known.sum(0).clamp(min=1))
    if context is not None and len(prior.components):
        _fit_components(prior, context)
    design = prior.design(conditions, context).double()
    w = torch.ones(len(design), dtype=torch.float64) if weight is None else weight.double()
    y = target.flatten(1)
    penalty = RIDGE * torch.eye(design.shape[1], dtype=torch.float64)
    weighted = design * w[:, None]
    gram = weighted.T @ design + penalty
    solution = torch.linalg.solve(gram, (weighted.T.float() @ y).double())
    if rank:
        kept = torch.linalg.svd(torch.linalg.cholesky(gram).T @ solution, full_matrices=False).Vh[:rank]
        solution = solution @ kept.T @ kept
    prior.weight.copy_(solution.float())
    residual = y - (design.float() @ prior.weight)
    variance = (residual.square() * w.float()[:, None]).sum(0) / w.sum().float()
    prior.sigma.copy_(variance.sqrt().clamp(min=1e-2).reshape(prior.sigma.shape))


@torch.no_grad()
def _fit_components(prior: GaussianPrior, context: Tensor) -> None:
    """Leading principal components of the baselines, scaled so that their scores have unit variance."""
    flat = context.flatten(1)
    prior.centre.copy_(flat.mean(0))
    centred = flat - prior.centre
    values, vectors = torch.linalg.eigh((centred @ centred.T).double())  # (n,n): far fewer rows than columns
    count = len(prior.components)
    top = vectors[:, -count:].float() / values[-count:].sqrt().float()
    prior.components.copy_((centred.T @ top).T / values[-count:].sqrt().float()[:, None] * len(flat) ** 0.5)
