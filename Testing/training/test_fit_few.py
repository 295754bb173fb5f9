"""A logistic fit of few features finds what a handful of them shows, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.errors import RequestError
from braing3n_core.probes import softmax, two_sided
from training.evaluate.metrics.scores import macro_auc
from training.fit_few import by_difference, fit_few
from training.fit_linear import LinearFit, fit_logistic

FEATURES = 5000


def scans(count: int, seed: int, effect: float, shown_by: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n,F) of which these are up by ``effect`` standard deviations in every second scan, words, subjects."""
    ill = np.arange(count) % 2 == 1
    features = np.random.default_rng(seed).normal(size=(count, FEATURES))
    features[np.ix_(ill, shown_by)] += effect
    sizes = np.random.default_rng(0).uniform(0.1, 10, FEATURES)  # no penalty may hang on the unit of a feature
    return (features * sizes + 3).astype(np.float32), np.where(ill, "PD", "HC"), np.arange(count)


def auc(fit: LinearFit, words: np.ndarray) -> float:
    """Of the scans that the fit had not seen."""
    return macro_auc(words, softmax(two_sided(fit.out_of_fold)), fit.classes)


def test_two_features_of_thousands_are_found_where_a_fit_of_all_sees_little() -> None:
    features, words, subjects = scans(300, 0, 1.2, [17, 4000])
    few, every = fit_few(features, words, subjects), fit_logistic(features, words, subjects)
    assert set(np.flatnonzero(few.weights[0])) >= {17, 4000} and few.penalty <= 8
    assert few.penalty == np.count_nonzero(few.weights)
    assert auc(few, words) > 0.85 and auc(few, words) > auc(every, words) + 0.1


def test_the_fit_reads_new_scans_as_well_as_it_says() -> None:
    features, words, subjects = scans(800, 0, 1.2, [17, 4000])
    few = fit_few(features, words, subjects)
    unseen, truth, _ = scans(800, 1, 1.2, [17, 4000])
    found = macro_auc(truth, softmax(two_sided(unseen @ few.weights.T + few.bias)), few.classes)
    assert abs(found - auc(few, words)) < 0.05


def test_where_nothing_is_shown_nothing_is_read_out_of_fold() -> None:
    features, words, subjects = scans(300, 1, 0.0, [])
    assert abs(auc(fit_few(features, words, subjects), words) - 0.5) < 0.1


def test_scans_of_one_subject_do_not_vouch_for_each_other() -> None:
    """Twins tell nothing of the word, and would be told from one another by heart."""
    features, words, _ = scans(60, 2, 0.0, [])
    subjects = np.repeat(np.arange(60), 2)
    twice = fit_few(np.repeat(features, 2, 0), np.repeat(words, 2), subjects)
    assert auc(twice, np.repeat(words, 2)) < 0.7


def test_of_three_words_each_is_told_by_a_feature_of_its_own() -> None:
    rng = np.random.default_rng(3)
    words = np.array(["AD", "HC", "MCI"] * 60)
    features = rng.normal(size=(180, 400)).astype(np.float32)
    for place, word in enumerate(np.unique(words)):
        features[words == word, place] += 3
    few = fit_few(features, words, np.arange(180))
    assert few.weights.shape == (3, 400) and few.classes == ("AD", "HC", "MCI")
    assert auc(few, words) > 0.95


def test_features_that_do_not_vary_come_last() -> None:
    features, words, _ = scans(40, 4, 0.0, [])
    features[:, [0, 9]] = 5.0
    order = by_difference(features[:, :20], words)
    assert set(order[-2:]) == {0, 9} and sorted(order) == list(range(20))


def test_a_word_of_four_subjects_is_refused() -> None:
    features, words, subjects = scans(40, 5, 0.0, [])
    words[:] = "HC"
    words[:4] = "PD"
    with pytest.raises(RequestError, match="too rare"):
        fit_few(features, words, subjects)
