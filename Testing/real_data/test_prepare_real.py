"""Real scans of many kinds on their way into a store that is killed again and again: each ends with one outcome."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training.manifest.__main__ import main as manifest
from training.manifest.table import Row, read_manifest, write_manifest
from training.prepare.place import Place
from training.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS, SEED = 10, 1
HEADS = """
name: heads
stage: auto
images:
  - {pattern: 'whole_head_T1/(?:.*/)?(?P<subject>[^/]+)\\.nii\\.gz', modality: T1}
  - {pattern: '(?P<subject>ms_patient01)/study(?P<session>\\d)_T1W\\.nii\\.gz', modality: T1}
  - {pattern: '(?P<subject>tumour)[^/]*/sub-[^_]*_T1w\\.nii\\.gz', modality: T1}
"""
"""Ten whole heads, with a face and without, 1 mm to thick slices, healthy and not."""


@pytest.fixture
def cohorts(test_data: Path, tmp_path: Path) -> Path:
    """The manifest of 14 stripped brains and ten other T1."""
    for needed in ("ds002748", "whole_head_T1", "ms_patient01", "tumour_TCGA-FG-6692", "mindgrab"):
        if not (test_data / needed).is_dir():
            pytest.skip(f"Needs {test_data / needed} (see CONTRIBUTING.md).")
    out, card = tmp_path / "manifest.tsv", tmp_path / "heads.yaml"
    card.write_text(HEADS)
    assert manifest([str(test_data / "ds002748"), f"{card}={test_data}", "-o", str(out)]) == 0
    return out


def start(cohorts: Path, store: Path, test_data: Path) -> subprocess.Popen[bytes]:
    """The preparation, leader of a process group of its own."""
    weights = test_data / "mindgrab" / "mindgrab.safetensors"
    command = [sys.executable, "-m", "training.prepare", str(cohorts), "-o", str(store), "--jobs", "2"]
    return subprocess.Popen(
        [*command, "--brain", "mindgrab"], cwd=REPOSITORY, start_new_session=True,
        env={**os.environ, "BRAING3N_MINDGRAB_WEIGHTS": str(weights)},
    )


def finished(store: Path) -> int:
    return len(list(store.rglob("*_outcome.json")))


def wait_until(condition: Callable[[], bool], seconds: float = 7200.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def kill_after(count: int, process: subprocess.Popen[bytes], store: Path, chance: float) -> None:
    """Kill all of its processes at once, when the store has ``count`` outcomes and a part of the time of one more."""
    begin, before = time.monotonic(), finished(store)
    wait_until(lambda: finished(store) >= count or process.poll() is not None)
    pace = (time.monotonic() - begin) / max(finished(store) - before, 1)
    time.sleep(chance * max(pace, 5.0))
    assert process.poll() is None, "it ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def quarantined(store: Path) -> dict[str, str]:
    """The reasons' codes by subject."""
    with (store / "quarantine.tsv").open(newline="") as handle:
        return {line["subject"]: line["code"] for line in csv.DictReader(handle, delimiter="\t")}


@pytest.mark.slow
def test_24_real_scans_killed_ten_times_end_with_exactly_one_outcome_each(
    cohorts: Path, test_data: Path, tmp_path: Path
) -> None:
    rows, store, choose = read_manifest(cohorts), tmp_path / "store", random.Random(SEED)
    assert [sum(row.cohort == name for row in rows) for name in ("ds002748", "heads")] == [14, 10]
    for count in sorted(choose.sample(range(len(rows) - 4), KILLS)):
        kill_after(count, start(cohorts, store, test_data), store, choose.random())
    assert start(cohorts, store, test_data).wait() == 0
    assert finished(store) == len(rows) and not list(store.rglob("*.partial"))
    assert all(Place(store, row).outcome().is_file() for row in rows)
    refused = quarantined(store)
    assert len(Store.open(store)) + len(refused) == len(rows) and refused == {}
    one_of_each = [next(row for row in rows if row.cohort == name) for name in ("ds002748", "heads")]
    _same_without_kills(one_of_each, store, test_data, tmp_path)


def _same_without_kills(rows: list[Row], store: Path, test_data: Path, folder: Path) -> None:
    write_manifest(folder / "few.tsv", rows)
    assert start(folder / "few.tsv", folder / "again", test_data).wait() == 0
    for row in rows:
        here, there = Place(store, row), Place(folder / "again", row)
        for mine, other in ((here.voxels(), there.voxels()), (here.image("preproc"), there.image("preproc")),
                            (here.mask(), there.mask()), (here.outcome(), there.outcome())):
            assert mine.read_bytes() == other.read_bytes(), mine
