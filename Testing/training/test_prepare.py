"""A cohort on its way into a store: one result or one reason a row, whatever is killed on the way."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.atlas import ATLAS_AFFINE, to_model_grid
from braing3n_core.errors import BrainG3NError
from braing3n_core.preprocess.template import load_template
from braing3n_core.volume import Volume
from training.manifest.__main__ import main as manifest
from training.manifest.table import read_manifest
from training.prepare.__main__ import main as prepare
from training.prepare.__main__ import unfinished
from training.prepare.lock import locked
from training.prepare.place import Place
from training.prepare.scan import Choices, prepare_visit
from training.store import Store, StoreError

REPOSITORY = Path(__file__).resolve().parents[2]
SCANS = 5


def brain(level: float) -> np.ndarray:
    """The template's own brain, in place: registered, and quick to prepare."""
    template = load_template()
    grey = np.maximum(template.volume.array / template.volume.array.max() * 100, 1.0)
    return np.round(np.where(template.mask, grey * level, 0.0)).astype(np.float32)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three T1 and one T2 in place, one T1 that is no file of an image, and a manifest of them."""
    root = tmp_path_factory.mktemp("cohort") / "small"
    for i in range(3):
        path = root / f"sub-{i}/anat/sub-{i}_T1w.nii.gz"
        Volume.from_array(brain(10.0 + i), ATLAS_AFFINE).save(path, dtype="int16")
    Volume.from_array(brain(5.0), ATLAS_AFFINE).save(root / "sub-0/anat/sub-0_T2w.nii.gz", dtype="int16")
    (root / "sub-9/anat").mkdir(parents=True)
    (root / "sub-9/anat/sub-9_T1w.nii.gz").write_bytes(b"cut off")
    manifest([str(root), "-o", str(root.parent / "manifest.tsv")])
    return root.parent / "manifest.tsv"


def start(cohort: Path, store: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training.prepare", str(cohort), "-o", str(store), "--no-images", *more]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def outcomes(store: Path) -> list[Path]:
    return sorted(store.rglob("*_outcome.json"))


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def children(pid: int) -> list[int]:
    """Processes whose parent is ``pid``, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (OSError, ValueError):
            continue
    return found


