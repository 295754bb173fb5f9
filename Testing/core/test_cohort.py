"""A synthetic cohort is a BIDS data set, whoever makes which part of it and however often it is stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.cli import main
from braing3n_core.cohort import CohortPlan, make_cohort, read_rows
from braing3n_core.engine import Engine
from braing3n_core.errors import Cancelled, RequestError
from braing3n_core.progress import Cancel
from braing3n_core.schema import Conditions, GenerateRequest

ROWS = (Conditions(disease="AD", age_years=80.0), Conditions(sex="F"))
BASE = GenerateRequest(num_steps=1, guidance_scale=1.0, seed=3)


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> Engine:
    return Engine(tiny_checkpoint, "cpu")


@pytest.fixture(scope="module")
def whole(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(engine, CohortPlan(BASE, ROWS), folder)
    return folder


def participants(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "participants.tsv").read_text().splitlines(), delimiter="\t"))


def latents(folder: Path) -> list[np.ndarray]:
    return [np.load(p, allow_pickle=False)["latents"] for p in sorted((folder / "sourcedata/latents").glob("*.npz"))]


def test_a_cohort_is_a_bids_data_set_in_which_everything_says_synthetic(whole: Path) -> None:
    rows = participants(whole)
    assert [r["participant_id"] for r in rows] == ["sub-synthetic0001", "sub-synthetic0002"]
    assert (rows[0]["disease"], rows[0]["age_years"], rows[1]["sex"]) == ("AD", "80.0", "F")
    assert rows[1]["disease"] == "n/a" and all(r["synthetic"] == "yes" for r in rows)
    description = json.loads((whole / "dataset_description.json").read_text())
    assert "SYNTHETIC" in description["Name"] and description["GeneratedBy"][0]["Name"] == "BrainG3N"
    for row in rows:
        stem = whole / row["participant_id"] / "anat" / f"{row['participant_id']}_space-SRI24_desc-generated_T1w"
        assert stem.with_name(f"{stem.name}.nii.gz").is_file()
        assert "SYNTHETIC" in json.loads(stem.with_name(f"{stem.name}.json").read_text())["Description"]


def test_shards_in_any_order_make_the_same_cohort_as_one_run(engine: Engine, whole: Path, tmp_path: Path) -> None:
    for shard in ((2, 2), (1, 2)):
        cohort = make_cohort(engine, CohortPlan(BASE, ROWS, shard), tmp_path)
    assert (cohort.present, cohort.planned, cohort.made) == (2, 2, 1)
    assert participants(tmp_path) == participants(whole)
    for ours, theirs in zip(latents(tmp_path), latents(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_stopped_cohort_goes_on_where_it_was_and_leaves_nothing_half_made(engine: Engine, tmp_path: Path) -> None:
    cancel = Cancel()

    def stop(fraction: float, message: str) -> None:
        if fraction > 0.55:
            cancel.cancel()

    with pytest.raises(Cancelled):
        make_cohort(engine, CohortPlan(BASE, ROWS), tmp_path, progress=stop, cancel=cancel)
    assert not list(tmp_path.glob(".making-*"))
    assert [p.name for p in tmp_path.glob("sub-*")] == ["sub-synthetic0001"]
    cohort = make_cohort(engine, CohortPlan(BASE, ROWS), tmp_path)
    assert (cohort.kept, cohort.made) == (1, 1)


def test_a_folder_of_another_request_is_refused(engine: Engine, whole: Path) -> None:
    with pytest.raises(RequestError, match="another request"):
        make_cohort(engine, CohortPlan(GenerateRequest(num_steps=2, seed=3), ROWS), whole)


def test_a_planted_copy_is_found_and_without_a_reference_nothing_is_claimed(
    engine: Engine, whole: Path, tmp_path: Path
) -> None:
    assert "not known" in json.loads((whole / "privacy_report.json").read_text())["note"]
    made = latents(whole)
    strangers = np.random.default_rng(0).normal(size=(8, *made[0].shape)).astype(np.float32)
    np.save(tmp_path / "latents.npy", np.concatenate([strangers, made[1][None]]))
    cohort = make_cohort(engine, CohortPlan(BASE, ROWS, reference=str(tmp_path)), whole)
    found = {row["participant_id"]: row for row in cohort.privacy["nearest"]}
    assert found["sub-synthetic0002"]["suspicious"] and found["sub-synthetic0002"]["reference_row"] == 8
    assert cohort.made == 0 and cohort.privacy["suspicious"] == 1


def test_the_command_line_reads_conditions_from_a_table_and_shows_how_far_it_is(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "people.tsv"
    table.write_text("participant_id\tage\tsex\nsub-1\t71\tM\nsub-2\tn/a\tF\n")
    assert read_rows(table) == (Conditions(age_years=71.0, sex="M"), Conditions(sex="F"))
    code = main([
        "generate", "--bids", "--participants", str(table), "--set", "disease=HC", "--steps", "1", "--guidance", "1",
        "--checkpoint", str(tiny_checkpoint), "--shard", "1/2", "-o", str(tmp_path / "out"), "--json",
    ])
    assert code == 0 and json.loads(capsys.readouterr().out)["present"] == 1
    assert participants(tmp_path / "out")[0]["disease"] == "HC"


@pytest.mark.parametrize("words", [("--shard", "2/4"), ("--participants", "p.tsv"), ("--reference", "latents.npy")])
def test_what_only_a_cohort_knows_is_refused_without_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    assert main(["generate", *words, "-o", str(tmp_path / "out")]) == 1
    assert f"{words[0]} is for a cohort, and --bids is not given" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cohort_in_nrrd_is_refused_before_a_brain_is_made(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "--bids", "--format", "nrrd", "--checkpoint", str(tiny_checkpoint)]
    assert main([*words, "-o", str(tmp_path / "out")]) == 1
    assert "Leave out --format nrrd" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("content", "said"), [
    (b"participant_id\tdisease\nM\xfcller\tAD\n", "not UTF-8"),
    (b"participant_id\tDesease\nsub-1\tAD\n", "none of the columns"), (b"age\tsex\n", "no rows"),
])  # fmt: skip
def test_a_table_without_conditions_is_refused_and_not_taken_for_brains_of_any_kind(
    tmp_path: Path, content: bytes, said: str
) -> None:
    table = tmp_path / "people.tsv"
    table.write_bytes(content)
    with pytest.raises(RequestError, match=said):
        read_rows(table)


def test_a_shard_that_does_not_exist_and_an_empty_cohort_are_refused() -> None:
    with pytest.raises(RequestError, match="no shard 3 of 2"):
        CohortPlan(BASE, ROWS, (3, 2))
    with pytest.raises(RequestError, match="at least one"):
        CohortPlan(BASE, ())
