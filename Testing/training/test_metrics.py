"""Every metric of the report on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.metrics.change import conformal_width, coverage, cross_conformal, delta_rmae, slope
from training.evaluate.metrics.crossval import in_span, predict_classes, predict_numbers, random_halves, site_folds
from training.evaluate.metrics.distances import frechet_distance, kernel_distance, standardised, variety
from training.evaluate.metrics.edits import composition_error, drift, effectiveness, reversibility
from training.evaluate.metrics.scores import auc, balanced_accuracy, bootstrap, correlation, macro_auc, r2
from training.fit_linear import subject_folds


def with_moments(rng: np.random.Generator, count: int, mean: np.ndarray, root: np.ndarray) -> np.ndarray:
    """A sample whose own mean and covariance are exactly ``mean`` and ``root @ root``."""
    x = rng.normal(size=(count, len(mean)))
    x -= x.mean(0)
    white = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return white @ root + mean


def test_the_frechet_distance_of_two_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a = with_moments(rng, 50, np.zeros(3), np.diag([1.0, 2.0, 3.0]))
    b = with_moments(rng, 40, np.array([1.0, -2.0, 0.5]), np.diag([2.0, 2.0, 1.0]))
    # Commuting covariances: |mean difference|^2 + sum of squared differences of the standard deviations.
    assert frechet_distance(a, b) == pytest.approx(5.25 + 1 + 0 + 4)


def test_the_frechet_distance_of_covariances_that_do_not_commute_is_that_of_the_matrix_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_of_a_set_to_itself_is_nothing_even_with_fewer_samples_than_features() -> None:
    x = np.random.default_rng(2).normal(size=(10, 40))
    assert abs(frechet_distance(x, x)) < 1e-8


def test_the_frechet_distance_of_small_equal_sets_is_biased_and_the_kernel_distance_is_not() -> None:
    rng = np.random.default_rng(3)
    pairs = [(rng.normal(size=(24, 8)), rng.normal(size=(24, 8))) for _ in range(200)]
    kernel = np.array([kernel_distance(a, b) for a, b in pairs])
    assert abs(kernel.mean()) < 3 * kernel.std() / np.sqrt(len(kernel)) and kernel.min() < 0
    assert np.mean([frechet_distance(a, b) for a, b in pairs[:20]]) > 0.3


def test_the_kernel_distance_sees_a_shift() -> None:
    rng = np.random.default_rng(4)
    assert kernel_distance(rng.normal(size=(60, 4)), rng.normal(1.0, 1, size=(60, 4))) > 0.5


def test_the_variety_of_features_is_their_spread_over_that_of_others_wherever_they_lie() -> None:
    rng = np.random.default_rng(0)
    people, others = rng.normal(size=(400, 6)), rng.normal(size=(300, 6))
    assert variety(0.3 * people + 5, people) == pytest.approx(0.3)
    assert variety(others, people) == pytest.approx(1, abs=0.05)


def test_standardised_features_have_the_unit_of_the_reference() -> None:
    reference, other = standardised(np.array([[0.0, 10], [2, 30]]), np.array([[1.0, 20]]))
    np.testing.assert_allclose(reference.std(0), 1)
    np.testing.assert_allclose(other, 0)


def test_sets_of_different_length_features_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        frechet_distance(np.zeros((4, 3)), np.zeros((4, 2)))


def test_a_known_slope_is_found_and_a_constant_has_none() -> None:
    x = np.array([0.0, 1, 2, 5])
    assert slope(x, 0.27 * x + 3) == pytest.approx(0.27)
    assert np.isnan(slope(np.ones(4), x))


def test_copying_the_baseline_has_a_relative_error_of_one_and_the_truth_of_zero() -> None:
    truth = np.array([1.0, -2, 4])
    assert delta_rmae(truth, np.zeros(3)) == 1 and delta_rmae(truth, truth) == 0
    assert delta_rmae(truth, truth / 2) == pytest.approx(0.5)


def test_coverage_counts_the_ends_of_the_intervals() -> None:
    truth = np.array([0.0, 1, 2, 3])
    assert coverage(truth, np.full(4, 1.0), np.full(4, 2.0)) == 0.5


def test_the_conformal_width_is_the_finite_sample_quantile() -> None:
    assert conformal_width(np.arange(1, 20), 0.9) == 18  # rank ceil(20 * .9) of 19 residuals
    assert conformal_width(np.arange(5), 0.9) == np.inf


def test_calibrated_intervals_cover_what_they_promise_whatever_the_noise() -> None:
    rng = np.random.default_rng(7)
    truth, predicted = rng.normal(size=2000), rng.standard_t(3, size=2000)
    widths = cross_conformal(truth, predicted, np.arange(2000))
    assert abs(coverage(truth, predicted - widths, predicted + widths) - 0.9) < 0.02


def test_an_auc_is_the_share_of_pairs_in_order() -> None:
    assert auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert auc(np.array([0, 1]), np.array([1.0, 1.0])) == 0.5
    assert np.isnan(auc(np.ones(3), np.arange(3)))


def test_aucs_agree_with_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    rng = np.random.default_rng(8)
    labels = np.array(["a", "b", "c"])[rng.integers(3, size=200)]
    scores = np.round(rng.random((200, 3)), 1)
    scores /= scores.sum(1, keepdims=True)
    named = np.array(["a", "b", "c"])[scores.argmax(1)]
    assert macro_auc(labels, scores, ("a", "b", "c")) == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr"))
    assert balanced_accuracy(labels, named) == pytest.approx(balanced_accuracy_score(labels, named))


def test_r2_of_the_mean_is_zero_and_of_the_truth_one() -> None:
    y = np.array([1.0, 2, 4])
    assert r2(y, np.full(3, y.mean())) == pytest.approx(0) and r2(y, y) == 1 and np.isnan(correlation(y, np.ones(3)))


def test_the_bootstrap_interval_of_a_mean_has_its_known_width() -> None:
    x = np.random.default_rng(9).normal(size=400)
    found = bootstrap(lambda rows: float(x[rows].mean()), np.arange(400), rounds=2000)
    assert found.value == x.mean()
    assert (found.high - found.low) / (2 * 1.96 / np.sqrt(400)) == pytest.approx(1, abs=0.12)


def test_the_bootstrap_draws_subjects_not_scans() -> None:
    x = np.repeat(np.random.default_rng(10).normal(size=50), 8)  # eight equal scans a subject tell nothing new

    def width(subjects: np.ndarray) -> float:
        found = bootstrap(lambda rows: float(x[rows].mean()), subjects, rounds=500)
        return found.high - found.low

    assert width(np.repeat(np.arange(50), 8)) / width(np.arange(400)) == pytest.approx(8**0.5, rel=0.2)


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for trial in range(200):
        x = rng.normal(size=80)
        found = bootstrap(lambda rows, x=x: float(x[rows].mean()), np.arange(80), rounds=200, seed=trial)
        hits += found.low <= 0 <= found.high
    assert 0.9 <= hits / 200 <= 0.99


def test_the_null_edit_and_the_edit_that_is_undone_score_zero() -> None:
    rng = np.random.default_rng(12)
    scans, step = rng.normal(size=(3, 10)), rng.normal(size=(3, 10))
    assert composition_error(scans, scans.copy()) == 0
    np.testing.assert_allclose(reversibility(scans, scans + step, scans), 0)
    np.testing.assert_allclose(reversibility(scans, scans + step, scans + 0.1 * step), 0.1)


def test_effectiveness_counts_only_those_who_were_not_there_before() -> None:
    assert effectiveness(np.array([0.1, 0.2, 0.9]), np.array([0.8, 0.3, 0.9])) == 0.5
    assert np.isnan(effectiveness(np.array([0.9]), np.array([0.9])))


def test_drift_of_class_probabilities_is_their_total_variation() -> None:
    before, after = np.array([[1.0, 0, 0]]), np.array([[0.7, 0.3, 0]])
    assert drift(before, after) == pytest.approx(0.3)
    assert drift(np.array([30.0, 40]), np.array([31.0, 37])) == 2


def test_the_span_keeps_the_distances_of_the_scans() -> None:
    x = np.random.default_rng(13).normal(size=(12, 300))
    y = in_span(x)
    ratio = np.linalg.norm(x[0] - x[5]) / np.linalg.norm(y[0] - y[5])
    assert np.linalg.norm(x[3] - x[8]) / np.linalg.norm(y[3] - y[8]) == pytest.approx(ratio, rel=1e-4)
    assert np.square(y).sum(1).mean() == pytest.approx(1)


def test_cross_validation_reads_a_linear_signal_and_nothing_from_noise() -> None:
    rng = np.random.default_rng(14)
    x, subjects = rng.normal(size=(160, 12)), np.arange(160) // 2
    y = x @ rng.normal(size=12)
    folds = subject_folds(subjects)
    assert r2(y, predict_numbers(x, y, subjects, folds)) > 0.99
    assert r2(y, predict_numbers(rng.normal(size=(160, 12)), y, subjects, folds)) < 0.1
    words = np.where(y > 0, "high", "low")
    shares, classes = predict_classes(x, words, subjects, subject_folds(subjects, words))
    assert macro_auc(words, shares, classes) > 0.97
    noise = rng.permutation(words)
    shares, classes = predict_classes(x, noise, subjects, subject_folds(subjects, noise))
    assert macro_auc(noise, shares, classes) < 0.65


def test_a_subjects_identity_does_not_leak_through_the_folds() -> None:
    """Labels that belong to subjects at random: scans of one subject would tell them, if folds split subjects."""
    rng = np.random.default_rng(15)
    subjects = np.repeat(np.arange(60), 4)
    x = np.repeat(rng.normal(size=(60, 80)), 4, axis=0) + 0.01 * rng.normal(size=(240, 80))
    words = np.repeat(rng.permutation(["a", "b"] * 30), 4)
    shares, classes = predict_classes(x, words, subjects, subject_folds(subjects, words))
    assert macro_auc(words, shares, classes) < 0.7


def test_leaving_a_site_out_leaves_its_subjects_out() -> None:
    sites, subjects = np.array(["a", "a", "b", "b", "c"]), np.array([1, 2, 1, 3, 4])
    for fit, test in site_folds(sites, subjects):
        assert not set(subjects[fit]) & set(subjects[test]) and len(set(sites[test])) == 1


def test_random_halves_are_of_one_size_and_share_no_subject() -> None:
    subjects = np.repeat(np.arange(9), [1, 2, 3, 1, 2, 3, 1, 2, 3])
    for first, second in random_halves(subjects, 5):
        assert len(first) == len(second) > 0 and not set(subjects[first]) & set(subjects[second])


def test_the_structural_similarity_is_that_of_monai() -> None:
    import torch
    from monai.metrics.regression import SSIMMetric

    from training.evaluate.metrics.images import ssim

    torch.manual_seed(0)
    a = torch.randn(20, 24, 18)
    b = a + 0.5 * torch.randn(20, 24, 18)
    expected = float(SSIMMetric(spatial_dims=3, data_range=6.0)(a[None, None], b[None, None]))
    assert ssim(a, b, 6.0) == pytest.approx(expected, abs=1e-4)
    assert ssim(a, a, 6.0) == pytest.approx(1)
