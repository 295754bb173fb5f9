"""Memorisation: is a generated brain nearer to a training brain than two people are to each other?

Legend: n training scans, m samples, F numbers of a latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PERCENTILE = 5.0


@dataclass(frozen=True)
class Audit:
    """distance, neighbour: of each sample to its nearest training scan (m,). limit: the 5th percentile of the distance
    of a training scan to the nearest scan of *another* subject. copies: bool (m,), samples below the limit.
    """

    distance: np.ndarray
    neighbour: np.ndarray
    real: np.ndarray
    limit: float

    @property
    def copies(self) -> np.ndarray:
        return self.distance < self.limit


def audit(samples: np.ndarray, training: np.ndarray, subjects: np.ndarray) -> Audit:
    """Nearest neighbours in Euclidean distance. samples (m,F), training (n,F), subjects (n,) of the training scans.

    Scans of one subject are alike without any memorisation, so such pairs do not count in the limit.
    """
    subjects = np.asarray(subjects)
    if len(np.unique(subjects)) < 2:
        raise ValueError("The audit needs training scans of at least two subjects.")
    between = squared_distances(training, training)
    between[subjects[:, None] == subjects[None]] = np.inf
    real = np.sqrt(between.min(1))
    nearest = squared_distances(samples, training)
    place = nearest.argmin(1)
    distance = np.sqrt(nearest[np.arange(len(samples)), place])
    return Audit(distance, place, real, float(np.percentile(real[np.isfinite(real)], PERCENTILE)))


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,m) squared Euclidean distances of the rows of a (n,F) and b (m,F), at least 0."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    # Centred on one point, so that float32 does not lose small distances of vectors far from the origin.
    centre = b.mean(0)
    a, b = a - centre, b - centre
    found = (np.square(a, dtype=np.float64).sum(1)[:, None] + np.square(b, dtype=np.float64).sum(1)[None]
             - 2 * (a @ b.T).astype(np.float64))
    return np.maximum(found, 0)
