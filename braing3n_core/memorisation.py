"""Whether generated latents repeat a scan of a reference set: nearest neighbours, as in the paper's audit.

Distances are L2 over all N*C numbers of the standardised latents. A sample is suspicious when it lies nearer to a real
scan than all but 5 % of the real scans lie to another subject's. Numpy only. Legend: n samples, m reference scans, F
numbers of a scan.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import RequestError

PERCENTILE = 5.0
UNKNOWN = (
    "No reference latents were given: whether these brains repeat a scan that the model was trained on is not known. "
    "Give --reference with the latents of the training scans."
)


@dataclass(frozen=True)
class Reference:
    """Latents (m,F) float32 of real scans and the subject of each, so that a subject's other scans do not count."""

    latents: np.ndarray
    subjects: np.ndarray

    @classmethod
    def open(cls, path: str | Path) -> Reference:
        """``latents.npy`` (m,N,C), a folder that has it, or an ``.npz`` with the array ``latents``.

        A ``records.json`` beside it, a list of objects with ``subject``, tells whose the scans are; without it each
        counts as another subject. Raises RequestError.
        """
        place = Path(path) / "latents.npy" if Path(path).is_dir() else Path(path)
        try:
            opened = np.load(place, allow_pickle=False)
            array = np.asarray(opened["latents"] if place.suffix == ".npz" else opened, dtype=np.float32)
            flat = array.reshape(len(array), -1) if array.ndim == 3 else array
        except (OSError, ValueError, KeyError) as error:
            raise RequestError(
                "privacy.reference", f"Cannot read reference latents from {path}: {error}.",
                "Give latents.npy of shape (scans, 1200, channels), or a folder that has it.",
            ) from error
        records = place.with_name("records.json")
        subjects = np.arange(len(flat)).astype(str)
        if records.is_file():
            subjects = np.array([str(r["subject"]) for r in json.loads(records.read_text(encoding="utf-8"))])
        if flat.ndim != 2 or len(flat) < 2 or len(subjects) != len(flat):
            raise RequestError(
                "privacy.reference", f"{path} holds latents {array.shape} of {len(subjects)} records.",
                "Two or more scans are needed, (scans, 1200, channels), one record each.",
            )
        return cls(flat, subjects)


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,m) squared L2 distances of rows (n,F) and (m,F), at least 0."""
    # Centred on one point, so that float32 does not lose small distances of vectors far from the origin.
    centre = np.asarray(b, np.float32).mean(0)
    a, b = np.asarray(a, np.float32) - centre, np.asarray(b, np.float32) - centre
    square = np.square(a, dtype=np.float64).sum(1)[:, None] + np.square(b, dtype=np.float64).sum(1)[None]
    return np.asarray(np.maximum(square - 2 * (a @ b.T).astype(np.float64), 0))


def nearest(samples: np.ndarray, reference: np.ndarray, rows: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Index (n,) and distance (n,) of each sample's nearest reference scan; ``rows`` at a time bounds the memory."""
    indices, distances = [], []
    for start in range(0, len(samples), rows):
        square = squared_distances(samples[start : start + rows], reference)
        indices.append(square.argmin(1))
        distances.append(np.sqrt(square.min(1)))
    return np.concatenate(indices), np.concatenate(distances)


def real_to_real(reference: Reference) -> np.ndarray:
    """(m,) distance of each real scan to the nearest of another subject; infinite where there is no other."""
    square = squared_distances(reference.latents, reference.latents)
    square[reference.subjects[:, None] == reference.subjects[None]] = np.inf
    return np.asarray(np.sqrt(square.min(1)))


def report(names: Sequence[str], latents: np.ndarray, reference: Reference | None) -> dict[str, Any]:
    """The privacy report as JSON-able values. names: of the samples; latents (n,F)."""
    if reference is None or not len(latents):
        return {"samples": len(names), "reference_scans": 0, "note": UNKNOWN}
    if latents.shape[1] != reference.latents.shape[1]:
        raise RequestError(
            "privacy.shape", f"Samples have {latents.shape[1]} numbers, the reference {reference.latents.shape[1]}.",
            "Give latents of the tokenizer that this checkpoint was trained on.",
        )
    index, distance = nearest(latents, reference.latents)
    floor = real_to_real(reference)
    limit = float(np.percentile(floor[np.isfinite(floor)], PERCENTILE)) if np.isfinite(floor).any() else 0.0
    near = distance < limit
    return {
        "samples": len(names), "reference_scans": len(reference.latents),
        "reference_subjects": len(np.unique(reference.subjects)), "percentile": PERCENTILE, "limit": limit,
        "suspicious": int(near.sum()), "median_distance": float(np.median(distance)),
        "nearest": [
            {"participant_id": name, "distance": round(float(d), 4), "reference_row": int(i), "suspicious": bool(s)}
            for name, d, i, s in zip(names, distance, index, near, strict=True)
        ],
        "note": "suspicious: nearer to a reference scan than all but 5 % of reference scans are to another subject's.",
    }
