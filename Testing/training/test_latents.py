"""Kept tokens are used again for the volumes that they were made of, and for no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from braing3n_core.atlas import MODEL_SHAPE
from braing3n_core.models.mae import Encoder, EncoderConfig
from training.latents import cache_tokens
from training.loop import TrainingError
from training.store import Store, write_store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(width=8, depth=1, num_heads=2)).eval()


def make(folder: Path, seed: int) -> Path:
    chance = np.random.default_rng(seed)
    volumes = [(chance.random(MODEL_SHAPE, dtype=np.float32), {"subject": f"s{i}"}) for i in range(2)]
    write_store(folder, iter(volumes), len(volumes))
    return folder


def test_tokens_are_made_once_for_the_same_volumes(encoder: Encoder, tmp_path: Path) -> None:
    store, path = Store.open(make(tmp_path / "a", 1)), tmp_path / "run" / "tokens.npy"
    first = np.array(cache_tokens(store, encoder, path, CPU, "id"))
    made = path.stat().st_mtime_ns
    np.testing.assert_array_equal(cache_tokens(store, encoder, path, CPU, "id"), first)
    assert path.stat().st_mtime_ns == made


def test_tokens_of_as_many_other_volumes_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    """As when a store is made again, or two stores are named in another order."""
    a, b, path = make(tmp_path / "a", 1), make(tmp_path / "b", 2), tmp_path / "tokens.npy"
    cache_tokens(Store.open(a, b), encoder, path, CPU, "id")
    for other in (Store.open(b, a), Store.open(a, a)):
        with pytest.raises(TrainingError, match="holds tokens of"):
            cache_tokens(other, encoder, path, CPU, "id")
