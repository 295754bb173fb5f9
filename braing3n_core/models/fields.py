"""Smooth fields over the token grid, which each token shows in its own way (ADR 29).

What moves in brains (a sulcus, the wall of a ventricle, the outline) moves smoothly, and a token's latents answer to
such a movement by what lies in it. So K fields move the elements of a token through maps B_i of its own, and they
vary in M smooth waves phi and, with what is left, from token to token:

    S = diag(sigma^2) + blocks of B_i diag(level) B_i^T + sum over m, k of spectrum_mk (phi_m B_k) (phi_m B_k)^T + W^T W

with the factors W of the group. With C_t = t^2 S + (1-t)^2 I the expected velocity is (t S - (1-t) I) C_t^-1 offset. A
token's own part of C_t is inverted through K by K matrices, the rest through one of M K + F rows (Woodbury, twice).

Shape legend: B batch, N tokens, C channels, P = N C, G groups, K fields, M waves, F factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from .layers import GRID, NUM_TOKENS
from .noise import cosine_matrix, frequencies


@dataclass(frozen=True)
class Waves:
    """The orthonormal cosine waves (M,N) of the lowest frequencies, the constant one first, in float64.

    Two of them multiply along each axis for itself, and few different products come of that. along: of each axis the
    products (Q,n) of any two of its cosines. pairs (M,M): where, among all Q Q Q, that of two waves is.
    """

    values: Tensor
    along: tuple[Tensor, ...]
    pairs: Tensor

    def summed_products(self, x: Tensor) -> Tensor:
        """The sums over the tokens of two waves times x (N,D): (M,M,D)."""
        found = x.unflatten(0, GRID)
        for products in self.along:
            found = torch.tensordot(found, products, dims=([0], [1]))
        return found.flatten(1).T[self.pairs]


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)  # what is kept must serve training too
def smoothest_waves(count: int, device: str = "cpu") -> Waves:
    """So many, on this device."""
    values, along, pairs = torch.ones(count, 1, dtype=torch.float64), [], torch.zeros(count, count, dtype=torch.long)
    chosen = frequencies().argsort(stable=True)[:count]
    for size, frequency in zip(GRID, torch.unravel_index(chosen, GRID), strict=True):
        used = int(frequency.max()) + 1
        cosines = cosine_matrix(size)[:used].double()
        values = (values[:, :, None] * cosines[frequency][:, None]).flatten(1)
        first, second = torch.triu_indices(used, used)
        along.append((cosines[first] * cosines[second]).to(device))
        place = torch.zeros(used, used, dtype=torch.long)
        place[first, second] = place[second, first] = torch.arange(len(first))
        pairs = pairs * len(first) + place[frequency[:, None], frequency]
    return Waves(values.to(device), tuple(along), pairs.to(device))


class TokenFields(nn.Module):
    """level (G,K), spectrum (G,M,K): see the module; without a fit all zero. The maps are kept in whole numbers
    (G,N,C,K) of at most 127 times the steps (G,N,C).
    """

    maps: Tensor
    steps: Tensor
    level: Tensor
    spectrum: Tensor

    def __init__(self, groups: int, channels: int, *, count: int, waves: int) -> None:
        super().__init__()
        self.register_buffer("maps", torch.zeros(groups, NUM_TOKENS, channels, count, dtype=torch.int8))
        self.register_buffer("steps", torch.zeros(groups, NUM_TOKENS, channels))
        self.register_buffer("level", torch.zeros(groups, count))
        self.register_buffer("spectrum", torch.zeros(groups, waves, count))

    @property
    def waves(self) -> Waves:
        """Those that the fields vary in."""
        return smoothest_waves(self.spectrum.shape[1], str(self.spectrum.device))

    def maps_of(self, group: int) -> Tensor:
        """(N,C,K) of one group."""
        return self.steps[group][..., None] * self.maps[group]

    @torch.no_grad()
    def keep_maps(self, group: int, maps: Tensor) -> None:
        """Keep (N,C,K) as the maps of a group, to a 254th of the largest of each element."""
        self.steps[group] = maps.abs().amax(-1) / 127
        self.maps[group] = (maps / self.steps[group][..., None].clamp(min=1e-30)).round().to(torch.int8)

    def variance(self, group: int) -> Tensor:
        """(N,C) that the fields of a group give to each element."""
        of_fields = self.waves.values.to(self.spectrum).square().T @ self.spectrum[group] + self.level[group]
        return torch.einsum("nck,nk->nc", self.maps_of(group).square(), of_fields)

    def covariance(self, group: int, directions: Tensor) -> Tensor:
        """(R,R) that the fields of a group give to each two of the directions (R,N,C)."""
        amounts = torch.einsum("nck,rnc->rnk", self.maps_of(group), directions)
        local = (amounts * self.level[group].sqrt()).flatten(1)
        smooth = (self.waves.values.to(self.spectrum) @ amounts * self.spectrum[group].sqrt()).flatten(1)
        return local @ local.T + smooth @ smooth.T

    def velocity(self, offset: Tensor, time: Tensor, group: int, sigma: Tensor, factors: Tensor) -> Tensor:
        """(t S - (1-t) I) C_t^-1 offset (B,N,C) at one time (scalar) of one group, in float64.

        sigma (N,C), factors (F,P).
        """
        return self._part(time, group, sigma, factors).velocity(offset.double())

    def common(self, offset: Tensor, time: Tensor, group: int, sigma: Tensor, factors: Tensor) -> Tensor:
        """Of offsets (B,N,C) from the mean in one group what waves and factors are expected to have moved, in float64,
        read as surely as at one time (scalar).

        sigma (N,C), factors (F,P).
        """
        return self._part(time, group, sigma, factors).common(offset.double())

    def _part(self, time: Tensor, group: int, sigma: Tensor, factors: Tensor) -> _Part:
        return _Part(
            time.double(), sigma.double(), self.maps_of(group).double(), self.level[group].double(),
            self.spectrum[group].double().sqrt(), self.waves, factors.double().reshape(-1, *sigma.shape),
        )


@dataclass
class _Part:
    """One group at one time, in float64; root is that of the spectrum."""

    time: Tensor
    sigma: Tensor
    maps: Tensor
    level: Tensor
    root: Tensor
    waves: Waves
    factors: Tensor

    def __post_init__(self) -> None:
        self.square = self.time**2
        self.own = self.square * self.sigma**2 + (1 - self.time) ** 2  # (N,C)
        gram = torch.einsum("nck,nc,ncl->nkl", self.maps, 1 / self.own, self.maps)
        inverse = torch.linalg.inv(torch.eye(len(self.level)).to(gram) + self.square * gram * self.level)
        self.shrink = self.square * self.level[:, None] * inverse  # (N,K,K)
        self.seen = inverse @ gram  # B_i^T (token's own part of C_t)^-1 B_i
        solved = self.own_solve(self.factors)
        seen = self.waves.summed_products(self.seen.flatten(1)).unflatten(2, self.seen.shape[1:]).transpose(1, 2)
        smooth = (self.root[:, :, None, None] * seen * self.root).flatten(2).flatten(0, 1)
        mixed = self.to_waves(solved)
        plain = solved.flatten(1) @ self.factors.flatten(1).T
        inner = self.square * torch.cat([torch.cat([smooth, mixed.T], 1), torch.cat([mixed, plain], 1)])
        self.inner = torch.linalg.cholesky(inner + torch.eye(len(inner)).to(inner))

    def own_solve(self, y: Tensor) -> Tensor:
        """(C_t without waves and factors)^-1 y, for y (B,N,C)."""
        y = y / self.own
        amount = torch.einsum("nkl,bnl->bnk", self.shrink, self.amounts(y))
        return y - torch.einsum("nck,bnk->bnc", self.maps, amount) / self.own

    def amounts(self, y: Tensor) -> Tensor:
        """How much of each field is in each token of y (B,N,C): (B,N,K)."""
        return torch.einsum("nck,bnc->bnk", self.maps, y)

    def to_waves(self, y: Tensor) -> Tensor:
        """How much of each wave of each field is in y (B,N,C): (B,MK)."""
        return (self.root * (self.waves.values @ self.amounts(y))).flatten(1)

    def from_waves(self, amount: Tensor) -> Tensor:
        """The transpose of :meth:`to_waves`."""
        fields = self.waves.values.T @ (self.root * amount.unflatten(1, self.root.shape))
        return torch.einsum("nck,bnk->bnc", self.maps, fields)

    def velocity(self, offset: Tensor) -> Tensor:
        x = self._solve(offset)
        local = torch.einsum("nck,bnk->bnc", self.maps, self.level * self.amounts(x))
        of_target = self.sigma**2 * x + local + self._together(self._scores(x))  # S C_t^-1 offset
        return self.time * of_target - (1 - self.time) * x

    def common(self, offset: Tensor) -> Tensor:
        return self.time**2 * self._together(self._scores(self._solve(offset)))

    def _solve(self, offset: Tensor) -> Tensor:
        """C_t^-1 offset."""
        scores = torch.cholesky_solve(self._scores(self.own_solve(offset)).T, self.inner).T
        return self.own_solve(offset - self.square * self._together(scores))

    def _scores(self, y: Tensor) -> Tensor:
        """How much of the waves and the factors is in y (B,N,C): (B, MK + F)."""
        return torch.cat([self.to_waves(y), y.flatten(1) @ self.factors.flatten(1).T], 1)

    def _together(self, scores: Tensor) -> Tensor:
        """What such scores move, (B,N,C)."""
        waves, factors = scores.split([self.root.numel(), len(self.factors)], dim=1)
        return self.from_waves(waves) + torch.einsum("bf,fnc->bnc", factors, self.factors)
