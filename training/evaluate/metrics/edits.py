"""What a counterfactual edit should be: nothing when nothing is asked, undone by its opposite, and only what was asked.

Legend: n scans, F numbers of a latent.
"""

from __future__ import annotations

import numpy as np


def composition_error(scans: np.ndarray, null_edited: np.ndarray) -> float:
    """Largest absolute difference of the null edit from its input; 0 is exact. Both (n,F)."""
    return float(np.abs(np.asarray(null_edited) - scans).max())


def reversibility(scans: np.ndarray, there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """What is left of an edit A -> B after B -> A, as a share of the edit's size, (n,). 0 is undone, 1 all of it."""
    size = np.linalg.norm(np.asarray(there) - scans, axis=1)
    left = np.linalg.norm(np.asarray(back) - scans, axis=1)
    return left / np.maximum(size, 1e-12)


def effectiveness(before: np.ndarray, after: np.ndarray, target: float = 0.5) -> float:
    """Share of the scans not yet read as the target (probability ``before`` at most ``target``) that are so after."""
    open_cases = np.asarray(before) <= target
    return float((np.asarray(after)[open_cases] > target).mean()) if open_cases.any() else float("nan")


def drift(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute change of an off-target reading; of class probabilities (n,K) the total variation."""
    change = np.abs(np.asarray(after) - before)
    return float(change.mean() if change.ndim == 1 else change.sum(1).mean() / 2)
