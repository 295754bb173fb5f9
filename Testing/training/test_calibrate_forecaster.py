"""Gain and spread are recovered from ensembles whose truth is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from braing3n_core.calibration import Calibration
from braing3n_core.checkpoint import load_checkpoint
from training.calibrate_forecaster import (
    ANCHOR,
    Reads,
    calibrate,
    coverage,
    fit_gain,
    fit_spread,
    main,
    reported_on,
    split_subjects,
)
from training.latents import LatentSet
from training.loop import TrainingError
from training.store import subject_keys

from ..core.tiny_checkpoint import make_tiny_checkpoint

SUBJECTS = np.repeat(np.arange(300), 2)


def _reads(shrink: float, confidence: float, seed: int = 0) -> Reads:
    """Ensembles that forecast ``shrink`` of the true change, ``confidence`` times too narrow for their error."""
    rng = np.random.default_rng(seed)
    count = len(SUBJECTS)
    baseline, change, error = rng.normal(30, 8, count), rng.normal(3, 4, count), rng.normal(0, 1, count)
    samples = (change - error)[:, None] + rng.normal(0, 1 / confidence, (count, 16))
    follow_up = baseline + change
    return Reads(baseline, follow_up, baseline[:, None] + shrink * samples)


def test_the_gain_undoes_a_forecast_that_changes_too_little() -> None:
    # An unpredictable error of 1 beside a mean square change of 25 takes 1 part in 26 off the least-squares factor.
    assert fit_gain(_reads(0.27, 1.0)) == pytest.approx(25 / 26 / 0.27, rel=0.05)


def test_a_forecast_that_does_not_change_or_goes_the_wrong_way_stays_raw() -> None:
    plain = _reads(0.27, 1.0)
    still = Reads(plain.baseline, plain.follow_up, np.repeat(plain.baseline[:, None], 4, 1))
    assert fit_gain(still) == 1.0 and fit_gain(_reads(-1.0, 1.0)) == 1.0


def test_an_interval_that_is_five_times_too_narrow_is_widened_until_fresh_pairs_are_covered() -> None:
    known, fresh = _reads(1.0, 5.0), _reads(1.0, 5.0, seed=1)
    factor = fit_spread(known.samples, known.follow_up)
    assert coverage(fresh.samples, fresh.follow_up) < 0.5
    assert 0.85 <= coverage(fresh.samples, fresh.follow_up, factor) <= 0.95


def test_with_too_few_pairs_every_one_of_them_is_covered() -> None:
    known = _reads(1.0, 5.0).rows(np.arange(4))
    assert coverage(known.samples, known.follow_up, fit_spread(known.samples, known.follow_up) * (1 + 1e-9)) == 1.0


def test_raw_and_calibrated_are_both_reported_and_the_calibrated_on_subjects_that_the_fit_had_not_seen() -> None:
    found = calibrate({ANCHOR: _reads(0.5, 5.0)}, SUBJECTS)
    assert found.gain == pytest.approx(2.0 * 25 / 26, rel=0.05)
    assert found.fitted["slope_raw"] == pytest.approx(0.5 * 26 / 25, rel=0.05)
    assert found.fitted["slope_calibrated"] == pytest.approx(1.0, rel=0.1)
    assert found.fitted["coverage_raw"][ANCHOR] < 0.5
    assert 0.85 <= found.fitted["coverage_calibrated"][ANCHOR] <= 0.95
    assert found.fitted["subjects"] == 300


def test_a_calibration_survives_the_metrics_of_a_checkpoint_and_older_ones_are_read() -> None:
    found = calibrate({ANCHOR: _reads(0.5, 5.0)}, SUBJECTS)
    assert Calibration.of({"calibration": found.to_dict(), "pairs": 3}) == found
    assert Calibration.of({"gain": 1.5}).gain == 1.5 and Calibration.of({}).is_raw


def test_an_interval_is_widened_about_its_centre_and_a_task_without_a_factor_is_left_alone() -> None:
    known = Calibration(spread={"age": 2.0})
    assert known.widen("age", 60.0, (58.0, 61.0)) == (56.0, 62.0)
    assert known.widen("brain_volume", 60.0, (58.0, 61.0)) == (58.0, 61.0)


def test_the_subjects_of_the_fit_and_of_the_test_never_overlap() -> None:
    fit, test = split_subjects(SUBJECTS, 120)
    assert not set(SUBJECTS[fit]) & set(SUBJECTS[test])
    assert len(set(SUBJECTS[fit])) == 120 and len(fit) + len(test) == len(SUBJECTS)


@pytest.mark.parametrize("first", [0, 1, 300, 301])
def test_a_split_that_leaves_nobody_to_fit_or_to_test_on_is_refused(first: int) -> None:
    with pytest.raises(TrainingError, match="does not divide 300 subjects"):
        split_subjects(SUBJECTS, first)


def test_subjects_that_were_left_out_tell_raw_and_calibrated_coverage() -> None:
    fit, test = split_subjects(SUBJECTS, 200)
    reads = _reads(0.5, 5.0)
    found = reported_on(calibrate({ANCHOR: reads.rows(fit)}, SUBJECTS[fit]), {ANCHOR: reads.rows(test)}, SUBJECTS[test])
    told = found.fitted["test"]
    assert (told["subjects"], told["pairs"]) == (100, 200)
    assert told["coverage_raw"][ANCHOR] < 0.5 and 0.83 <= told["coverage_calibrated"][ANCHOR] <= 0.97
    assert told["slope_raw"] == pytest.approx(0.5, rel=0.1) and told["slope_calibrated"] == pytest.approx(1, rel=0.1)


def test_a_subject_has_one_key_in_every_folder_and_namesakes_have_others() -> None:
    visits = [{"subject": "sub-1", "visit": v, "age_years": 60.0 + v, "sex": "F", "site": "A"} for v in (0, 1)]
    moved = [{**v, "subject": f"/somewhere:{v['subject']}", "modality": "T2"} for v in reversed(visits)]
    namesake = [{**v, "sex": "M"} for v in visits]
    key = subject_keys(visits)["sub-1"]
    assert subject_keys(moved) == {"/somewhere:sub-1": key}
    assert subject_keys(namesake)["sub-1"] != key


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def visits(tokenizer: str, *, truth: bool = True, sides: str = "") -> LatentSet:
    """Four people, two visits each. sides: first letters of their sides of the split."""
    records = [
        {"subject": f"p{i}", "visit": visit, "modality": "T1", "age_years": 60.0 + i + 3 * visit, "disease": "HC",
         "split": {"t": "train", "v": "val"}[sides[i]] if sides else None,
         "truth": {"ventricles_ml": 30.0 + i + visit, "gm_ml": 600.0, "wm_ml": 500.0 + visit} if truth else None}
        for i in range(4) for visit in range(2)
    ]  # fmt: skip
    chance = torch.Generator().manual_seed(0)
    return LatentSet(torch.randn(len(records), 1200, 32, generator=chance), records, tokenizer)


def run_on(data: LatentSet, checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    data.save(out / "latents")
    parts = [word for part in ("forecaster", "probes") for word in (f"--{part}", str(checkpoint / part))]
    words = [*parts, "--latents", str(out / "latents"), "--samples", "2", "--device", "cpu", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["calibrate_forecaster", *words])
    main()
    return out / "forecaster"


def test_the_command_keeps_the_calibration_in_the_forecasters_metrics(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_checkpoint(checkpoint / "tokenizer", "tokenizer").id
    made = run_on(visits(tokenizer, sides="tvvt"), checkpoint, tmp_path, monkeypatch)
    fitted = Calibration.of(load_checkpoint(made, "forecaster").metrics).fitted
    assert (fitted["subjects"], fitted["pairs"]) == (2, 4), "those of the side val"


def test_visits_need_no_truth_for_the_probe_reads_them(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_checkpoint(checkpoint / "tokenizer", "tokenizer").id
    made = run_on(visits(tokenizer, truth=False), checkpoint, tmp_path, monkeypatch)
    assert Calibration.of(load_checkpoint(made, "forecaster").metrics).spread[ANCHOR] > 0


def test_latents_that_the_forecaster_never_learnt_and_subjects_of_one_visit_are_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match="made by tokenizer 0123"):
        run_on(visits("0123456789abcdef"), checkpoint, tmp_path, monkeypatch)
    tokenizer = load_checkpoint(checkpoint / "tokenizer", "tokenizer").id
    with pytest.raises(TrainingError, match="No pair of visits"):
        run_on(visits(tokenizer).rows([0, 2, 4, 6]), checkpoint, tmp_path, monkeypatch)
    with pytest.raises(TrainingError, match="None of the 8 volumes is on the side val"):
        visits(tokenizer, sides="tttt").for_validation()
