"""One visit of one subject to voxels on the model grid (X,Y,Z)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braing3n_core.schema import MODALITIES

from .anatomy import Anatomy
from .scanner import scan
from .subjects import Subject
from .tissue import make_tissue


@dataclass(frozen=True)
class Rendering:
    """volumes: modality -> float32 (X,Y,Z), 0 outside the brain.

    tumour: uint8 (X,Y,Z), 1 core, 2 oedema, 3 enhancing or solid rim; None without a tumour.
    """

    volumes: dict[str, np.ndarray]
    truth: dict[str, float]
    tumour: np.ndarray | None


def render_modality(
    anatomy: Anatomy, subject: Subject, visit: int, modality: str
) -> tuple[np.ndarray, dict[str, float]]:
    """One modality: voxels float32 (X,Y,Z) and the truth."""
    volumes, truth = render_visit(anatomy, subject, visit, (modality,))
    return volumes[modality], truth


def render_visit(
    anatomy: Anatomy, subject: Subject, visit: int, modalities: Sequence[str] = MODALITIES
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The volumes by modality, float32 (X,Y,Z), 0 outside the brain, and the truth of the visit."""
    rendering = render_session(anatomy, subject, visit, modalities)
    return rendering.volumes, rendering.truth


def render_session(
    anatomy: Anatomy, subject: Subject, visit: int, modalities: Sequence[str] = MODALITIES
) -> Rendering:
    """All asked modalities of one visit; they share the warp and differ in contrast, bias field and noise."""
    tissue = make_tissue(anatomy, subject, visit)
    volumes = {m: scan(tissue, subject, visit, m) for m in modalities}
    return Rendering(volumes, tissue.truth, tissue.tumour_labels())
