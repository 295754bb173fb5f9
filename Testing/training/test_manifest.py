"""From raw cohorts to one table: what is found, what is refused, what is said about the rest."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braing3n_core.schema import STAGES
from braing3n_core.volume import Volume
from training.manifest.__main__ import main
from training.manifest.cards import card_from_dict, card_names, load_card
from training.manifest.check import check
from training.manifest.labels import CLASSIFICATION, COLUMNS, REGRESSION, read_label
from training.manifest.scan import read_sidecar, scan
from training.manifest.split import SplitOptions, split_of
from training.manifest.table import ManifestError, Row, read_manifest, write_manifest

REPOSITORY = Path(__file__).resolve().parents[2]


def scan_file(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(1, 99, (10, 9, 8)).astype(np.float32)
    return Volume.from_array(array, np.eye(4)).save(path)


def table(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(" ", "\t") + "\n", encoding="utf-8")


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two subjects, the first with two sessions and four contrasts."""
    root = tmp_path / "small"
    table(root / "participants.tsv", "participant_id age sex group\nsub-01 70 F AD\nsub-02 31 male control")
    table(root / "sub-01/sub-01_sessions.tsv", "session_id age cdr\nses-M0 70 0.5\nses-M12 71.1 1")
    anat = root / "sub-01/ses-M0/anat"
    for i, name in enumerate(("T1w", "ce-GAD_T1w", "T2w", "FLAIR")):
        scan_file(anat / f"sub-01_ses-M0_{name}.nii.gz", i)
    scan_file(root / "sub-01/ses-M12/anat/sub-01_ses-M12_acq-mprage_T1w.nii.gz", 5)
    scan_file(root / "sub-02/anat/sub-02_T1w.nii.gz", 6)
    sidecar = {"MagneticFieldStrength": 3, "Manufacturer": "SIEMENS", "InstitutionName": "Here"}
    (root / "T1w.json").write_text(json.dumps(sidecar))
    scan_file(root / "derivatives/x/sub-01/anat/sub-01_T1w.nii.gz", 9)
    return root


def rows_of(bids: Path, *more: str) -> list[Row]:
    out = bids.parent / "manifest.tsv"
    assert main([str(bids), *more, "-o", str(out)]) == 0
    return read_manifest(out)


def topics(path: Path) -> set[str]:
    with path.open(newline="") as handle:
        return {line["topic"] for line in csv.DictReader(handle, delimiter="\t") if line["kind"] == "contradicts"}


def test_a_bids_data_set_becomes_one_row_a_scan_with_the_labels_of_its_visit(bids: Path) -> None:
    rows = {(r.subject, r.session, r.modality): r for r in rows_of(bids)}
    assert sorted(rows) == [("01", "M0", "FLAIR"), ("01", "M0", "T1"), ("01", "M0", "T1C"), ("01", "M0", "T2"),
                            ("01", "M12", "T1"), ("02", "1", "T1")]
    later = rows["01", "M12", "T1"].labels
    assert (later["age_years"], later["sex"], later["diagnosis"], later["disease"], later["cdr"]) == (
        71.1, "F", "AD", "AD", 1.0)
    assert (later["field_strength_t"], later["vendor"], later["site"]) == (3.0, "Siemens", "Here")
    assert rows["02", "1", "T1"].labels["disease"] == "HC" and rows["01", "M0", "T2"].labels["vendor"] is None


def test_a_sidecar_holds_for_all_images_below_it_with_the_parts_of_its_name_and_the_nearest_has_the_last_word(
    bids: Path,
) -> None:
    (bids / "acq-mprage_T1w.json").write_text(json.dumps({"MagneticFieldStrength": 1.5, "Manufacturer": "GE"}))
    (bids / "sub-01" / "sub-01_T1w.json").write_text(json.dumps({"InstitutionName": "There"}))
    (bids / "sub-01" / "ses-M0" / "anat" / "sub-01_ses-M0_T1w.json").write_text('{"SkullStripped": true}')
    (bids / "sub-02" / "anat" / "sub-02_T1w.json").write_text("[1")
    rows = {(r.subject, r.session, r.modality): r for r in rows_of(bids)}
    of = {key: tuple(row.labels[c] for c in ("field_strength_t", "vendor", "site")) for key, row in rows.items()}
    assert of["01", "M12", "T1"] == (1.5, "GE", "There") and of["01", "M0", "T1"] == (3.0, "Siemens", "There")
    assert of["02", "1", "T1"] == (3.0, "Siemens", "Here") and of["01", "M0", "T2"] == (None, None, None)
    assert read_sidecar(Path(rows["01", "M0", "T1"].path))["SkullStripped"] is True
    assert read_sidecar(Path("elsewhere/sub-1_T1w.nii.gz")) == {}


