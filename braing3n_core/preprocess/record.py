"""What preprocessing did to a scan, in words and numbers that fit into JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from ..errors import PreprocessError

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Step:
    """One step that was done, or skipped and why. seconds: wall time."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class PreprocessRecord:
    """The provenance of one preprocessed scan.

    native_to_atlas: 4x4, RAS+ world of the scan to RAS+ world of SRI24. stage: worked from; declared: as asked for.
    input_shape, input_affine: the scan's grid. cropped_brain_voxels: brain of the atlas grid that the model grid cuts.
    quality: the numbers of ``quality.py``. warnings: sentences for the user.
    """

    modality: str
    declared_stage: str
    stage: str
    evidence: dict[str, Any]
    brain_backend: str
    brain_reason: str
    template: str
    template_sha256: str
    native_to_atlas: Matrix
    input_shape: tuple[int, int, int]
    input_affine: Matrix
    cropped_brain_voxels: int
    quality: dict[str, float]
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def transform(self) -> np.ndarray:
        """``native_to_atlas`` as an array (4,4)."""
        return np.array(self.native_to_atlas, dtype=float)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PreprocessRecord:
        """Read the JSON form back. Raises PreprocessError for missing or unknown keys."""
        known = {f.name for f in fields(cls)}
        if set(data) != known:
            odd = ", ".join(sorted(set(data) ^ known))
            raise PreprocessError("record.keys", f"This is no preprocessing record: {odd}.", "Preprocess it again.")
        values = dict(data)
        values["steps"] = tuple(Step(**step) for step in data["steps"])
        for name in ("native_to_atlas", "input_affine"):
            values[name] = as_matrix(data[name])
        shape = data["input_shape"]
        values["input_shape"] = (int(shape[0]), int(shape[1]), int(shape[2]))
        values["warnings"] = tuple(data["warnings"])
        return cls(**values)


def as_matrix(array: Any) -> Matrix:
    """A 4x4 as nested tuples of floats."""
    return tuple(tuple(float(x) for x in row) for row in array)
