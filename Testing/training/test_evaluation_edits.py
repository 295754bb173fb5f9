"""Who reads an edited scan, and who is left out of a table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.calibration import Calibration
from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from braing3n_core.models.dit import DiTConfig
from training.calibrate_forecaster import recalibrated
from training.evaluate.metrics.change import folds_of
from training.evaluate.study import QUICK, Study
from training.evaluate.tables.counterfactual import EDITS, Reads, _reached, _unseen, reaches
from training.evaluate.tables.longitudinal import compute, forward_pairs
from training.store import Store, subject_keys

from ..core.tiny_checkpoint import make_tiny_checkpoint


class Scans:
    """Records alone: nobody looks at the voxels here."""

    def __init__(self, records: list[dict[str, object]]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)


def told_apart_by_nothing(subjects: int = 60) -> Study:
    """A study of one T1 a subject, whose latents are noise and whose disease is drawn."""
    rng = np.random.default_rng(0)
    words = rng.permutation(["HC", "AD"] * (subjects // 2))
    records = [{"subject": f"s{i}", "visit": 0, "modality": "T1", "disease": str(w)} for i, w in enumerate(words)]
    study = Study(Scans(records), "noise", None, Path("nowhere"))  # type: ignore[arg-type]
    latents = rng.normal(size=(subjects, 50, 8)).astype(np.float32)
    study.__dict__["encodings"] = (latents, latents.mean(1))
    return study


def test_an_edited_scan_is_read_by_probes_that_have_not_seen_its_subject() -> None:
    study = told_apart_by_nothing()
    rows = study.where(disease="HC")
    known = study.readers.of("disease", {"modality": "T1"}, ("HC", "AD"))
    assert known is not None and (known.named(study.latents[rows]) == "HC").mean() > 0.95  # it learnt them by heart
    read = _unseen(study, "disease", ("HC", "AD"), rows, study.latents[rows] + 1)
    assert read is not None and sorted(read.classes) == ["AD", "HC"]
    share = (read.before.argmax(1) == read.classes.index("HC")).mean()
    assert share < 0.75
    assert read.before.shape == read.after.shape == (len(rows), 2) and not np.array_equal(read.before, read.after)


def test_with_too_few_other_subjects_nobody_reads() -> None:
    study = told_apart_by_nothing(10)
    assert _unseen(study, "disease", ("HC", "AD"), study.where(disease="HC"), study.latents[:5]) is None


def test_folds_hold_whole_subjects_and_every_row_has_one() -> None:
    subjects = np.repeat(np.arange(23), 3)
    fold = folds_of(subjects, 5)
    assert set(fold) == set(range(5))
    assert all(len(set(fold[subjects == s])) == 1 for s in range(23))


def test_the_table_tells_the_probability_of_the_target_and_how_many_scans_reached_it() -> None:
    values: dict[str, float] = {}
    shares = np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([[0.25, 0.75], [0.0, 1.0]])
    assert _reached(EDITS[0], Reads(*shares, ("HC", "AD")), "x", values) == "0.50 -> 0.88; 1 -> 2 scans"
    assert values["x"] == 1.0  # of the one that was not there before
    older = Reads(np.array([50.0, 60]), np.array([55.0, 71]))
    assert _reached(EDITS[3], older, "years", values) == "55.0 -> 63.0 y" and values["years"] == pytest.approx(0.8)


def test_an_age_is_edited_where_the_checkpoint_knows_both_ages_and_classes_everywhere() -> None:
    spec = DiTConfig(limits={"age_years": (20.0, 90.0)}).spec()
    ages: list[float | None] = [19.0, 20.0, 80.0, 80.5, 95.0, None]
    assert [reaches(spec, {"age_years": a}, EDITS[3]) for a in ages] == [False, True, True, False, False, False]
    assert all(reaches(spec, {"age_years": a}, EDITS[0]) for a in ages)
    assert reaches(DiTConfig().spec(), {"age_years": 95.0}, EDITS[3])


def test_subjects_whom_the_calibration_was_fitted_on_are_left_out_of_the_forecasts(
    balls: Path, tmp_path: Path
) -> None:
    folder = make_tiny_checkpoint(tmp_path / "tiny")
    study = Study(Store.open(balls), "balls", Inference(Parts(folder)), tmp_path / "raw", QUICK)
    before = forward_pairs(study)
    first = str(study.subjects[before.before[0]])
    fitted = {"names": [subject_keys(study.records)[first], "somebody else"]}
    shutil.copytree(folder, tmp_path / "same")
    recalibrated(load_checkpoint(folder / "forecaster"), Calibration(1.5, {}, fitted), tmp_path / "same")
    calibrated = Study(study.store, "balls", Inference(Parts(tmp_path / "same")), tmp_path / "new", QUICK)
    assert first not in calibrated.subjects[forward_pairs(calibrated).before]
    assert len(forward_pairs(calibrated).before) > 2
    assert calibrated.fingerprint_of("longitudinal") != study.fingerprint_of("longitudinal")
    assert any("fitted on 1 subjects of this data" in note for note in compute(calibrated).notes)