def test_the_columns_are_the_labels_of_the_23_tasks() -> None:
    assert (len(CLASSIFICATION), len(REGRESSION)) == (15, 8)
    assert {*CLASSIFICATION.values(), *REGRESSION.values()} <= set(COLUMNS)


def test_what_contradicts_is_said_and_the_label_is_not_used(bids: Path) -> None:
    table(bids / "sub-01/sub-01_sessions.tsv", "session_id age sex diagnosis\nses-M0 70 F AD\nses-M12 60 M melancholia")
    table(bids / "participants.tsv", "participant_id age sex\nsub-02 131 F\nsub-03 40 F")
    (bids / "sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"no image")
    os.link(bids / "sub-01/ses-M0/anat/sub-01_ses-M0_T2w.nii.gz", bids / "sub-02/anat/sub-02_T2w.nii.gz")
    rows = rows_of(bids)
    findings = bids.parent / "manifest.findings.tsv"
    assert topics(findings) == {"sex changes", "age falls", "age_years word", "diagnosis word", "unreadable file",
                                "same scan, two people"}
    assert "melancholia" in findings.read_text() and "sub-03" not in {r.subject for r in rows}
    assert all(r.labels["sex"] is None and r.labels["age_years"] is None for r in rows if r.subject == "01")
    assert main([str(bids), "-o", str(bids.parent / "again.tsv"), "--strict"]) == 2


def test_the_second_of_two_scans_of_one_name_is_left_out_and_named(bids: Path) -> None:
    rows = rows_of(bids)
    kept, findings = check([*rows, replace(rows[0], path="elsewhere.nii.gz")], files=False)
    assert len(kept) == len(rows) and [f.topic for f in findings if f.kind == "contradicts"] == ["duplicate"]


def test_two_data_sets_of_one_name_are_refused_since_their_people_would_become_one(
    bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "elsewhere" / "small"
    scan_file(other / "sub-01/anat/sub-01_T1w.nii.gz", 7)
    assert main([str(bids), str(other), "-o", str(tmp_path / "both.tsv")]) == 1
    assert "would both be the cohort small" in capsys.readouterr().err and not (tmp_path / "both.tsv").exists()


def test_a_person_on_both_sides_of_a_split_is_refused(bids: Path) -> None:
    rows = rows_of(bids)
    torn = [replace(rows[0], split="train"), replace(rows[1], split="test"), *rows[2:]]
    path = write_manifest(bids.parent / "torn.tsv", torn)
    with pytest.raises(ManifestError, match=r"small:01 is in test and train"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [(("split\t", "side\t"), "lacks the columns split"), (("\tF\t", "\tmanly\t"), "'manly' is no known sex"),
     (("\tauto\t", "\traw\t"), "'raw' is no stage")],
)
def test_a_manifest_that_was_spoilt_by_hand_is_refused(bids: Path, change: tuple[str, str], said: str) -> None:
    rows_of(bids)
    path = bids.parent / "manifest.tsv"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ManifestError, match=said):
        read_manifest(path)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_the_split_depends_on_the_person_and_the_salt_alone(person: str) -> None:
    assert split_of(person) == split_of(person) in ("train", "val", "test")
    assert split_of(person, SplitOptions((0.0, 0.0, 1.0))) == "test"


def test_the_split_has_its_shares_and_is_the_same_on_every_machine() -> None:
    sides = [split_of(f"c:{i}") for i in range(10000)]
    assert abs(sides.count("train") / 10000 - 0.8) < 0.015 and abs(sides.count("test") / 10000 - 0.1) < 0.01
    assert [split_of(f"ADNI:{i}") for i in range(8)] == [
        split_of(f"ADNI:{i}") for i in range(8)] and split_of("x", SplitOptions(salt="other")) in sides
    code = "from training.manifest.split import split_of; print([split_of(f'c:{i}') for i in range(40)])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONHASHSEED": "7"})
    assert done.stdout.strip() == str(sides[:40])


