"""Phase 1: the 3D masked autoencoder (paper, section 2.1).

Shape legend: B batch, N = 1200 tokens, K kept tokens, D width, P = 16^3 voxels a patch.
A ViT encodes the visible 30 % of the patches; a light ViT decoder rebuilds the masked ones under mean squared error.
Downstream only the :class:`Encoder` is kept, frozen, and sees every patch; its CLS token is stripped from the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import GRID, NUM_TOKENS, PATCH, Block, patch_histograms, patchify, sincos_positions


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoder; the defaults are the paper's.

    histogram_bins: the embedding of a patch also sees its histogram with so many bins (0: voxels alone, ADR 14).
    """

    width: int = 1152
    depth: int = 12
    num_heads: int = 16
    mlp_ratio: float = 4.0
    qkv_bias: bool = True  # Unspecified in the paper: the usual ViT choice.
    histogram_bins: int = 0  # Deviation: ADR 14.


@dataclass(frozen=True)
class MAEConfig:
    """The masked autoencoder; the defaults are the paper's."""

    encoder: EncoderConfig = EncoderConfig()
    decoder_width: int = 512  # Unspecified in the paper: lost in the text at hand, the usual MAE width.
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    mask_ratio: float = 0.7


class Encoder(nn.Module):
    """Volume to tokens: (B,1,160,192,160) z-scored -> (B,1200,D)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Linear(PATCH**3, config.width)
        bins = config.histogram_bins
        self.histogram_embed = nn.Linear(bins, config.width, bias=False) if bins else None
        self.cls = nn.Parameter(torch.zeros(1, 1, config.width))
        # Unspecified in the paper: learned positions, started at the sine-cosine code.
        self.positions = nn.Parameter(sincos_positions(GRID, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.num_heads, config.mlp_ratio, qkv_bias=config.qkv_bias)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        nn.init.trunc_normal_(self.cls, std=0.02)

    def forward(self, volume: Tensor) -> Tensor:
        """All patches, CLS stripped: (B,1,X,Y,Z) -> tokens (B,N,D)."""
        return self.encode_patches(patchify(volume))[:, 1:]

    def encode_patches(self, patches: Tensor, keep: Tensor | None = None) -> Tensor:
        """patches (B,N,P), keep (B,K) indices or None for all -> (B, 1+K, D), CLS first."""
        if keep is None:
            x = self.embed(patches) + self.positions
        else:
            visible = torch.gather(patches, 1, keep[..., None].expand(-1, -1, patches.shape[-1]))
            x = self.embed(visible) + self.positions[0][keep]
        x = torch.cat([self.cls.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def embed(self, patches: Tensor) -> Tensor:
        """patches (B,K,P) -> (B,K,D), before positions."""
        x: Tensor = self.patch_embed(patches)
        if self.histogram_embed is not None:
            x = x + self.histogram_embed(patch_histograms(patches.float(), self.config.histogram_bins))
        return x


class MaskedAutoencoder(nn.Module):
    """Encoder plus the pretraining decoder."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        width = config.decoder_width
        self.decoder_embed = nn.Linear(config.encoder.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_positions = nn.Parameter(sincos_positions(GRID, width))
        self.decoder_blocks = nn.ModuleList(
            Block(width, config.decoder_num_heads, qkv_bias=config.encoder.qkv_bias)
            for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, PATCH**3)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, volume: Tensor, keep: Tensor) -> Tensor:
        """volume (B,1,X,Y,Z), keep (B,K) -> predicted patches (B,N,P) for every position."""
        return self.decode(self.encoder.encode_patches(patchify(volume), keep), keep)

    def decode(self, encoded: Tensor, keep: Tensor) -> Tensor:
        """encoded (B,1+K,D) with CLS first, keep (B,K) -> patches (B,N,P)."""
        x = self.decoder_embed(encoded)
        full = self.mask_token.to(x.dtype).expand(len(x), NUM_TOKENS, -1)
        full = torch.scatter(full, 1, keep[..., None].expand(-1, -1, x.shape[-1]), x[:, 1:])
        x = torch.cat([x[:, :1], full + self.decoder_positions.to(x.dtype)], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def loss(self, volume: Tensor, keep: Tensor) -> Tensor:
        """Mean squared error over the masked patches (paper: per-patch MSE)."""
        patches = patchify(volume)
        return self.masked_error(self.encoder.encode_patches(patches, keep), patches, keep)

    def masked_error(self, encoded: Tensor, patches: Tensor, keep: Tensor) -> Tensor:
        """The loss of encoded visible patches (B,1+K,D), CLS first, against all patches (B,N,P)."""
        error = (self.decode(encoded, keep).float() - patches).square().mean(-1)  # (B,N)
        masked = torch.ones_like(error).scatter_(1, keep, 0.0)
        return (error * masked).sum() / masked.sum()


def random_keep(batch: int, mask_ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Indices (B,K) of the visible patches; K = 360 at the paper's ratio of 0.7."""
    kept = round(NUM_TOKENS * (1 - mask_ratio))
    return torch.rand(batch, NUM_TOKENS, generator=generator).argsort(1)[:, :kept]
