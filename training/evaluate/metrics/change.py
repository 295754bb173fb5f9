"""How well a change is foretold. Legend: n pairs of visits; changes in one unit, horizons in years."""

from __future__ import annotations

import numpy as np


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope of y on x; nan when x does not vary or there are fewer than two points."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    spread = np.square(x - x.mean()).sum() if len(x) > 1 else 0.0
    return float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else float("nan")


def delta_rmae(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Absolute error of the change over the size of the true change, both summed: copying the baseline scores 1."""
    size = float(np.abs(truth).sum())
    return float(np.abs(np.asarray(predicted) - truth).sum() / size) if size > 0 else float("nan")


def coverage(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of truths inside their intervals, the ends included."""
    return float(((np.asarray(low) <= truth) & (truth <= np.asarray(high))).mean())


def conformal_width(residuals: np.ndarray, level: float = 0.9) -> float:
    """Half-width that holds a new absolute residual with at least ``level``; infinite when there are too few."""
    residuals = np.sort(np.abs(np.asarray(residuals, float)))
    rank = int(np.ceil((len(residuals) + 1) * level))
    return float(residuals[rank - 1]) if rank <= len(residuals) else float("inf")


def cross_conformal(
    truth: np.ndarray, predicted: np.ndarray, subjects: np.ndarray, level: float = 0.9, folds: int = 5, seed: int = 2025
) -> np.ndarray:
    """Half-widths (n,), each from the residuals of other subjects' pairs: what calibrated intervals cover."""
    fold = folds_of(subjects, folds, seed)
    widths = np.empty(len(truth))
    for k in range(folds):
        widths[fold == k] = conformal_width((np.asarray(predicted) - truth)[fold != k], level)
    return widths


def folds_of(subjects: np.ndarray, folds: int = 5, seed: int = 2025) -> np.ndarray:
    """The fold (n,) of each row, by whole subjects, in random order."""
    names, place = np.unique(subjects, return_inverse=True)
    return np.asarray((np.random.default_rng(seed).permutation(len(names)) % folds)[place])
