"""Whether generated latents repeat a scan of a reference set: nearest neighbours, as in the paper's audit.

Distances are L2 over all N*C numbers of the standardised latents. A sample is suspicious when it lies nearer to a real
scan than all but 5 % of the real scans lie to another subject's, and is by as much nearer to that subject than to the
next: a copy is near to one person, a brain like the average to everybody. Numpy only.
Legend: n samples, m reference scans, F numbers of a scan.
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
NOTE = (
    "near: nearer to a reference scan than all but 5 % of reference scans are to another subject's. suspicious: near, "
    "and share (this distance over that to the nearest scan of anybody else) smaller than of all but 5 % of them."
)


@dataclass(frozen=True)
class Reference:
    """Latents (m,F) float32 of real scans and the subject of each (m,), so that a subject's other scans do not count.

    Raises RequestError for scans of fewer than two subjects: what is too near could not be told.
    """

    latents: np.ndarray
    subjects: np.ndarray

    def __post_init__(self) -> None:
        if len(set(self.subjects.tolist())) < 2:
            raise RequestError(
                "privacy.subjects", f"The {len(self.latents)} reference scans are not of two subjects or more.",
                "Give scans of several people.",
            )

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


@dataclass(frozen=True)
class Neighbours:
    """Of n samples: the row of the nearest reference scan, its distance, and that distance over the one to the nearest
    scan of anybody else (1: as near to two people, or there is nobody else).
    """

    row: np.ndarray
    distance: np.ndarray
    share: np.ndarray


def nearest(
    samples: np.ndarray, reference: Reference, own: np.ndarray | None = None, rows: int = 256
) -> Neighbours:
    """The nearest reference scans of samples (n,F). own: subjects (n,), whose scans do not count for their sample.
    ``rows`` at a time bounds the memory.
    """
    # Centred on one point, so that float32 does not lose small distances of vectors far from the origin.
    centre = np.asarray(reference.latents, np.float32).mean(0)
    real = np.asarray(reference.latents, np.float32) - centre
    real_square = np.square(real, dtype=np.float64).sum(1)[None]
    parts = []
    for start in range(0, len(samples), rows):
        some = np.asarray(samples[start : start + rows], np.float32) - centre
        square = np.square(some, dtype=np.float64).sum(1)[:, None] + real_square
        square = np.maximum(square - 2 * (some @ real.T).astype(np.float64), 0)
        if own is not None:
            square[own[start : start + rows, None] == reference.subjects[None]] = np.inf
        row = square.argmin(1)
        first = square.min(1)
        square[reference.subjects[row, None] == reference.subjects[None]] = np.inf
        second = square.min(1)
        share = np.sqrt(np.divide(first, second, out=np.ones_like(first), where=second > 0))
        parts.append((row, np.sqrt(first), np.where(np.isfinite(second), share, 1.0)))
    return Neighbours(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Audit:
    """found: neighbours of the samples. real: of each reference scan among those of other subjects."""

    found: Neighbours
    real: Neighbours

    @property
    def limit(self) -> float:
        """The distance below which 5 % of real scans lie to another subject's."""
        return float(np.percentile(self.real.distance, PERCENTILE))

    @property
    def share_limit(self) -> float:
        """The share below which 5 % of real scans lie: they are nearer to one other person than to all the rest."""
        return float(np.percentile(self.real.share, PERCENTILE))

    @property
    def near(self) -> np.ndarray:
        """Which samples lie nearer to a real scan than real scans do to each other (n,)."""
        return self.found.distance < self.limit

    @property
    def copies(self) -> np.ndarray:
        """Which of these are near to one person and not to everybody (n,)."""
        return self.near & (self.found.share <= self.share_limit)


def audit(samples: np.ndarray, reference: Reference) -> Audit:
    """Compare samples (n,F) with the reference as the reference is compared with itself."""
    return Audit(nearest(samples, reference), nearest(reference.latents, reference, reference.subjects))


def report(names: Sequence[str], latents: np.ndarray, reference: Reference | None) -> dict[str, Any]:
    """The privacy report as JSON-able values. names: of the samples; latents (n,F)."""
    if reference is None or not len(latents):
        return {"samples": len(names), "reference_scans": 0, "note": UNKNOWN}
    if latents.shape[1] != reference.latents.shape[1]:
        raise RequestError(
            "privacy.shape", f"Samples have {latents.shape[1]} numbers, the reference {reference.latents.shape[1]}.",
            "Give latents of the tokenizer that this checkpoint was trained on.",
        )
    compared = audit(latents, reference)
    found = compared.found
    return {
        "samples": len(names), "reference_scans": len(reference.latents),
        "reference_subjects": len(np.unique(reference.subjects)), "percentile": PERCENTILE, "limit": compared.limit,
        "share_limit": compared.share_limit, "near": int(compared.near.sum()),
        "suspicious": int(compared.copies.sum()), "median_distance": float(np.median(found.distance)),
        "nearest": [
            {"participant_id": name, "distance": round(float(d), 4), "share": round(float(share), 4),
             "reference_row": int(i), "suspicious": bool(s)}
            for name, d, share, i, s in zip(
                names, found.distance, found.share, found.row, compared.copies, strict=True
            )
        ],
        "note": NOTE,
    }
