"""Phase 2: projection to latents and convolutional decoder (paper, section 2.2).

Shape legend: B batch, N = 1200 tokens, D encoder width, C latent channels, X Y Z voxels of the model grid.
``z' = z P`` is the space that the probes read and the DiT generates; here it is also standardised per channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import GRID, PATCH, Attention, ResBlock, pixel_shuffle_3d, pixel_unshuffle_3d, unpatchify


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of projection and decoder; the defaults are the paper's where it gives them.

    widths: channels at 10^3, 20^3, ... ; blocks: residual blocks a level; last_factor: final pixel-shuffle to voxels.
    linear_rank: rank of the linear reading that the convolutions see and correct (ADR 13); 0, the paper: none.
    """

    encoder_width: int = 1152
    channels: int = 32
    # Unspecified in the paper: only "ResBlocks + attention, 43.7M parameters"; these give 43.64M (ADR 4).
    widths: tuple[int, ...] = (512, 256, 128, 64)
    blocks: tuple[int, ...] = (1, 2, 5, 4)
    last_factor: int = 2
    num_heads: int = 8
    linear_rank: int = 0


class LinearReading(nn.Module):
    """Every patch as a linear function of the latents of its 3 x 3 x 3 neighbourhood: (B,C,10,12,10) -> volume."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.gather = nn.Conv3d(channels, rank, 3, padding=1)
        self.voxels = nn.Linear(rank, PATCH**3)

    def forward(self, latents: Tensor) -> Tensor:
        return unpatchify(self.voxels(self.gather(latents).flatten(2).transpose(1, 2)))


class SpatialAttention(nn.Module):
    """Self-attention over the positions of a feature map (B,C,x,y,z)."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attn = Attention(channels, num_heads)
        nn.init.zeros_(self.attn.out.weight)
        nn.init.zeros_(self.attn.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, xyz, C)
        return x + self.attn(self.norm(tokens)).transpose(1, 2).reshape(x.shape)


class Decoder(nn.Module):
    """Latents to voxels: (B,N,C) -> (B,1,160,192,160), z-scored intensities."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        first, last = config.widths[0], config.widths[-1]
        self.conv_in = nn.Conv3d(config.channels, first, 3, padding=1)
        self.middle = nn.Sequential(ResBlock(first), SpatialAttention(first, config.num_heads))
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResBlock(w) for _ in range(n))) for w, n in zip(config.widths, config.blocks, strict=True)
        )
        self.ups = nn.ModuleList(
            nn.Conv3d(a, b * 8, 1) for a, b in zip(config.widths[:-1], config.widths[1:], strict=True)
        )
        self.norm_out = nn.GroupNorm(8, last)
        self.conv_out = nn.Conv3d(last, config.last_factor**3, 3, padding=1)
        self.linear = LinearReading(config.channels, config.linear_rank) if config.linear_rank else None
        if self.linear is not None:
            self.refine = nn.Conv3d(config.last_factor**3, last, 3, padding=1)
            nn.init.zeros_(self.conv_out.weight)  # the convolutions start at no correction
            nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, latents: Tensor) -> Tensor:
        factor = self.config.last_factor
        grid = latents.transpose(1, 2).reshape(len(latents), -1, *GRID)  # (B,C,10,12,10)
        linear = None if self.linear is None else self.linear(grid)
        x = self.levels[0](self.middle(self.conv_in(grid)))
        for up, level in zip(self.ups, self.levels[1:], strict=True):
            x = pixel_shuffle_3d(up(x), 2)
            if linear is not None and level is self.levels[-1]:
                x = x + self.refine(pixel_unshuffle_3d(linear, factor))
            x = level(x)
        volume = pixel_shuffle_3d(self.conv_out(F.silu(self.norm_out(x))), factor)
        return volume if linear is None else volume + linear


class Tokenizer(nn.Module):
    """Projection D -> C with its standardisation, and the decoder. The encoder stays outside, frozen."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.encoder_width, config.channels)
        self.register_buffer("latent_mean", torch.zeros(config.channels))
        self.register_buffer("latent_std", torch.ones(config.channels))
        self.decoder = Decoder(config)

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens (B,N,D) -> standardised latents (B,N,C), float32."""
        latents = self.projection(tokens).float()
        return (latents - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (B,N,C) -> voxels (B,1,X,Y,Z), z-scored, float32."""
        return self.decoder(latents * self.latent_std + self.latent_mean).float()
