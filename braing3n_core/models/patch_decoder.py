"""The small preset's decoder: overlapping patches, each put together from a dictionary by a transformer.

Shape legend: B batch, N = 1200 tokens, C latent channels, D width, R atoms of the dictionary, W = 16 + 2 overlap, the
side of a decoded patch. Where the paper's decoder works its way up to the voxels by convolutions, this one decides all
on the token grid, where a volume is 1200 places and not five million, and so learns in an hour of two CPU cores
(ADR 20).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import GRID, NUM_TOKENS, PATCH, Block


@dataclass(frozen=True)
class PatchDecoderConfig:
    """atoms: R, size of the dictionary of tissue, 0: no such decoder. mask_atoms: M, of that of the brain's outline.

    overlap: voxels by which a patch reaches into the next.
    """

    atoms: int = 0
    mask_atoms: int = 64
    width: int = 256
    depth: int = 3
    num_heads: int = 8
    overlap: int = 2

    @property
    def side(self) -> int:
        """W, voxels along one side of a decoded patch."""
        return PATCH + 2 * self.overlap


class PatchDecoder(nn.Module):
    """Latents to voxels: (B,N,C) -> (B,1,160,192,160), z-scored intensities.

    A patch's weights in the two dictionaries are a linear function of the latents of the 3 x 3 x 3 tokens around it and
    of its place, plus what the transformer adds. Tissue goes on beyond the brain, where the outline cuts it off: a
    brain without its skull ends in a step, which no small dictionary could say together with what is inside.
    """

    def __init__(self, channels: int, config: PatchDecoderConfig) -> None:
        super().__init__()
        self.config = config
        atoms = config.atoms + config.mask_atoms
        self.linear = nn.Conv3d(channels, atoms, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(1, NUM_TOKENS, config.width))
        self.place = nn.Linear(config.width, atoms, bias=False)
        self.embed = nn.Conv3d(channels, config.width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(config.width, config.num_heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.correction = nn.Linear(config.width, atoms)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        self.to_voxels = ToVoxels(config)

    def weights(self, latents: Tensor) -> Tensor:
        """Latents (B,N,C) -> weights of the atoms of tissue and outline (B,N,R+M)."""
        grid = latents.transpose(1, 2).reshape(len(latents), -1, *GRID)
        x = self.embed(grid).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        linear = self.linear(grid).flatten(2).transpose(1, 2) + self.place(self.position)
        return linear + self.correction(self.norm(x))

    def forward(self, latents: Tensor) -> Tensor:
        volume: Tensor = self.to_voxels(self.weights(latents))
        return volume


class ToVoxels(nn.Module):
    """Weights of the atoms (B,N,R+M) -> volume (B,1,X,Y,Z)."""

    def __init__(self, config: PatchDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.tissue = nn.Linear(config.atoms, config.side**3)
        self.mask = nn.Linear(config.mask_atoms, config.side**3)

    def forward(self, weights: Tensor) -> Tensor:
        # In float32 under autocast too: bfloat16 has three digits, and a picture needs more.
        with torch.autocast(weights.device.type, enabled=False):
            tissue, mask = weights.to(self.tissue.weight).split([self.config.atoms, self.config.mask_atoms], dim=-1)
            inside = fade_together(self.mask(mask), self.config.overlap)
            # Three times as steep about one half: a truncated sum of atoms rings a little around 0 and 1.
            inside = (3 * inside - 1).clamp(0, 1)
            return cut_out(fade_together(self.tissue(tissue), self.config.overlap), inside)


def cut_out(tissue: Tensor, inside: Tensor) -> Tensor:
    """Tissue where the brain is (``inside`` 1) and background elsewhere, both (B,1,X,Y,Z).

    A z-scored volume has mean 0, so the value of the background follows from the brain.
    """
    axes = (1, 2, 3, 4)
    brain = tissue * inside
    outside = (1 - inside).mean(axes, keepdim=True).clamp(min=1e-3)
    return brain - (1 - inside) * brain.mean(axes, keepdim=True) / outside


def overlapping_patches(volume: Tensor, overlap: int) -> Tensor:
    """(B,1,X,Y,Z) -> (B,N,W^3); beyond the volume its smallest value goes on. C order as in ``layers.patchify``."""
    side = PATCH + 2 * overlap
    low = volume.amin(dim=(1, 2, 3, 4), keepdim=True)
    padded = F.pad(volume - low, (overlap,) * 6) + low
    for axis in (2, 3, 4):
        padded = padded.unfold(axis, side, PATCH)
    return padded.flatten(5).flatten(1, 4)


def fade_together(patches: Tensor, overlap: int, grid: Sequence[int] = GRID) -> Tensor:
    """Overlapping patches (B,N,W^3) -> (B,1,X,Y,Z), linearly faded into each other across 2 overlap voxels."""
    side = PATCH + 2 * overlap
    x = patches.reshape(-1, *grid, side, side, side).permute(0, 1, 4, 2, 5, 3, 6)
    for axis in range(3):
        x = _fade_axis(x, 1 + axis, overlap)
    return x[:, None]


def _fade_axis(x: Tensor, axis: int, overlap: int) -> Tensor:
    """Join one axis: (..., g, W, ...) at ``axis`` and the next -> (..., 16 g, ...)."""
    x = x.movedim((axis, axis + 1), (-2, -1))
    ramp = _ramp(overlap, x)
    x, share = _join(x * ramp, overlap), _join(ramp.expand(x.shape[-2], -1), overlap)
    return (x / share).movedim(-1, axis)


def _ramp(overlap: int, like: Tensor) -> Tensor:
    """(W,) weights along a patch that add up to 1 with those of its neighbours."""
    up = (torch.arange(2 * overlap, dtype=like.dtype, device=like.device) + 0.5) / max(2 * overlap, 1)
    return torch.cat([up, up.new_ones(PATCH - 2 * overlap), up.flip(0)])


def _join(x: Tensor, overlap: int) -> Tensor:
    """Add up patches (..., g, W) that begin every 16 places: (..., 16 g), without what lies beyond the ends."""
    count = x.shape[-2]
    body, tail = x[..., :PATCH], x[..., PATCH:]
    line = F.pad(body, (0, 0, 0, 1)) + F.pad(tail, (0, PATCH - 2 * overlap, 1, 0))
    return line.flatten(-2)[..., overlap : overlap + PATCH * count]
