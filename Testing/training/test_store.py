"""What training sees of a store: its own side of the split, and nobody on two sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from braing3n_core.atlas import MODEL_SHAPE
from training.latents import LatentSet
from training.loop import TrainingError
from training.store import StoreError, training_rows, write_store

SPLITS = ("test", "train", "val", "train")


def records(splits: tuple[str | None, ...] = SPLITS) -> list[dict[str, object]]:
    return [{"subject": f"s{i}", "split": side} for i, side in enumerate(splits)]


def test_training_sees_its_own_side_of_the_split(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    volumes = [(chance.random(MODEL_SHAPE, dtype=np.float32), record) for record in records()]
    store = write_store(tmp_path, iter(volumes), len(volumes))
    seen = store.for_training()
    assert [r["subject"] for r in seen.records] == ["s1", "s3"] and len(seen) == 2
    assert torch.equal(seen.zscored([1, 0]), store.zscored([3, 1]))


def test_latents_are_parted_as_their_volumes_are() -> None:
    data = LatentSet(torch.arange(4.0)[:, None, None], records(), "t")
    seen = data.for_training()
    assert seen.latents.flatten().tolist() == [1.0, 3.0] and seen.tokenizer == "t"
    assert [r["subject"] for r in seen.records] == ["s1", "s3"]


def test_without_a_split_everything_is_for_training() -> None:
    assert training_rows([{"subject": "a"}, {"subject": "b", "split": None}]) == [0, 1]


def test_a_subject_on_two_sides_is_refused_by_name() -> None:
    torn = [*records(), {"subject": "s1", "split": "test"}]
    with pytest.raises(StoreError, match="s1 is in test and train"):
        training_rows(torn)
    with pytest.raises(StoreError, match="None of the 2 volumes"):
        training_rows(records(("val", "test")))


def test_latents_with_a_label_alone_are_chosen_and_a_label_that_none_has_is_refused() -> None:
    labelled = [{**r, "anatomy": ("a", "b")[i % 2]} for i, r in enumerate(records())]
    data = LatentSet(torch.arange(4.0)[:, None, None], labelled, "t")
    assert data.only({"anatomy": "b"}).latents.flatten().tolist() == [1.0, 3.0]
    assert data.only({}) is data
    with pytest.raises(TrainingError, match="anatomy = 'c'") as refused:
        data.only({"anatomy": "c"})
    assert "['a', 'b']" in refused.value.hint
