"""Whether a head still has its face: how far it stands out below the forehead."""

from __future__ import annotations

import numpy as np

from ..grid import MIN_AXIS
from ..volume import Volume
from .masks import head_mask
from .spatial import resample_isotropic

SPACING_MM = 4.0
FOREHEAD_MM = (30.0, 70.0)
FACE_MM = (100.0, 120.0)
"""Depths below the vertex between which forehead and nose lie."""
_SMALLEST_ML = 3.0
"""Of a cross-section of 4 mm that counts as head."""


def face_mm(volume: Volume) -> float | None:
    """How far the face stands before the forehead, mm; negative where it was removed; None where it is not in view."""
    if min(n * s for n, s in zip(volume.shape, volume.spacing_mm, strict=True)) < MIN_AXIS * SPACING_MM:
        return None  # a slab too thin to be a coarse volume shows no profile
    steps = [max(int(SPACING_MM // s), 1) for s in volume.spacing_mm]
    thin = volume.array[tuple(slice(None, None, step) for step in steps)]
    coarse = resample_isotropic(Volume.from_array(thin, volume.affine @ np.diag([*steps, 1.0])), SPACING_MM)
    sections = np.moveaxis(head_mask(coarse), 2, 0)  # (Z,X,Y), axes to the right and forward
    full = np.flatnonzero(sections.sum(axis=(1, 2)) * SPACING_MM**3 / 1000 >= _SMALLEST_ML)
    if len(full) == 0:
        return None
    forehead, face = (_furthest_front(sections, int(full[-1]), span) for span in (FOREHEAD_MM, FACE_MM))
    return None if forehead is None or face is None else float(face - forehead) * SPACING_MM


def _furthest_front(sections: np.ndarray, top: int, span_mm: tuple[float, float]) -> int | None:
    """The foremost voxel between two depths below the vertex; None when they are not all in view or hold nothing."""
    first, last = (top - int(round(depth / SPACING_MM)) for depth in span_mm)
    if last < 0:
        return None
    front = np.flatnonzero((sections[last : first + 1].sum(axis=1) > 3).any(axis=0))
    return int(front[-1]) if len(front) else None
