"""The tokenizer's starts are the best linear ones: closed forms on patches that are linear in their tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from braing3n_core.models.layers import patchify, unpatchify
from braing3n_core.models.patch_decoder import PatchDecoderConfig
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig
from training.patches import (
    MASK_WEIGHT,
    PatchError,
    best_linear_reading,
    cache_weights,
    learn_dictionaries,
    restore_detail,
)
from training.store import Store
from training.train_tokenizer import best_linear_start

WIDTH = 6
CONFIG = TokenizerConfig(
    encoder_width=WIDTH, channels=WIDTH,
    patches=PatchDecoderConfig(atoms=WIDTH, mask_atoms=1, width=8, depth=1, num_heads=2, overlap=0),
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

    def __len__(self) -> int:
        return len(self.tokens)

    def zscored(self, indices: list[int]) -> Tensor:
        return unpatchify(torch.stack([self.patches(i) for i in indices]))


@pytest.fixture(scope="module")
def volumes() -> LinearVolumes:
    return LinearVolumes(4)


def started(volumes: LinearVolumes, config: TokenizerConfig, folder: Path) -> Tokenizer:
    torch.manual_seed(0)
    tokenizer, tokens, store = Tokenizer(config), volumes.tokens.numpy(), cast(Store, volumes)
    best_linear_start(tokenizer, tokens, store)
    learn_dictionaries(tokenizer.decoder, store)
    best_linear_reading(tokenizer, tokens, cache_weights(store, tokenizer.decoder, folder / "patches.npy"))
    return tokenizer.eval()


@torch.no_grad()
def squared_error(tokenizer: Tokenizer, volumes: LinearVolumes, i: int) -> float:
    decoded = tokenizer.decode(tokenizer.projection(volumes.tokens[i : i + 1]))
    return float((patchify(decoded)[0] - volumes.patches(i)).square().mean())


def test_patches_that_are_linear_in_their_tokens_are_decoded_before_any_training(
    volumes: LinearVolumes, tmp_path: Path
) -> None:
    assert squared_error(started(volumes, CONFIG, tmp_path), volumes, 0) < 1e-4


def test_fewer_channels_keep_the_strongest_directions(volumes: LinearVolumes, tmp_path: Path) -> None:
    kept = 2
    lost = float((2.0 ** -torch.arange(WIDTH))[kept:].square().sum())  # the tokens have unit variance
    tokenizer = started(volumes, replace(CONFIG, channels=kept), tmp_path)
    left = 1 - 1 / len(volumes)  # the mean of every place is of these very volumes
    assert squared_error(tokenizer, volumes, 0) == pytest.approx(lost * left, rel=0.05)


def test_the_channels_start_uncorrelated_with_unit_variance(volumes: LinearVolumes, tmp_path: Path) -> None:
    tokenizer = started(volumes, CONFIG, tmp_path)
    with torch.no_grad():
        latents = tokenizer.projection(volumes.tokens).flatten(0, 1)
    np.testing.assert_allclose(np.cov(latents.numpy().T), np.eye(WIDTH), atol=0.02)


def test_the_dictionary_is_orthonormal_so_errors_of_weights_are_errors_of_voxels(
    volumes: LinearVolumes, tmp_path: Path
) -> None:
    tokenizer = started(volumes, CONFIG, tmp_path)
    atoms = tokenizer.decoder.to_voxels.tissue.weight.detach()
    torch.testing.assert_close(atoms.T @ atoms, torch.eye(WIDTH), atol=1e-4, rtol=0)
    weights = cache_weights(cast(Store, volumes), tokenizer.decoder, tmp_path / "again.npy")
    off = torch.from_numpy(weights[:1].astype(np.float32)) + 3.0
    expected = (3.0**2 * (WIDTH + MASK_WEIGHT * CONFIG.patches.mask_atoms) / 16**3 + 1e-4) ** 0.5
    with torch.no_grad():
        error = PatchError(tokenizer)(volumes.tokens[:1], off, False)
    assert float(error) == pytest.approx(expected, rel=0.02)


@torch.no_grad()
def test_a_guess_that_is_too_smooth_gets_half_of_its_spread_back_and_keeps_its_mean(
    volumes: LinearVolumes, tmp_path: Path
) -> None:
    tokenizer, tokens = started(volumes, CONFIG, tmp_path), volumes.tokens.numpy()
    targets = cache_weights(cast(Store, volumes), tokenizer.decoder, tmp_path / "again.npy")
    for weight in (tokenizer.decoder.linear.weight, tokenizer.decoder.place.weight):
        weight.mul_(0.25)
    before = tokenizer.decoder.weights(tokenizer.projection(volumes.tokens))[..., :WIDTH].flatten(0, 1)
    restore_detail(tokenizer, tokens, targets)
    after = tokenizer.decoder.weights(tokenizer.projection(volumes.tokens))[..., :WIDTH].flatten(0, 1)
    torch.testing.assert_close(after.std(0) / before.std(0), torch.full((WIDTH,), 2.0), rtol=0.02, atol=0)
    torch.testing.assert_close(after.mean(0), before.mean(0), rtol=0.02, atol=0.2)


def test_cached_weights_are_kept_for_a_run_that_goes_on_and_made_anew_for_other_dictionaries(
    volumes: LinearVolumes, tmp_path: Path
) -> None:
    decoder, path = started(volumes, CONFIG, tmp_path).decoder, tmp_path / "patches.npy"
    weights, made = np.load(path), path.stat().st_mtime_ns
    assert np.array_equal(cache_weights(cast(Store, volumes), decoder, path), weights)
    assert path.stat().st_mtime_ns == made
    decoder.to_voxels.tissue.weight.data.neg_()
    assert np.allclose(cache_weights(cast(Store, volumes), decoder, path)[..., :WIDTH], -weights[..., :WIDTH], atol=0.1)
    assert path.stat().st_mtime_ns != made
