"""The report on real scans: what it finds in a folder, and its whole way on stand-ins that nobody has to register."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.errors import RequestError
from braing3n_core.preprocess.template import load_template
from training.evaluate.__main__ import main
from training.evaluate.scans import CC0, HEADS, MS, find

from ..core.tiny_checkpoint import make_tiny_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The template as both visits of the patient: stripped and registered, so that preprocessing takes no time."""
    scan = load_template().volume
    for visit in (1, 2):
        scan.with_array(scan.array * visit).save(tmp_path / "data" / "ms_patient01" / f"study{visit}_T1W.nii.gz")
    return tmp_path / "data"


def test_scans_are_found_with_their_labels_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    cohort, heads = tmp_path / "ds002748", tmp_path / "whole_head_T1" / "ixi_2mm"
    (cohort / "sub-01" / "anat").mkdir(parents=True)
    heads.mkdir(parents=True)
    (cohort / "participants.tsv").write_text("participant_id\tage\tgender\nsub-01\t39\tm\nsub-02\t20\tf\n")
    (cohort / "sub-01" / "anat" / "sub-01_T1w.nii.gz").touch()
    (heads / "IXI_demog_n10.csv").write_text("MRID,Age,Sex\nIXI012-HH-1211,38.78,M\n")
    (heads / "IXI012-HH-1211-T1_ds.nii.gz").touch()
    found = find(tmp_path)
    assert [(s.group, s.labels["age_years"], s.labels["sex"]) for s in found] == [(CC0, 39, "M"), (HEADS, 38.78, "M")]
    assert found[0].record["disease"] is None and found[1].record["disease"] == "HC"


def test_a_folder_without_known_scans_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No scan"):
        find(tmp_path)


@pytest.mark.slow
def test_the_real_report_is_whole_and_the_null_edit_changes_no_voxel(folder: Path, tmp_path: Path) -> None:
    checkpoint, out = make_tiny_checkpoint(tmp_path / "tiny"), tmp_path / "out"
    arguments = ["real", "--data", str(folder), "-o", str(out), "--checkpoint", str(checkpoint), "--quick"]
    assert main(arguments) == 0
    assert {s.group for s in find(folder)} == {MS}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<section") == 4 and "SYNTHETIC" in page and str(tmp_path) not in page
    rows = list(csv.DictReader(io.StringIO((out / "tables/real_null_edit.tsv").read_text()), delimiter="\t"))
    assert rows and all(row["voxels that differ"] == "0" and row["own grid kept"] == "yes" for row in rows)
    change = list(csv.DictReader(io.StringIO((out / "tables/real_longitudinal.tsv").read_text()), delimiter="\t"))
    # Twice the brightness is the same brain: the z-score takes it away, and no reading changes.
    assert change and all(abs(float(row["real change"])) < 0.05 for row in change)
    assert len(list((out / "cache" / "scans").glob("*.npy"))) == 2
    assert np.load(next((out / "cache" / "scans").glob("*.npy"))).shape == (160, 192, 160)


@pytest.mark.slow
def test_the_real_report_runs_on_real_people(test_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["real", "--data", str(test_data), "-o", str(out), "--quick"]) == 0
    text = (out / "tables" / "real_null_edit.tsv").read_text()
    assert text.count("yes\t0\t0") >= 3
