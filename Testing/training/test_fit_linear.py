"""The dual fits equal scikit-learn's primal ones, and their intervals hold on fresh data."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.errors import RequestError
from training.fit_linear import (
    Design,
    classification_probe,
    conformal_half_width,
    fit_familiarity,
    fit_logistic,
    fit_ridge,
    fit_temperature,
    log_loss,
    regression_probe,
    shrunk,
)

linear_model = pytest.importorskip("sklearn.linear_model")
RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(6, 300)).astype(np.float32)


def _cohort(n: int, rng: np.random.Generator, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n,300) far from the origin, their causes (n,6), and subjects with three visits each."""
    causes = rng.normal(size=(n, 6)) + shift
    features = causes @ MIX + rng.normal(size=(n, 300)) + 5
    return features.astype(np.float32), causes, np.arange(n) // 3


X, CAUSES, SUBJECTS = _cohort(180, RNG)
AGE = 50 + 15 * CAUSES[:, 0] + 3 * RNG.normal(size=180)
DISEASE = np.array(["HC", "AD", "PD"])[CAUSES[:, 1:4].argmax(1)]
DESIGN = Design.of(X)


def test_the_dual_ridge_equals_the_primal_one() -> None:
    fit = fit_ridge(DESIGN, AGE, SUBJECTS)
    primal = linear_model.Ridge(alpha=fit.penalty, solver="svd").fit(X.astype(np.float64), AGE)
    np.testing.assert_allclose(fit.weights[0], primal.coef_, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(X @ fit.weights[0] + fit.bias, primal.predict(X), atol=5e-3)


def test_out_of_fold_predictions_come_from_fits_that_never_saw_the_subject() -> None:
    fit = fit_ridge(DESIGN, AGE, SUBJECTS, alphas=[0.01])
    from training.fit_linear import subject_folds

    for train, test in subject_folds(SUBJECTS):
        assert not set(SUBJECTS[train]) & set(SUBJECTS[test])
        primal = linear_model.Ridge(alpha=fit.penalty, solver="svd").fit(X[train].astype(np.float64), AGE[train])
        np.testing.assert_allclose(fit.out_of_fold[test], primal.predict(X[test]), atol=5e-3)


def test_cross_validation_prefers_a_strong_penalty_for_noise_and_a_weak_one_for_signal() -> None:
    noise = fit_ridge(DESIGN, RNG.normal(size=180), SUBJECTS)
    signal = fit_ridge(DESIGN, CAUSES[:, 0], SUBJECTS)
    assert noise.penalty > 10 * signal.penalty


def test_the_reduced_logistic_equals_the_full_one() -> None:
    fit = fit_logistic(DESIGN, DISEASE, SUBJECTS, inverse_penalties=[1.0])
    full = linear_model.LogisticRegression(C=fit.penalty, max_iter=20_000, tol=1e-8).fit(X - X.mean(0), DISEASE)
    logits = X.astype(np.float64) @ fit.weights.T + fit.bias
    reference = full.decision_function(X - X.mean(0))
    assert fit.classes == tuple(full.classes_)
    reference = reference - reference.mean(1, keepdims=True)
    np.testing.assert_allclose(logits - logits.mean(1, keepdims=True), reference, atol=0.02)


def test_a_two_class_fit_has_one_row_and_reads_the_right_class() -> None:
    sex = np.where(CAUSES[:, 4] > 0, "M", "F")
    probe = classification_probe("sex", "latents", fit_logistic(DESIGN, sex, SUBJECTS), sex)
    assert probe.weights.shape == (1, 300) and probe.quality["auc"] > 0.95
    fresh, causes, _ = _cohort(200, np.random.default_rng(5))
    shares = probe.probabilities(fresh)[:, 1]
    assert ((shares > 0.5) == (causes[:, 4] > 0)).mean() > 0.9


def test_conformal_intervals_cover_fresh_scans_at_their_level() -> None:
    probe = regression_probe("age", "latents", fit_ridge(DESIGN, AGE, SUBJECTS), AGE, unit="years", level=0.9)
    rng = np.random.default_rng(9)
    fresh, causes, _ = _cohort(3000, rng)
    truth = 50 + 15 * causes[:, 0] + 3 * rng.normal(size=3000)
    covered = np.abs(probe.scores(fresh)[:, 0] - truth) <= probe.half_width
    assert 0.88 <= covered.mean() <= 0.97 and probe.half_width < 9 and probe.quality["r2"] > 0.9


def test_the_conformal_half_width_is_the_finite_sample_quantile() -> None:
    residuals = np.arange(1.0, 20.0)
    assert conformal_half_width(residuals, np.zeros(19), 0.9) == 18
    assert conformal_half_width(residuals, np.zeros(19), 0.99) == float("inf")


def test_the_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (4000, 3))
    classes = ("a", "b", "c")
    labels = np.array(classes)[(logits + rng.gumbel(size=logits.shape)).argmax(1)]
    assert fit_temperature(3 * logits, labels, classes) == pytest.approx(3, rel=0.1)
    assert log_loss(3 * logits, labels, classes) > log_loss(logits, labels, classes)


