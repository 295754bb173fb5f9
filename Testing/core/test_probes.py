"""Probes read what their weights say, with an interval, and know strangers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.checkpoint import CheckpointSpec, save_checkpoint
from braing3n_core.errors import CheckpointError, RequestError
from braing3n_core.probes import Familiarity, LinearProbe, ProbePanel, softmax
from braing3n_core.schema import Reading
from braing3n_core.wording import familiar_text

RNG = np.random.default_rng(0)
N, C, D = 20, 3, 16
AGE = LinearProbe(
    "age", "regression", "latents", RNG.normal(0, 1e-4, (1, N * C)), np.array([52.0]), unit="years", half_width=7.0,
    quality={"mae": 4.2, "data": "phantoms"},
)
SEX = LinearProbe(
    "sex", "classification", "embedding", RNG.normal(size=(1, D)), np.array([0.3]), classes=("F", "M"), temperature=2.0
)
DISEASE = LinearProbe(
    "disease", "classification", "latents", RNG.normal(size=(3, N * C)), np.zeros(3), classes=("HC", "AD", "PD")
)
FAMILIARITY = Familiarity("embedding", np.zeros(D), np.eye(D)[:2], np.array([3.0, 1.0]), residual_scale=2.0, limit=2.5)
PANEL = ProbePanel((AGE, SEX, DISEASE), FAMILIARITY)
LATENTS, EMBEDDING = RNG.normal(size=(N, C)).astype(np.float32), RNG.normal(size=D).astype(np.float32)


def test_a_regression_reads_a_value_with_unit_interval_and_quality() -> None:
    reading = AGE.read(LATENTS.reshape(-1))
    value = 52 + float(AGE.weights[0] @ LATENTS.reshape(-1))
    assert reading.value == pytest.approx(value, abs=1e-4) and reading.unit == "years" and reading.level == 0.9
    assert reading.interval == pytest.approx((value - 7, value + 7), abs=1e-4) and reading.quality["mae"] == 4.2


def test_a_classification_reads_the_likeliest_class_and_calibrated_probabilities() -> None:
    reading = DISEASE.read(LATENTS.reshape(-1))
    logits = DISEASE.weights @ LATENTS.reshape(-1)
    assert reading.value == DISEASE.classes[int(logits.argmax())] and reading.interval is None
    assert reading.probabilities is not None and sum(reading.probabilities.values()) == pytest.approx(1)
    assert [reading.probabilities[c] for c in DISEASE.classes] == pytest.approx(list(softmax(logits)), abs=1e-5)


def test_the_log_odds_of_a_two_class_probe_speak_for_the_second_class_and_are_tempered() -> None:
    odds = float(SEX.weights[0] @ EMBEDDING) + 0.3
    reading = SEX.read(EMBEDDING)
    assert reading.probabilities is not None
    assert reading.probabilities["M"] == pytest.approx(1 / (1 + np.exp(-odds / 2)), abs=1e-5)


def test_a_batch_is_read_like_its_rows() -> None:
    batch = RNG.normal(size=(4, N * C)).astype(np.float32)
    np.testing.assert_allclose(AGE.scores(batch)[2], AGE.scores(batch[2]), rtol=1e-6)


def test_the_panel_reads_every_probe_from_its_own_features() -> None:
    readings = PANEL.read(LATENTS, EMBEDDING)
    assert [r.task for r in readings] == ["age", "sex", "disease"]
    assert readings[1].probabilities == SEX.read(EMBEDDING).probabilities
    assert PANEL.probe("sex") is SEX
    with pytest.raises(RequestError, match="age, sex, disease"):
        PANEL.probe("mmse")


def test_a_stranger_is_out_of_distribution_on_every_reading_inside_or_off_the_familiar_subspace() -> None:
    usual = PANEL.read(LATENTS, np.zeros(D))
    along = PANEL.read(LATENTS, np.eye(D)[1] * 50)
    off = PANEL.read(LATENTS, np.eye(D)[9] * 50)
    assert all(r.in_distribution and r.ood_score == 0 for r in usual)
    assert all(not r.in_distribution and r.ood_score > 1 for r in along + off)
    assert FAMILIARITY.distance(np.eye(D)[9] * 4) == pytest.approx(2.0)
    assert FAMILIARITY.distance(np.eye(D)[0] * 6) == pytest.approx(np.sqrt(2))


def test_a_panel_survives_its_checkpoint_in_half_precision(tmp_path: Path) -> None:
    config, arrays = PANEL.save_arrays()
    card = "Fitted on phantoms, not for clinical use."
    saved = save_checkpoint(tmp_path / "probes", CheckpointSpec("probes", config, arrays, card, dtype="keep"))
    assert saved.tensors(dtype=None)["age.weights"].dtype == np.float16
    panel = ProbePanel.from_arrays(saved.config, saved.tensors(dtype=None))
    for before, after in zip(PANEL.read(LATENTS, EMBEDDING), panel.read(LATENTS, EMBEDDING), strict=True):
        assert (after.task, after.unit, after.quality) == (before.task, before.unit, before.quality)
        assert after.ood_score == pytest.approx(before.ood_score, rel=2e-3)
        if before.probabilities is None:
            assert after.value == pytest.approx(before.value, abs=1e-5) and after.interval is not None
        else:
            assert after.probabilities == pytest.approx(before.probabilities, abs=5e-3)
    np.testing.assert_allclose(panel.probes[0].weights, AGE.weights, atol=3e-7)


def test_a_panel_without_a_familiarity_model_round_trips_and_a_missing_array_is_said() -> None:
    config, arrays = ProbePanel((AGE,)).save_arrays()
    assert ProbePanel.from_arrays(config, arrays).read(LATENTS, EMBEDDING)[0].in_distribution
    del arrays["age.bias"]
    with pytest.raises(CheckpointError, match=r"age\.bias"):
        ProbePanel.from_arrays(config, arrays)


def test_features_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(RequestError, match="60 features, got 61"):
        AGE.read(np.zeros(61))


def test_a_probe_whose_weights_do_not_fit_its_classes_is_refused() -> None:
    with pytest.raises(CheckpointError, match="disease"):
        LinearProbe("disease", "classification", "latents", np.zeros((2, 5)), np.zeros(2), classes=("a", "b", "c"))
    with pytest.raises(CheckpointError, match="age"):
        LinearProbe("age", "regresion", "latents", np.zeros((1, 5)), np.zeros(1))


def test_the_distance_of_a_scan_has_a_percentile_among_the_training_scans_where_the_checkpoint_knows_them() -> None:
    known = dataclasses.replace(FAMILIARITY, quantiles=np.linspace(0.0, 2.5, 101))
    panel = ProbePanel((AGE,), known)
    at = np.eye(D)[9] * 2.0  # a distance of 1 in units of the residual
    assert panel.read(LATENTS, at)[0].ood_percentile == pytest.approx(40.0)
    assert panel.read(LATENTS, np.eye(D)[9] * 500)[0].ood_percentile == 100.0
    assert PANEL.read(LATENTS, at)[0].ood_percentile is None
    config, arrays = panel.save_arrays()
    assert ProbePanel.from_arrays(config, arrays).read(LATENTS, at)[0].ood_percentile == pytest.approx(40.0, abs=0.1)


def test_the_percentile_stands_in_the_words_beside_the_score() -> None:
    reading = Reading("age", 61.0, ood_score=0.5, ood_percentile=83.4)
    assert familiar_text(reading) == "yes (0.50, limit 1, further than 83 % of training)"
    assert "%" not in familiar_text(dataclasses.replace(reading, ood_percentile=None))
