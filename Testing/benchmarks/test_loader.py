"""The loader's benchmark reads every volume of a store and steps through the model."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.loader import measure, reading
from braing3n_core.atlas import MODEL_SHAPE
from training.store import Store, write_store

CONFIG = Path(__file__).resolve().parents[2] / "training" / "configs" / "tiny.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, chance = tmp_path_factory.mktemp("store"), np.random.default_rng(0)
    rows = [(chance.random(MODEL_SHAPE, dtype=np.float32), {"subject": f"s{i}"}) for i in range(3)]
    write_store(out, iter(rows), len(rows))
    return out


def test_a_pass_reads_every_volume_once(folder: Path) -> None:
    read, rounds = reading(Store.open(folder), 2, torch.device("cpu"), seed=1)
    assert [read(k) for k in range(rounds)] == [2, 1]


def test_the_benchmark_says_what_the_store_gives_and_what_the_model_takes(folder: Path) -> None:
    options = Namespace(store=[folder], stage="mae", config=CONFIG, batch=2, steps=1, device="cpu")
    found = measure(options)
    assert set(found) == {"first pass", "second pass", "model", "store / model"}
    assert all(value > 0 for value in found.values())
    assert found["store / model"] == pytest.approx(found["second pass"] / found["model"])
