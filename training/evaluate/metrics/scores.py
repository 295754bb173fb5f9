"""How well something is read: areas under curves, errors, and their intervals by a bootstrap over subjects.

Legend: n scans, K classes. Several scans of one subject are not independent: a bootstrap draws whole subjects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and its interval at ``LEVEL``; low and high are nan where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        if np.isnan(self.low) or np.isnan(self.high):
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    positive: bool (n,). nan when one side is empty.
    """
    positive = np.asarray(positive, bool)
    above, below = int(positive.sum()), int((~positive).sum())
    if not above or not below:
        return float("nan")
    _, place, counts = np.unique(np.asarray(score), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - above * (above + 1) / 2) / (above * below))


def macro_auc(labels: np.ndarray, scores: np.ndarray, classes: tuple[str, ...]) -> float:
    """Mean one-against-rest AUC over the classes that occur. scores: (n,K), one column a class."""
    found = [auc(labels == name, scores[:, k]) for k, name in enumerate(classes)]
    found = [a for a in found if not np.isnan(a)]
    return float(np.mean(found)) if found else float("nan")


def balanced_accuracy(labels: np.ndarray, named: np.ndarray) -> float:
    """Mean over the classes of the share that is named rightly; chance is 1/K."""
    return float(np.mean([(named[labels == name] == name).mean() for name in np.unique(labels)]))


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean over scans of |confidence - share that is right| in bins of equal width.

    confidence: probability of the named class (n,); right: bool (n,).
    """
    place = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    gaps = [abs(float((confidence[place == k] - right[place == k]).sum())) for k in np.unique(place)]
    return float(sum(gaps) / len(place))


def mean_absolute_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """In the unit of the truth."""
    return float(np.abs(np.asarray(predicted) - truth).mean())


def r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the variance explained; below 0 is worse than the mean. nan without variance."""
    spread = float(np.square(truth - np.mean(truth)).mean())
    return float(1 - np.square(np.asarray(predicted) - truth).mean() / spread) if spread > 0 else float("nan")


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r; nan when one side is constant or there are fewer than three points."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def bootstrap(
    statistic: Callable[[np.ndarray], float], subjects: np.ndarray, rounds: int = 1000, seed: int = 2025
) -> Estimate:
    """``statistic(rows)`` on all rows, with its percentile interval over draws of whole subjects with replacement.

    subjects: (n,) the subject of each row. Draws in which the statistic is nan (a class was not drawn) do not count.
    """
    subjects = np.asarray(subjects)
    everything = np.arange(len(subjects))
    _, place = np.unique(subjects, return_inverse=True)
    rows_of = [np.flatnonzero(place == k) for k in range(place.max() + 1)]
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([rows_of[k] for k in rng.integers(len(rows_of), size=len(rows_of))]))
        for _ in range(rounds)
    ]
    drawn = [d for d in drawn if np.isfinite(d)]
    value = statistic(everything)
    if len(rows_of) < 3 or len(drawn) < 0.5 * rounds:
        return Estimate(value)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
