"""The tokenizer's starts are the best linear ones: closed forms on patches that are linear in their tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from braing3n_core.models.layers import patchify, unpatchify
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig
from training.train_tokenizer import best_linear_reading, best_linear_start

WIDTH = 6
CONFIG = TokenizerConfig(
    encoder_width=WIDTH, channels=WIDTH, widths=(8, 8), blocks=(1, 1), last_factor=8, num_heads=2, linear_rank=WIDTH
)


class LinearVolumes:
    """Volumes whose patches are a linear function of random tokens: as much of a store as the starts read."""

    def __init__(self, count: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.tokens = torch.randn(count, 1200, WIDTH, generator=draw)
        strengths = 2.0 ** -torch.arange(WIDTH)
        self.weights = strengths[:, None] * torch.linalg.qr(torch.randn(4096, WIDTH, generator=draw))[0].T * 64

    def patches(self, i: int) -> Tensor:
        return self.tokens[i] @ self.weights + 0.5

    def zscored(self, indices: list[int]) -> Tensor:
        return unpatchify(torch.stack([self.patches(i) for i in indices]))


@pytest.fixture(scope="module")
def volumes() -> LinearVolumes:
    return LinearVolumes(4)


def started(volumes: LinearVolumes, config: TokenizerConfig) -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = Tokenizer(config)
    best_linear_start(tokenizer, volumes.tokens.numpy(), volumes)  # type: ignore[arg-type]
    best_linear_reading(tokenizer, volumes.tokens.numpy(), volumes)  # type: ignore[arg-type]
    return tokenizer.eval()


@torch.no_grad()
def squared_error(tokenizer: Tokenizer, volumes: LinearVolumes, i: int) -> float:
    decoded = tokenizer.decode(tokenizer.projection(volumes.tokens[i : i + 1]))
    return float((patchify(decoded)[0] - volumes.patches(i)).square().mean())


def test_patches_that_are_linear_in_their_tokens_are_decoded_before_any_training(volumes: LinearVolumes) -> None:
    assert squared_error(started(volumes, CONFIG), volumes, 0) < 1e-4


def test_fewer_channels_keep_the_strongest_directions(volumes: LinearVolumes) -> None:
    kept = 2
    lost = float((2.0 ** -torch.arange(WIDTH))[kept:].square().sum())  # the tokens have unit variance
    assert squared_error(started(volumes, replace(CONFIG, channels=kept)), volumes, 0) == pytest.approx(lost, rel=0.05)


def test_the_channels_start_uncorrelated_with_unit_variance(volumes: LinearVolumes) -> None:
    tokenizer = started(volumes, CONFIG)
    with torch.no_grad():
        latents = tokenizer.projection(volumes.tokens).flatten(0, 1)
    np.testing.assert_allclose(np.cov(latents.numpy().T), np.eye(WIDTH), atol=0.02)


def test_a_decoder_without_a_linear_reading_is_left_alone(volumes: LinearVolumes) -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer(replace(CONFIG, linear_rank=0))
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    best_linear_reading(tokenizer, volumes.tokens.numpy(), volumes)  # type: ignore[arg-type]
    assert all(torch.equal(before[name], value) for name, value in tokenizer.state_dict().items())