@pytest.mark.parametrize("name", card_names())
def test_every_card_is_understood_and_says_what_is_uncertain(name: str) -> None:
    card = load_card(name)
    assert card.uncertain and card.stage in STAGES and card.paper["volumes"] >= card.paper["subjects"]


def test_there_is_a_card_for_each_cohort_of_the_paper() -> None:
    paper = [load_card(name).paper for name in card_names()]
    assert len(paper) == 18 and sum(p["volumes"] for p in paper) == 35309


def test_people_of_both_rockland_releases_share_one_side_of_the_split() -> None:
    assert load_card("nki-rs").people == load_card("nki-rs2").people


CASES = {
    "ixi": (["IXI012-HH-1211-T1.nii.gz", "IXI012-HH-1211-T2.nii.gz"], "IXI.csv",
            'IXI_ID,"SEX_ID (1=m, 2=f)",AGE\n12,1,38.78\n', {"sex": "M", "age_years": 38.78, "site": "HH"}),
    "upenn-gbm": (["images_structural/UPENN-GBM-00001_11/UPENN-GBM-00001_11_T1GD.nii.gz"],
                  "UPENN-GBM_clinical_info_v2.1.csv",
                  "ID,Gender,Age_at_scan_years,IDH1,MGMT\nUPENN-GBM-00001_11,F,63.5,Wildtype,Unmethylated\n",
                  {"sex": "F", "idh1": "wildtype", "mgmt": "unmethylated", "diagnosis": "GBM", "grade": "4"}),
    "abide-1": (["Outputs/0050952/session_1/anat_1/mprage.nii.gz"], "Phenotypic_V1_0b.csv",
                "SITE_ID,SUB_ID,DX_GROUP,AGE_AT_SCAN,SEX,HANDEDNESS_CATEGORY\nNYU,50952,1,22.5,1,R\n",
                {"site": "NYU", "diagnosis": "ASD", "disease": "ASD", "sex": "M", "handedness": "right"}),
    "oasis-2": (["OAS2_0001_MR2/RAW/mpr-1.nifti.nii"], "oasis_longitudinal.csv",
                "MRI ID,Group,M/F,Hand,Age,EDUC,MMSE,CDR\nOAS2_0001_MR2,Nondemented,M,R,88,14,30,0\n",
                {"age_years": 88.0, "education_years": 14.0, "mmse": 30.0, "cdr": 0.0, "diagnosis": "HC"}),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_card_finds_scans_and_reads_the_cohorts_own_coding(name: str, tmp_path: Path) -> None:
    files, listing, text, expected = CASES[name]
    for place in files:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / listing).write_text(text)
    found = scan(tmp_path, load_card(name))
    assert len(found.rows) == len(files) and not [f for f in found.findings if f.kind == "contradicts"]
    assert {k: found.rows[0].labels[k] for k in expected} == expected


def test_real_heads_are_found_by_a_card_of_ones_own(test_data: Path) -> None:
    card = card_from_dict({
        "name": "ixi2mm", "stage": "native", "modalities": ["T1"],
        "images": [{"pattern": r"(?P<subject>IXI\d+)-(?P<site>\w+)-\d+-(?P<modality>T1)_ds\.nii\.gz"}],
        "tables": [{"file": "*.csv", "subject": "MRID", "id_pattern": r"(?P<subject>IXI\d+)",
                    "columns": {"age_years": "Age", "sex": "Sex"}}],
    }, "test")
    rows = scan(test_data / "whole_head_T1/ixi_2mm", card).rows
    assert len(rows) == 5 and (rows[0].labels["age_years"], rows[0].labels["site"]) == (38.78, "HH")


def test_a_card_with_a_wrong_key_or_word_names_the_nearest_one() -> None:
    image = {"pattern": "(?P<subject>x)"}
    with pytest.raises(ManifestError, match="Did you mean 'images'"):
        card_from_dict({"name": "a", "stage": "native", "image": [image]}, "card")
    with pytest.raises(ManifestError, match="Did you mean 'native'"):
        card_from_dict({"name": "a", "stage": "nativ", "images": [image]}, "card")
    with pytest.raises(ManifestError, match="finds no subject"):
        card_from_dict({"name": "a", "stage": "native", "images": [{"pattern": "x"}]}, "card")


@pytest.mark.parametrize("raw", ["", "n/a", " NaN ", "unknown", None])
def test_an_empty_cell_is_missing_and_no_problem(raw: object) -> None:
    assert read_label("age_years", raw) == read_label("sex", raw) and read_label("sex", raw).problem is None
