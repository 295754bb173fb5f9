"""Phase 2: projection to latents and convolutional decoder (paper, section 2.2).

Shape legend: B batch, N = 1200 tokens, D encoder width, C latent channels, X Y Z voxels of the model grid.
``z' = z P`` is the space that the probes read and the DiT generates; here it is also standardised per channel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import GRID, Attention, ResBlock, pixel_shuffle_3d
from .patch_decoder import PatchDecoder, PatchDecoderConfig


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of projection and decoder; the defaults are the paper's where it gives them.

    widths: channels at 10^3, 20^3, ... ; blocks: residual blocks a level; last_factor: final pixel-shuffle to voxels.
    patches: the small preset's decoder of overlapping patches; where it has atoms it takes the convolutions' place.
    """

    encoder_width: int = 1152
    channels: int = 32
    # Unspecified in the paper: only "ResBlocks + attention, 43.7M parameters"; these give 43.64M (ADR 4).
    widths: tuple[int, ...] = (512, 256, 128, 64)
    blocks: tuple[int, ...] = (1, 2, 5, 4)
    last_factor: int = 2
    num_heads: int = 8
    patches: PatchDecoderConfig = field(default_factory=PatchDecoderConfig)


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

    @property
    def to_voxels(self) -> nn.Module:
        """The last layer, which a half-precision run leaves in float32."""
        return self.conv_out

    def forward(self, latents: Tensor) -> Tensor:
        grid = latents.transpose(1, 2).reshape(len(latents), -1, *GRID)  # (B,C,10,12,10)
        x = self.levels[0](self.middle(self.conv_in(grid)))
        for up, level in zip(self.ups, self.levels[1:], strict=True):
            x = level(pixel_shuffle_3d(up(x), 2))
        return pixel_shuffle_3d(self.conv_out(F.silu(self.norm_out(x))), self.config.last_factor)


class Tokenizer(nn.Module):
    """Projection D -> C with its standardisation, and the decoder. The encoder stays outside, frozen."""

    KEEP_FLOAT32 = ("latent_mean", "latent_std")
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.encoder_width, config.channels)
        self.register_buffer("latent_mean", torch.zeros(config.channels))
        self.register_buffer("latent_std", torch.ones(config.channels))
        patches = config.patches
        self.decoder = PatchDecoder(config.channels, patches) if patches.atoms else Decoder(config)

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens (B,N,D) -> standardised latents (B,N,C), float32."""
        latents = self.projection(tokens).float()
        return (latents - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (B,N,C) -> voxels (B,1,X,Y,Z), z-scored, float32."""
        return self.decoder(latents * self.latent_std + self.latent_mean).float()