def wait_until(condition, seconds: float = 1800.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def store(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store after three kills at random moments and one run to the end."""
    folder, choose = tmp_path_factory.mktemp("store"), random.Random(5)
    for count in (0, 1, 3):
        process = start(cohort, folder)
        wait_until(lambda count=count: len(outcomes(folder)) >= count)
        time.sleep(choose.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert prepare([str(cohort), "-o", str(folder), "--no-images"]) == 0
    return folder


def test_a_cohort_that_is_killed_again_and_again_ends_with_one_outcome_a_row(store: Path) -> None:
    assert len(outcomes(store)) == SCANS and not list(store.rglob("*.partial"))
    assert len(Store.open(store)) == SCANS - 1
    assert [line["code"] for line in lines(store / "quarantine.tsv")] == ["volume.extension"]
    assert len(lines(store / "quality.tsv")) == SCANS - 1


def test_the_store_gives_back_the_z_score_of_each_scan(store: Path) -> None:
    opened = Store.open(store)
    for index in (0, 2):
        record = opened.records[index]
        level = 5.0 if record["modality"] == "T2" else 10.0 + int(record["subject"].split(":")[1])
        truth = to_model_grid(brain(level))
        expected = (truth - truth.mean()) / truth.std()
        assert np.abs(opened.zscored([index])[0, 0].numpy() - expected).max() < 5e-3
    assert opened.voxels[0].dtype == np.float16
    assert len(opened.where(modality="T2")) == 1 and opened.records[0]["split"] in ("train", "val", "test")


def test_a_finished_store_is_not_touched_again(cohort: Path, store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in outcomes(store)}
    assert prepare([str(cohort), "-o", str(store), "--no-images"]) == 0
    assert {path: path.stat().st_mtime_ns for path in outcomes(store)} == before


def test_a_scan_that_was_replaced_is_prepared_again(cohort: Path, store: Path) -> None:
    rows = read_manifest(cohort)
    choices = Choices(images=False).settled()
    assert not unfinished(rows, (1, 1), store, choices)
    os.utime(rows[0].path)
    visits = unfinished(rows, (1, 1), store, choices)
    assert [sum(visit.todo) for visit in visits] == [1] and visits[0].rows[visits[0].todo.index(True)] == rows[0]
    assert len(unfinished(rows, (1, 1), store, replace(choices, brain="none"))) == SCANS - 1
    assert len(unfinished(rows, (1, 1), store, replace(choices, atlas="another"))) == SCANS - 1


def test_what_auto_means_is_settled_at_the_start_so_that_a_cohort_is_made_by_one_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "mindgrab.safetensors"
    monkeypatch.setenv("BRAING3N_HDBET_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("BRAING3N_MINDGRAB_WEIGHTS", str(weights))
    before = Choices().settled()
    weights.touch()
    after = Choices().settled()
    assert (before.brain, after.brain) == ("template", "mindgrab") and before.atlas == load_template().sha256
    assert Choices(brain="none").settled() == replace(before, brain="none")
    with pytest.raises(BrainG3NError):
        Choices(template=str(tmp_path / "no.nii.gz")).settled()


def test_the_backend_is_for_whole_heads_and_a_stripped_scan_is_not_stripped_again(
    cohort: Path, tmp_path: Path
) -> None:
    (row,) = (row for row in read_manifest(cohort) if row.subject == "1")
    assert prepare_visit([row], [True], tmp_path, Choices(brain="template", images=False)) == 1
    assert json.loads(Place(tmp_path, row).sidecar().read_text())["brain_backend"] == "none"


def test_shards_part_the_visits_and_together_are_all(cohort: Path, tmp_path: Path) -> None:
    rows = read_manifest(cohort)
    parts = [unfinished(rows, (i, 3), tmp_path, Choices()) for i in (1, 2, 3)]
    seen = [row.path for part in parts for visit in part for row in visit.rows]
    assert sorted(seen) == sorted(row.path for row in rows)
    assert prepare([str(cohort), "-o", str(tmp_path), "--shard", "0/3"]) == 1


def test_a_shard_that_is_being_prepared_is_refused_and_a_file_system_without_locks_is_told(
    cohort: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = [str(cohort), "-o", str(store), "--no-images"]
    with locked(store / ".shard-1-of-1.lock"):
        assert prepare(again) == 1 and "being prepared by another process" in capsys.readouterr().err

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", missing)  # as on Lustre mounted without flock
    assert prepare(again) == 0 and "has no locks" in capsys.readouterr().err


def test_a_store_that_cannot_be_written_is_a_sentence(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert prepare([str(cohort), "-o", str(tmp_path / "file" / "store")]) == 1
    assert "start again" in capsys.readouterr().err


def test_images_of_a_visit_are_bids_derivatives_on_the_atlas_grid_in_one_brain(cohort: Path, tmp_path: Path) -> None:
    rows = [row for row in read_manifest(cohort) if row.subject == "0"]
    assert prepare_visit(rows, [True] * len(rows), tmp_path, Choices()) == 2
    folder = tmp_path / "small/sub-0/ses-1/anat"
    images = {p.name: Volume.load(p) for p in folder.glob("*.nii.gz")}
    stem = "sub-0_ses-1_space-SRI24_desc-"
    assert set(images) == {f"{stem}preproc_T1w.nii.gz", f"{stem}preproc_T2w.nii.gz", f"{stem}brainT1_mask.nii.gz",
                           f"{stem}brainT2_mask.nii.gz"}
    brains = [images[f"{stem}brain{m}_mask.nii.gz"].array > 0 for m in ("T1", "T2")]
    np.testing.assert_array_equal(*brains)
    for modality in ("T1", "T2"):
        image = images[f"{stem}preproc_{modality}w.nii.gz"]
        assert np.array_equal(image.affine, ATLAS_AFFINE) and not image.array[~brains[0]].any()
        sidecar = json.loads((folder / f"{stem}preproc_{modality}w.json").read_text())
        assert sidecar["SkullStripped"] and sidecar["Space"] == "SRI24" and sidecar["Sources"][0].endswith(".nii.gz")
        # What training reads is the same volume on the model grid.
        record = json.loads((folder / f"sub-0_ses-1_{modality}w_outcome.json").read_text())["record"]
        stored = np.load(tmp_path / record["file"]).astype(np.float32) * record["scale"]
        np.testing.assert_allclose(stored, to_model_grid(image.array), atol=record["scale"] * 1e-3)


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(cohort: Path, tmp_path: Path) -> None:
    for jobs in ("1", "2"):
        assert prepare([str(cohort), "-o", str(tmp_path / jobs), "--jobs", jobs]) == 0
    written = {p.relative_to(tmp_path / "1") for p in (tmp_path / "1").rglob("*") if p.suffix in (".gz", ".npy")}
    assert len(written) == 3 * (SCANS - 1)
    for path in (*written, "records.json", "quality.tsv", "quarantine.tsv", "outliers.tsv"):
        assert (tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes(), path


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_scan(cohort: Path, tmp_path: Path) -> None:
    process = start(cohort, tmp_path)
    wait_until(lambda: len(outcomes(tmp_path)) >= 1)
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    assert process.wait(1800) == 0
    assert len(outcomes(tmp_path)) == SCANS and len(Store.open(tmp_path)) == SCANS - 1


def test_a_missing_volume_of_a_store_is_named(store: Path, tmp_path: Path) -> None:
    records = json.loads((store / "records.json").read_text())
    (tmp_path / "records.json").write_text(json.dumps(records[:1]))
    with pytest.raises(StoreError, match="cannot be read"):
        Store.open(tmp_path).zscored([0])
