"""Encoder and tokenizer as one module, for those who want a network with a volume in and a volume out.

Shape legend: B batch, N = 1200 tokens, C latent channels, X Y Z voxels of the model grid.
"""

from __future__ import annotations

from torch import Tensor, nn

from .mae import Encoder, EncoderConfig
from .tokenizer import Tokenizer, TokenizerConfig


class Autoencoder(nn.Module):
    """Volume to volume, both z-scored over the model grid: (B,1,160,192,160) -> the same shape."""

    def __init__(self, encoder: EncoderConfig, tokenizer: TokenizerConfig) -> None:
        super().__init__()
        self.encoder = Encoder(encoder)
        self.tokenizer = Tokenizer(tokenizer)

    def latents(self, volume: Tensor) -> Tensor:
        """Standardised latents (B,N,C)."""
        return self.tokenizer.project(self.encoder(volume))

    def forward(self, volume: Tensor) -> Tensor:
        return self.tokenizer.decode(self.latents(volume))
