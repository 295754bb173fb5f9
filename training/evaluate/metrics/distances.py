"""Distances between two sets of feature vectors: the Frechet distance and the kernel distance (KID).

Legend: n, m samples, F features. Both compare sets, not pairs. The Frechet distance of small sets is biased upwards, so
it means something only beside the distance of two real sets of the same size; KID is unbiased.
"""

from __future__ import annotations

import numpy as np


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of the normal distributions with the moments of a (n,F) and b (m,F).

    ``|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2))``, covariances with n - 1. The trace of the root is the sum of the
    singular values of ``a_c b_c^T / sqrt((n-1)(m-1))``, centred, so neither a matrix root nor F x F matrices are needed
    and fewer samples than features do no harm.
    """
    a, b = _checked(a, b)
    mean = float(np.square(a.mean(0) - b.mean(0)).sum())
    a, b = (a - a.mean(0)) / np.sqrt(len(a) - 1), (b - b.mean(0)) / np.sqrt(len(b) - 1)
    root = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    return mean + float(np.square(a).sum() + np.square(b).sum()) - 2 * root


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy with the kernel ``(x.y / F + 1)^3``: its expectation is 0 when both
    sets come from one distribution, so it can be negative.
    """
    a, b = _checked(a, b)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        gram = kernel(x, x)
        return float((gram.sum() - np.trace(gram)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def variety(a: np.ndarray, b: np.ndarray) -> float:
    """Spread of a (n,F) over that of b (m,F): 1 is as various."""
    return float(np.sqrt(a.var(0).mean() / b.var(0).mean()))


def standardised(reference: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Every set in units of the reference's standard deviation a feature, so that no feature's unit decides."""
    mean, std = reference.mean(0), np.maximum(reference.std(0), 1e-9)
    return [(x - mean) / std for x in (reference, *others)]


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"Two sets of at least two vectors of one length are needed, got {a.shape} and {b.shape}.")
    return a, b