def test_a_subset_of_a_design_fits_like_the_subset_itself() -> None:
    rows = np.flatnonzero(AGE > 45)
    a = fit_ridge(DESIGN.subset(rows), AGE[rows], SUBJECTS[rows])
    b = fit_ridge(X[rows], AGE[rows], SUBJECTS[rows])
    np.testing.assert_allclose(a.out_of_fold, b.out_of_fold, atol=1e-3)
    np.testing.assert_allclose(a.weights, b.weights, atol=1e-5)


def test_about_one_fresh_scan_in_a_hundred_is_called_strange_and_a_shifted_one_always() -> None:
    model = fit_familiarity(DESIGN, SUBJECTS, components=6)
    fresh, _, _ = _cohort(2000, np.random.default_rng(3))
    assert (model.score(fresh) > 1).mean() < 0.04
    assert (model.score(_cohort(50, np.random.default_rng(4), shift=6.0)[0]) > 1).mean() > 0.95
    assert (model.score(fresh[:50] + 4 * RNG.normal(size=(50, 300))) > 1).all()
    np.testing.assert_allclose(model.components @ model.components.T, np.eye(6), atol=1e-4)


def test_too_few_subjects_or_a_rare_class_are_refused_in_a_sentence() -> None:
    with pytest.raises(RequestError, match="5 subjects"):
        fit_ridge(X[:9], AGE[:9], SUBJECTS[:9])
    labels = DISEASE.astype("<U4")
    labels[:3] = "rare"
    with pytest.raises(RequestError, match="rare"):
        fit_logistic(DESIGN, labels, SUBJECTS)


def test_the_percentile_of_a_fresh_scan_is_spread_over_0_to_100_and_a_shifted_one_is_at_the_end() -> None:
    model = fit_familiarity(DESIGN, SUBJECTS, components=6)
    fresh = model.distance(_cohort(400, np.random.default_rng(3))[0])
    ranks = [model.percentile(float(d)) for d in fresh]
    assert 35 < np.median(ranks) < 65 and np.percentile(ranks, 10) < 25 and np.percentile(ranks, 90) > 75
    assert model.percentile(float(model.distance(_cohort(1, np.random.default_rng(4), shift=6.0)[0])[0])) == 100


def test_variances_of_few_scans_are_shrunk_to_their_mean_and_those_of_many_are_kept() -> None:
    rng = np.random.default_rng(5)
    scale = np.array([3.0, 2.0, 1.0])

    def leading(count: int) -> tuple[np.ndarray, np.ndarray]:
        scans = rng.normal(size=(count, 3)) * scale
        scans -= scans.mean(0)
        gram = scans @ scans.T
        return np.linalg.eigvalsh(gram)[-3:] / count, gram

    few, gram = leading(6)
    assert np.ptp(shrunk(few, gram)) < 0.8 * np.ptp(few) and shrunk(few, gram).mean() == pytest.approx(few.mean())
    many, gram = leading(2000)
    np.testing.assert_allclose(shrunk(many, gram), many, rtol=0.02)
