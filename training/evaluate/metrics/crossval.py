"""Predictions of scans that a linear model has not seen: folds by subject, the penalty chosen inside each fold.

Legend: n scans, F features, K classes. Features are rotated into the span of the scans by their Gram matrix, which
changes no solution of an L2 penalty, so 38,400 features cost no more than 256.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...fit_linear import SEED, Design, Folds

INVERSE_PENALTIES = (1.0, 30.0, 1000.0)
ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def in_span(features: np.ndarray) -> np.ndarray:
    """The scans (n,F) as (n,r) with the same distances, mean squared norm 1, r at most n."""
    return span_of(Design.of(np.asarray(features, np.float32)).gram)


def span_of(gram: np.ndarray) -> np.ndarray:
    """:func:`in_span` of scans whose centred Gram matrix (n,n) is known."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > max(float(values[-1]), 1e-12) * 1e-9
    scale = max(float(np.trace(gram)) / len(gram), 1e-12)
    return vectors[:, kept] * np.sqrt(values[kept] / scale)


def site_folds(sites: np.ndarray, subjects: np.ndarray) -> Folds:
    """One fold a site: test on it, fit on the subjects who never were there."""
    made = []
    for site in np.unique(sites):
        test = np.flatnonzero(sites == site)
        fit = np.flatnonzero(~np.isin(subjects, subjects[test]))
        if len(fit):
            made.append((fit, test))
    return made


def predict_numbers(features: np.ndarray, y: np.ndarray, subjects: np.ndarray, folds: Folds) -> np.ndarray:
    """Ridge predictions (n,) of y (n,); nan where no fold tests a scan. features: :func:`in_span`, or few."""
    predicted = np.full(len(y), np.nan)
    for fit, test in folds:
        inner, held = _inner(fit, subjects)
        trials = [_ridge(features, y, inner, held, a) for a in ALPHAS]
        best = int(np.argmin([np.square(t - y[held]).mean() for t in trials]))
        predicted[test] = _ridge(features, y, fit, test, ALPHAS[best])
    return predicted


def predict_classes(
    features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, folds: Folds
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Logistic regression's probabilities (n,K) of scans it has not seen, and the classes; nan where untested."""
    classes = tuple(np.unique(labels).tolist())
    shares = np.full((len(labels), len(classes)), np.nan)
    for fit, test in folds:
        if len(np.unique(labels[fit])) < 2:
            continue
        inner, held = _inner(fit, subjects)
        losses = [_log_loss(_logistic(features, labels, inner, held, c, classes), labels[held], classes)
                  for c in INVERSE_PENALTIES]
        shares[test] = _logistic(features, labels, fit, test, INVERSE_PENALTIES[int(np.argmin(losses))], classes)
    return shares, classes


def _inner(fit: np.ndarray, subjects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One split of a fold's own scans by subject, a quarter held back, for the choice of the penalty."""
    names = np.unique(subjects[fit])
    back = np.random.default_rng(SEED).permutation(names)[: max(1, len(names) // 4)]
    held = np.isin(subjects[fit], back)
    return fit[~held], fit[held]


def _ridge(features: np.ndarray, y: np.ndarray, fit: np.ndarray, test: np.ndarray, alpha: float) -> np.ndarray:
    mean, centre = features[fit].mean(0), y[fit].mean()
    x = features[fit] - mean
    size = max(float(np.square(x).sum()) / len(fit), 1e-12)
    dual = np.linalg.solve(x @ x.T + alpha * size * np.eye(len(fit)), y[fit] - centre)
    predicted: np.ndarray = centre + (features[test] - mean) @ (x.T @ dual)
    return predicted


def _logistic(
    features: np.ndarray, labels: np.ndarray, fit: np.ndarray, test: np.ndarray, inverse: float,
    classes: tuple[str, ...],
) -> np.ndarray:
    """Probabilities (test,K); a class that the fold lacks gets 0."""
    from sklearn.linear_model import LogisticRegression

    shares = np.zeros((len(test), len(classes)))
    if len(np.unique(labels[fit])) < 2:
        shares[:, classes.index(str(labels[fit][0]))] = 1
        return shares
    model = LogisticRegression(C=inverse, max_iter=1000, tol=1e-3).fit(features[fit], labels[fit])
    columns = [classes.index(str(name)) for name in model.classes_]
    shares[:, columns] = model.predict_proba(features[test])
    return shares


def _log_loss(shares: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> float:
    column = np.array([classes.index(str(name)) for name in labels])
    return float(-np.log(np.maximum(shares[np.arange(len(column)), column], 1e-9)).mean())


def random_halves(subjects: np.ndarray, rounds: int, seed: int = 2025) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of row sets of equal size from disjoint halves of the subjects."""
    names = np.unique(subjects)
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        chosen = np.isin(subjects, rng.permutation(names)[: len(names) // 2])
        first, second = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        size = min(len(first), len(second))
        yield rng.permutation(first)[:size], rng.permutation(second)[:size]
