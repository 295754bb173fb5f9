"""Logistic regression of few features, for what shows in a handful of them.

A penalty on the squares of the weights (:mod:`training.fit_linear`) asks a little of every feature. What two tokens of
1200 show is then lost in the noise of the others, however plainly they show it. Here those features are kept that
differ most between the classes, so many as tell scans best that they were not chosen by.

Legend: n scans, F features, K outputs.
"""

from __future__ import annotations

import warnings

import numpy as np

from .fit_linear import LinearFit, checked_classes, log_loss, subject_folds

COUNTS: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Of features, among which cross-validation decides."""


def fit_few(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> LinearFit:
    """Multinomial logistic regression of the best few of features (n,F), their number and they themselves chosen
    without the scans that are read out of fold. Raises RequestError for classes of too few subjects.

    The penalty of the fit is the number of features that it kept.
    """
    labels = np.asarray(labels).astype(str)
    classes = checked_classes(labels, groups)
    counts = [count for count in COUNTS if count <= features.shape[1]]
    trials: list[np.ndarray] = []
    for train, test in subject_folds(groups, labels):
        order = by_difference(features[train], labels[train])
        fits = [_logistic(features[train], labels[train], order[:count]) for count in counts]
        scores = [features[test].astype(np.float64) @ weights.T + bias for weights, bias in fits]
        trials = trials or [np.empty((len(labels), scores[0].shape[1])) for _ in counts]
        for trial, score in zip(trials, scores, strict=True):
            trial[test] = score
    best = int(np.argmin([log_loss(trial, labels, classes) for trial in trials]))
    weights, bias = _logistic(features, labels, by_difference(features, labels)[: counts[best]])
    return LinearFit(weights.astype(np.float32), bias, float(counts[best]), trials[best], classes)


def by_difference(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Places (F,) of the features, from that which differs most between the classes (analysis of variance) on; last
    are those that do not vary.
    """
    from sklearn.feature_selection import f_classif

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that do not vary: they are what is put last
        ratio = np.nan_to_num(f_classif(features, labels)[0], nan=-1.0, posinf=np.inf)
    return np.argsort(-ratio, kind="stable")


def _logistic(features: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K,F) and bias (K,) of the chosen features, each of unit variance to the penalty."""
    from sklearn.linear_model import LogisticRegression

    values = features[:, chosen].astype(np.float64)
    mean, size = values.mean(0), np.maximum(values.std(0), 1e-12)
    model = LogisticRegression(max_iter=1000).fit((values - mean) / size, labels)
    weights = np.zeros((len(model.coef_), features.shape[1]))
    weights[:, chosen] = model.coef_ / size
    return weights, model.intercept_ - weights[:, chosen] @ mean
