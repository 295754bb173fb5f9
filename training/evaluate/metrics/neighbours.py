"""Memorisation: is a generated brain nearer to a training brain than two people are to each other?

Legend: n training scans, m samples, F numbers of a latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braing3n_core.memorisation import PERCENTILE, Reference, nearest, real_to_real

__all__ = ["PERCENTILE", "Audit", "audit"]


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
    real = real_to_real(Reference(training, subjects))
    place, distance = nearest(samples, training)
    return Audit(distance, place, real, float(np.percentile(real[np.isfinite(real)], PERCENTILE)))
