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
    """Multinomial logistic regression of the best few of features (n,F), chosen without the scans that are read out of
    fold; how many is decided by how well those are read. Raises RequestError for classes of too few subjects.

    The penalty of the fit is the number of features that it kept.
    """
    labels = np.asarray(labels).astype(str)
    classes = checked_classes(labels, groups)
    counts = [count for count in COUNTS if count <= features.shape[1]]
    trials = np.empty((len(counts), len(labels), len(classes) if len(classes) > 2 else 1))
    for train, test in subject_folds(groups, labels):
        order = by_difference(features[train], labels[train])[: counts[-1]]
        fitted, unseen = features[train][:, order], features[test][:, order]
        for trial, count in zip(trials, counts, strict=True):
            weights, bias = _logistic(fitted[:, :count], labels[train])
            trial[test] = unseen[:, :count] @ weights.T + bias
    best = int(np.argmin([log_loss(trial, labels, classes) for trial in trials]))
    chosen = by_difference(features, labels)[: counts[best]]
    weights, bias = _logistic(features[:, chosen], labels)
    everywhere = np.zeros((len(weights), features.shape[1]), np.float32)
    everywhere[:, chosen] = weights
    return LinearFit(everywhere, bias, float(counts[best]), trials[best], classes)


def by_difference(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Places (F,) of the features, from that which differs most between the classes (analysis of variance) on; last
    are those that do not vary.
    """
    from sklearn.feature_selection import f_classif

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that do not vary: they are what is put last
        ratio = np.nan_to_num(f_classif(features, labels)[0], nan=-1.0, posinf=np.inf)
    return np.argsort(-ratio, kind="stable")


def _logistic(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K,F) and bias (K,) of the features (n,F), each of unit variance to the penalty."""
    from sklearn.linear_model import LogisticRegression

    values = features.astype(np.float64)
    mean, size = values.mean(0), np.maximum(values.std(0), 1e-12)
    model = LogisticRegression(max_iter=1000).fit((values - mean) / size, labels)
    weights = model.coef_ / size
    return weights, model.intercept_ - weights @ mean
