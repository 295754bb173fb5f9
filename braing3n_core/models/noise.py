"""What brains are drawn from, where it is not white noise (ADR 25).

A flow that has learnt everything carries white noise to brains, and scans back to white noise. One that has not
leaves in the noise of scans what it did not learn of how tokens vary together: it has a colour. Brains are then drawn
from noise of that colour: white noise whose cosine transform over the token grid is multiplied, in each band of spatial
frequency, by the root of the channels' covariance there.

Shape legend: B batch, M contrasts, K bands, N tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import GRID

BAND_EDGES: tuple[float, ...] = (0.12, 0.25, 0.4, 0.6, 0.8, 1.0)
"""Between the bands, in units of the highest frequency along an axis."""
BANDS = len(BAND_EDGES) + 1


def cosine_matrix(size: int) -> Tensor:
    """The orthonormal discrete cosine transform (size,size) of the second kind; row k has frequency k."""
    k, n = torch.arange(size).double()[:, None], torch.arange(size).double()[None]
    matrix = math.sqrt(2 / size) * torch.cos(math.pi * k * (n + 0.5) / size)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def to_frequencies(x: Tensor, *, back: bool = False) -> Tensor:
    """Token maps (...,N,C) to their cosine transforms over the grid, or ``back``; both keep lengths."""
    maps = x.unflatten(-2, GRID)
    for axis, size in enumerate(GRID):
        matrix = cosine_matrix(size).to(x)
        maps = torch.movedim(torch.tensordot(maps, matrix, dims=([axis - 4], [0 if back else 1])), -1, axis - 4)
    return maps.flatten(-4, -2)


def frequencies() -> Tensor:
    """Distance (N,) of each wave of the grid from the constant one; 1 is the highest frequency of an axis."""
    axes = torch.meshgrid(*(torch.arange(n) / n for n in GRID), indexing="ij")
    return torch.stack(axes).norm(dim=0).flatten()


def bands() -> Tensor:
    """The band (N,) of each frequency of the grid."""
    return torch.bucketize(frequencies(), torch.tensor(BAND_EDGES), right=True)


class NoiseColour(nn.Module):
    """For each contrast and band the root (M,K,C,C) of the channels' covariance; the identity is white."""

    roots: Tensor

    def __init__(self, contrasts: Sequence[str], channels: int) -> None:
        super().__init__()
        self.contrasts = tuple(contrasts)
        self.register_buffer("roots", torch.eye(channels).repeat(len(contrasts), BANDS, 1, 1))

    def forward(self, white: Tensor, contrasts: Sequence[str]) -> Tensor:
        """White noises (B,N,C), each in the colour of its contrast."""
        roots = self.roots[[self.contrasts.index(contrast) for contrast in contrasts]].to(white)
        return to_frequencies(torch.einsum("bncd,bnd->bnc", roots[:, bands()], to_frequencies(white)), back=True)
