"""Volumes for the tests of training and evaluation: balls whose dark middle grows with age, with all labels."""

from __future__ import annotations

import numpy as np

from braing3n_core.atlas import MODEL_SHAPE

Volume = tuple[np.ndarray, dict[str, object]]


def ball_volumes(subjects: int = 12) -> list[Volume]:
    """Voxels with labels: T1 at two visits of every subject, FLAIR at the first of the first half; two sites."""
    made: list[Volume] = []
    distance = _radius()
    noise = np.random.default_rng(0).normal(0, 2, MODEL_SHAPE).astype(np.float32)
    for subject in range(subjects):
        for visit, modality in [(0, "T1"), (1, "T1"), *([(0, "FLAIR")] if subject < subjects // 2 else [])]:
            age = 30.0 + 4 * subject + (3 + subject % 3) * visit
            ball = np.where(distance < 0.2 + age / 400, 30.0, 100.0 if modality == "T1" else 60.0)
            array = np.where(distance < 0.8, np.maximum(ball + np.roll(noise, 7 * len(made)), 1), 0)
            made.append((array.astype(np.float32), {
                "subject": f"sub-{subject:02d}", "visit": visit, "modality": modality, "age_years": age,
                "sex": "FM"[subject % 2], "disease": ("HC", "AD")[subject // 2 % 2], "idh1": None, "cdr": 0.0,
                "site": f"phantom-{1 + subject // (subjects // 2)}",
                "truth": {"ventricles_ml": age / 2, "gm_ml": 700 - age, "wm_ml": 500.0},
            }))
    return made


def _radius() -> np.ndarray:
    """Distance from the middle of the grid, in half-widths."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in MODEL_SHAPE), indexing="ij")
    return np.sqrt(x**2 + y**2 + z**2)
