"""The ceiling of brain age on the phantom cohort: what its own true volumes say about age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .anatomy import icbm_anatomy
from .subjects import Subject
from .tissue import true_volumes

VOLUMES: tuple[str, ...] = ("ventricles_ml", "csf_ml", "gm_ml", "wm_ml", "hippocampus_ml", "brain_ml")


@dataclass(frozen=True)
class Ceiling:
    """Mean absolute error in years of age from true volumes, by 5-fold cross-validation, with its baseline."""

    mae_years: float
    healthy_mae_years: float
    constant_mae_years: float
    subjects: int

    def __str__(self) -> str:
        return (
            f"Age from the true volumes of {self.subjects} phantoms (5-fold, quadratic): MAE {self.mae_years:.2f} y, "
            f"healthy only {self.healthy_mae_years:.2f} y; guessing the mean age: {self.constant_mae_years:.2f} y."
        )


def age_ceiling(rows: Sequence[dict[str, float]], age_years: np.ndarray, healthy: np.ndarray) -> Ceiling:
    """Fit age (n,) on the volumes of the truths. healthy: bool (n,)."""
    volumes = np.array([[row[k] for k in VOLUMES] for row in rows])
    volumes = np.column_stack([volumes, volumes[:, :4] / volumes[:, 5:]])
    error = np.abs(_cross_validated(volumes, age_years) - age_years)
    own = np.abs(_cross_validated(volumes[healthy], age_years[healthy]) - age_years[healthy])
    constant = float(np.abs(age_years - age_years.mean()).mean())
    return Ceiling(float(error.mean()), float(own.mean()), constant, len(age_years))


def baseline_truth(subject: Subject) -> dict[str, float]:
    """True volumes of an ICBM152 phantom at the first visit, at half resolution; for worker processes."""
    import torch

    torch.set_num_threads(1)
    return true_volumes(icbm_anatomy(), subject, 0)


def _cross_validated(volumes: np.ndarray, age_years: np.ndarray, folds: int = 5) -> np.ndarray:
    fold = np.random.default_rng(0).permutation(len(age_years)) % folds
    predicted = np.empty_like(age_years)
    for k in range(folds):
        fit = fold != k
        scaled = (volumes - volumes[fit].mean(0)) / volumes[fit].std(0)
        design = np.column_stack([scaled, scaled**2])
        gram = design[fit].T @ design[fit] + np.eye(design.shape[1])
        weights = np.linalg.solve(gram, design[fit].T @ (age_years[fit] - age_years[fit].mean()))
        predicted[~fit] = design[~fit] @ weights + age_years[fit].mean() - design[fit].mean(0) @ weights
    return predicted
