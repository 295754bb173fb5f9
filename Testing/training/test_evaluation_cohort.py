"""The scans of a manifest that are evaluated: those of one side of its split, by their names, from a prepared store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from braing3n_core.atlas import MODEL_SHAPE
from braing3n_core.errors import BrainG3NError
from training.evaluate.cohort import of_manifest
from training.evaluate.study import visit_order
from training.evaluate.tables.probing import TASKS
from training.manifest.labels import COLUMNS
from training.manifest.table import Row, write_manifest
from training.prepare.scan import training_record
from training.store import write_store


def row(person: str, split: str, session: str = "1") -> Row:
    labels = dict.fromkeys(COLUMNS) | {"modality": "T1", "age_years": 40.0, "sex": "F", "disease": "HC"}
    return Row(person, person, session, "1", "ours", split, "auto", f"{person}-{session}.nii.gz", labels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest of three people, and the store that holds their scans."""
    rows = [row("ours/01", "train"), row("ours/02", "test"), row("ours/02", "test", "2"), row("ours/03", "val")]
    write_manifest(tmp_path / "manifest.tsv", rows)
    scans = ((np.full(MODEL_SHAPE, k + 1, np.float32) * (np.arange(MODEL_SHAPE[0]) > 3)[:, None, None],
              training_record(r)) for k, r in enumerate(rows))
    write_store(tmp_path / "store", scans, len(rows))
    return tmp_path


def test_only_the_asked_side_of_the_split_is_evaluated_with_its_own_voxels(folder: Path) -> None:
    store, label = of_manifest(folder / "manifest.tsv", "test", [folder / "store"], folder / "work")
    assert [(r["subject"], r["visit"]) for r in store.records] == [("ours/02", "1"), ("ours/02", "2")]
    np.testing.assert_allclose(store.voxels[1].max() * store.records[1]["scale"], 3)
    assert store.zscored([0, 1]).shape == (2, 1, *MODEL_SHAPE)
    assert label == "the test side of manifest.tsv (ours)"


def test_a_side_without_scans_and_a_store_of_others_are_refused_with_a_sentence(folder: Path) -> None:
    write_manifest(folder / "trained.tsv", [row("ours/01", "train")])
    with pytest.raises(BrainG3NError, match="no scan on the side 'test'"):
        of_manifest(folder / "trained.tsv", "test", [folder / "store"], folder / "work")
    write_manifest(folder / "others.tsv", [row("theirs/01", "test")])
    with pytest.raises(BrainG3NError, match="None of the 1 scans"):
        of_manifest(folder / "others.tsv", "test", [folder / "store"], folder / "work")


def test_every_task_of_the_panel_reads_a_column_that_a_manifest_has() -> None:
    assert len(TASKS) == 23 and {task.label for task in TASKS} <= set(COLUMNS)


def test_visits_have_an_order_whether_they_are_counted_or_named() -> None:
    assert sorted(["M12", "M06", "bl"], key=visit_order) == ["bl", "M06", "M12"]
    assert sorted([10, 2, 0], key=visit_order) == [0, 2, 10]
