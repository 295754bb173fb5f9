"""At which stage of preprocessing a scan arrives: declared by the user or suggested, always with the evidence.

``dicom``: a series from the scanner. ``native``: a whole head. ``defaced``: the same without its face. ``stripped``: a
brain, zero outside. ``bias-corrected``: head or brain whose bias field is gone. ``registered``: a stripped brain on the
SRI24 grid and in its place. Processing a scan twice is the most common silent mistake, so a declaration that the voxels
contradict is refused.

What a stage leaves to do: dicom, native, defaced: N4, brain extraction, registration; stripped: N4, registration;
bias-corrected: what its skull asks for, without N4; registered: nothing. Whatever is registered has lost its skull
before, so the template is always the one without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..atlas import ATLAS_AFFINE, ATLAS_SHAPE
from ..dicom import DICOM_DESCRIPTION
from ..errors import PreprocessError
from ..schema import STAGES, nearest
from ..volume import Volume
from .face import face_mm
from .masks import closed, dice, filled, largest_component, volume_ml

BRAIN_ML = (400.0, 2200.0)
"""Limits of what can be a brain with its ragged edge; heads in a full field of view have 2,500 ml and more."""
STRIPPED_ZERO_SHARE = 0.4
STRIPPED_BORDER_ZERO_SHARE = 0.8
IN_PLACE_DICE = 0.75
FACE_GONE_MM = -6.0
"""Between heads with a face (measured: 0 mm or more in eleven) and without (-12 mm or less in six)."""
HEADS: tuple[str, ...] = ("dicom", "native", "defaced")
UNBIASED: tuple[str, ...] = ("bias-corrected", "registered")
"""Stages at which N4 is not run again."""


@dataclass(frozen=True)
class Evidence:
    """What the voxels say.

    zero_share: share of voxels exactly 0. border_zero_share: the same on the faces of the box. foreground_ml: filled
    volume that is not 0. largest_share: of the foreground in its largest piece. on_atlas_grid: same shape and affine as
    SRI24. atlas_dice: overlap with the template's brain when on its grid, else None. face_mm: how far a head's face
    stands before its forehead, None without a head or a view of it. from_dicom: read from a series. sidecar_stripped:
    what the BIDS sidecar says (``SkullStripped``), None when it says nothing. suggested: the stage that follows.
    """

    zero_share: float
    border_zero_share: float
    foreground_ml: float
    largest_share: float
    on_atlas_grid: bool
    atlas_dice: float | None
    face_mm: float | None
    from_dicom: bool
    sidecar_stripped: bool | None
    suggested: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """The evidence in words."""
        grid = "on the SRI24 grid" if self.on_atlas_grid else "not on the SRI24 grid"
        overlap = f", overlap with the atlas brain {self.atlas_dice:.2f}" if self.atlas_dice is not None else ""
        face = "" if self.face_mm is None else f", the face stands {self.face_mm:+.0f} mm before the forehead"
        return (
            f"{self.zero_share:.0%} of the voxels are 0 ({self.border_zero_share:.0%} on the border), "
            f"{self.foreground_ml:.0f} ml are not, it is {grid}{overlap}{face}"
        )


def examine(volume: Volume, template_mask: np.ndarray, sidecar: Mapping[str, Any] | None = None) -> Evidence:
    """Gather the evidence. template_mask: the atlas brain (240,240,155), bool. sidecar: of BIDS, as it was read."""
    said = (sidecar or {}).get("SkullStripped")
    array = volume.array
    inside = brain_of_stripped(volume)
    pieces = int(np.count_nonzero(array))
    on_grid = array.shape == ATLAS_SHAPE and bool(np.allclose(volume.affine, ATLAS_AFFINE, atol=1e-2))
    faces = np.concatenate([array[s].ravel() for a in range(3) for s in (_face(a, 0), _face(a, -1))])
    evidence: dict[str, Any] = {
        "zero_share": float(np.mean(array == 0)),
        "border_zero_share": float(np.mean(faces == 0)),
        "foreground_ml": volume_ml(inside, volume.affine),
        "largest_share": float(np.count_nonzero(inside & (array != 0))) / max(pieces, 1),
        "on_atlas_grid": on_grid,
        "atlas_dice": dice(inside, template_mask) if on_grid else None,
        "face_mm": None, "from_dicom": volume.description == DICOM_DESCRIPTION,
        "sidecar_stripped": said if isinstance(said, bool) else None,
    }
    if not _looks_stripped(evidence):
        evidence["face_mm"] = face_mm(volume)
    return Evidence(**evidence, suggested=_suggest(evidence))


def brain_of_stripped(volume: Volume) -> np.ndarray:
    """The brain of a stripped scan: what is not 0, closed by 2 mm, largest piece, filled; bool (X,Y,Z)."""
    return filled(largest_component(closed(volume.array != 0, volume.spacing_mm, 2.0)))


def decide_stage(declared: str, evidence: Evidence, *, mask_given: bool = False) -> str:
    """The stage to work from. declared: ``auto`` or one of ``schema.STAGES``.

    Raises PreprocessError for an unknown word, for a declaration that the voxels contradict, and for ``auto`` when the
    sidecar contradicts them: then a person must say which of the two is right.
    """
    if declared == "auto":
        _check_sidecar(evidence)
        return evidence.suggested
    if declared not in STAGES:
        raise PreprocessError(
            "stage.unknown", f"Unknown stage {declared!r}.",
            f"{nearest(declared, STAGES)}Known: auto, {', '.join(STAGES)}.",
        )
    problem = _contradiction(declared, evidence, mask_given)
    if problem is not None:
        said, hint = problem
        message = f"The scan is declared {declared}, but {said}: {evidence.sentence()}."
        raise PreprocessError(f"stage.{declared}", message, hint)
    return declared


def _face(axis: int, index: int) -> tuple[slice | int, ...]:
    return tuple(index if a == axis else slice(None) for a in range(3))


def skull_stage(stage: str, evidence: Evidence) -> str:
    """``native`` for what still has its skull, else ``stripped`` or ``registered``: what the next steps turn on."""
    if stage in HEADS or (stage == "bias-corrected" and evidence.suggested in HEADS):
        return "native"
    return "registered" if stage == "registered" else "stripped"


def _check_sidecar(evidence: Evidence) -> None:
    said = evidence.sidecar_stripped
    if said is not None and said == (evidence.suggested in HEADS):
        raise PreprocessError(
            "stage.sidecar", f"The scan's sidecar says SkullStripped: {str(said).lower()}, but its voxels look "
            f"{evidence.suggested}: {evidence.sentence()}.",
            f"Look at it, then declare --stage {evidence.suggested} or --stage {'stripped' if said else 'native'}.",
        )


def _looks_stripped(evidence: dict[str, Any]) -> bool:
    low, high = BRAIN_ML
    return bool(
        evidence["zero_share"] >= STRIPPED_ZERO_SHARE
        and evidence["border_zero_share"] >= STRIPPED_BORDER_ZERO_SHARE
        and low <= evidence["foreground_ml"] <= high
        and evidence["largest_share"] > 0.95
    )


def _suggest(evidence: dict[str, Any]) -> str:
    if not _looks_stripped(evidence):
        gone = evidence["face_mm"] is not None and evidence["face_mm"] <= FACE_GONE_MM
        return "defaced" if gone else "native"
    return "registered" if (evidence["atlas_dice"] or 0.0) >= IN_PLACE_DICE else "stripped"


def _contradiction(declared: str, evidence: Evidence, mask_given: bool) -> tuple[str, str] | None:
    if declared in HEADS:
        return _head_contradiction(declared, evidence, mask_given)
    if declared == "bias-corrected":
        return None  # a field that is gone leaves no trace
    if evidence.zero_share < STRIPPED_ZERO_SHARE / 2 or evidence.foreground_ml > BRAIN_ML[1]:
        return "its background is not empty or a whole head is in it", (
            "Declare --stage native; or set everything outside the brain to 0; or give a brain mask with --mask."
        )
    if declared == "registered":
        if not evidence.on_atlas_grid:
            return "it lies on another grid", "Declare --stage stripped, so that it is registered."
        if (evidence.atlas_dice or 0.0) < IN_PLACE_DICE:
            return "its brain is not where the atlas has its own", "Declare --stage stripped, so that it is registered."
    return None


def _head_contradiction(declared: str, evidence: Evidence, mask_given: bool) -> tuple[str, str] | None:
    if evidence.suggested not in HEADS and not mask_given:
        return "it looks skull-stripped and would be stripped twice", f"Declare --stage {evidence.suggested}."
    if declared == "dicom" and not evidence.from_dicom:
        return "it was not read from a DICOM series", "Give the folder of the series, or declare --stage native."
    if declared == "defaced" and evidence.face_mm is not None and evidence.face_mm > FACE_GONE_MM:
        return "its face is there", "Declare --stage native, and do not share it as defaced."
    return None
