"""The fields of a Gaussian prior from what its mean and its factors leave (ADR 29), in closed form but for their turns.

A token's maps are its leading principal components, K of them. Which direction in one token goes with which in the next
they do not say: any turn of the K is as good. The turns are chosen for neighbours to agree (Procrustes, in turn for the
black and the white cells of the grid); what agrees is smooth, and the cosine transform says how smooth.

Shape legend: R rows, N tokens, C channels, K fields, M waves, E pairs of neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from braing3n_core.models.fields import TokenFields
from braing3n_core.models.layers import GRID, NUM_TOKENS

ROUNDS = 20
"""Of turning black and white cells; eighty more rounds let neighbours agree by a two-hundredth more."""
PASSES = 5
"""From the smoothness of the fields to their size in each token and back."""
LEAST_OWN = 0.01
"""Share of an element's variance that is its own at least: near the brain it is divided by."""


def fit_group(fields: TokenFields, group: int, rest: Tensor) -> Tensor:
    """Fill in the fields of one group, and return the variance (N,C) that they leave.

    rest (R,N,C): what mean and factors leave, each row times the root of its weight, the weights' sum being 1.
    """
    maps, amounts = components(rest, fields.maps.shape[-1])
    turn = turns(amounts)
    maps, amounts = maps @ turn, torch.einsum("rnk,nkl->rnl", amounts, turn)
    size = torch.ones_like(maps[:, 0])  # (N,K), of each field in each token: waves are larger at the grid's edges
    waves = fields.waves.values.to(rest)
    for _ in range(PASSES):
        level, spectrum = smoothness(amounts * size, waves)
        size = (level + waves.square().T @ spectrum).sqrt()
    fields.keep_maps(group, maps / size[:, None])
    fields.level[group], fields.spectrum[group] = level, spectrum
    every = rest.square().sum(0)
    return torch.maximum(every - maps.square().sum(-1), LEAST_OWN * every)


def components(rest: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each token's leading directions with their standard deviations (N,C,K), and the rows' amounts of them (R,N,K).

    The sum of squares of an amount over the rows is 1.
    """
    values, vectors = torch.linalg.eigh(torch.einsum("rnc,rnd->ncd", rest, rest))
    size = values[:, -count:].clamp(min=1e-12).sqrt()[:, None]
    vectors = vectors[:, :, -count:]
    return vectors * size, torch.einsum("rnc,nck->rnk", rest, vectors / size)


def smoothness(amounts: Tensor, waves: Tensor) -> tuple[Tensor, Tensor]:
    """What of fields (R,N,K) varies from token to token (K,), and what the waves (M,N) add to it (M,K)."""
    power = torch.einsum("mn,rnk->rmk", waves, amounts).square().sum(0)
    level = (amounts.square().sum((0, 1)) - power.sum(0)) / (NUM_TOKENS - len(waves))
    return level, (power - level).clamp(min=0)


def turns(amounts: Tensor) -> Tensor:
    """Orthogonal matrices (N,K,K) by which neighbours' amounts (R,N,K) agree as well as can be found.

    They start from the middle of the brain and grow outward, each token turned to those before it.
    """
    first, second = neighbours()
    agree = torch.einsum("rek,rel->ekl", amounts[:, first], amounts[:, second])
    found = torch.eye(amounts.shape[-1]).to(amounts).repeat(NUM_TOKENS, 1, 1)
    steps = distance_from_middle()
    outward = [(steps == distance, steps < distance) for distance in range(1, int(steps.max()) + 1)]
    black = steps % 2 == 0  # all neighbours of a black cell are white
    for cells, known in [*outward, *[(black, ~black), (~black, black)] * ROUNDS]:
        use = cells[first] & known[second]
        wanted = torch.zeros_like(found).index_add_(0, first[use], agree[use] @ found[second[use]])
        left, _, right = torch.linalg.svd(wanted[cells])
        found[cells] = left @ right
    return found


def neighbours() -> tuple[Tensor, Tensor]:
    """All pairs of tokens (E,), (E,) that share a face, each both ways."""
    index = torch.arange(NUM_TOKENS).reshape(GRID)
    ways = [(index.narrow(axis, 0, n - 1), index.narrow(axis, 1, n - 1)) for axis, n in enumerate(GRID)]
    one = torch.cat([low.flatten() for low, _ in ways])
    other = torch.cat([high.flatten() for _, high in ways])
    return torch.cat([one, other]), torch.cat([other, one])


def distance_from_middle() -> Tensor:
    """Steps (N,) from cell to cell, from the middle of the grid."""
    axes = torch.meshgrid(*(torch.arange(n) for n in GRID), indexing="ij")
    return sum((axis - n // 2).abs() for axis, n in zip(axes, GRID, strict=True)).flatten()

