"""Numbers that show a failed preprocessing, each with the range in which a good one lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..atlas import to_atlas_grid, to_model_grid
from .masks import dice, volume_ml
from .prealign import rotation_degrees, stretch
from .template import Template

EXPECTED: dict[str, tuple[float, float]] = {
    "brain_ml": (800.0, 2100.0), "components": (1, 1), "template_dice": (0.85, 1.0), "determinant": (0.5, 2.0),
    "stretch": (1.0, 1.4), "rotation_degrees": (0.0, 40.0),
    "similarity": (1.015, 2.0), "cropped_share": (0.0, 0.002),
}
"""By number: the smallest and the largest that raise no warning. One brain's greys say little of another's: T1 in place
have a similarity of 1.02 to 1.05, FLAIR of 1.015 to 1.03; shifted by 16 mm or turned by 15 degrees both mostly less."""
_WORDS: dict[str, tuple[str, str]] = {
    "brain_ml": (" ml", "look at the brain mask"), "components": (" pieces", "look at the brain mask"),
    "template_dice": ("", "look at the brain mask and the registration"),
    "determinant": ("", "look at the registration"),
    "stretch": ("", "look at the brain mask and the registration"),
    "rotation_degrees": ("", "look at the registration"),
    "similarity": ("", "look at the registration"),
    "cropped_share": ("", "brain lies outside the model grid; look at the registration"),
}
_BINS = 32


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is judged. native_mask: on the scan's grid of ``native_affine``; on_atlas, atlas_mask: (240,240,155)."""

    native_mask: np.ndarray
    native_affine: np.ndarray
    on_atlas: np.ndarray
    atlas_mask: np.ndarray
    native_to_atlas: np.ndarray
    template: Template


def measure(outcome: Outcome) -> dict[str, float]:
    """The numbers of :data:`EXPECTED`: the brain's size and pieces, its Dice with the atlas's brain, the affine's
    determinant, stretch and rotation, the similarity of the greys, the share of the brain outside the model grid."""
    lost = cropped_voxels(outcome.atlas_mask)
    return {
        "brain_ml": round(volume_ml(outcome.native_mask, outcome.native_affine), 1),
        "components": _pieces(outcome.native_mask),
        "template_dice": round(dice(outcome.atlas_mask, outcome.template.mask), 4),
        "determinant": round(float(np.linalg.det(outcome.native_to_atlas[:3, :3])), 4),
        "stretch": round(stretch(outcome.native_to_atlas), 4),
        "rotation_degrees": round(rotation_degrees(outcome.native_to_atlas), 2),
        "similarity": round(similarity(outcome.on_atlas, outcome.template), 4),
        "cropped_share": round(lost / max(int(np.count_nonzero(outcome.atlas_mask)), 1), 6),
    }


def warnings(quality: dict[str, float]) -> tuple[str, ...]:
    """A sentence for each number out of its range."""
    found = []
    for name, (low, high) in EXPECTED.items():
        if not low <= quality[name] <= high:
            unit, advice = _WORDS[name]
            found.append(f"{name} is {quality[name]:g}{unit}, expected {low:g} to {high:g}: {advice}.")
    return tuple(found)


def cropped_voxels(atlas_mask: np.ndarray) -> int:
    """Brain voxels of the atlas grid that the model grid leaves out."""
    return int(np.count_nonzero(atlas_mask & ~to_atlas_grid(to_model_grid(atlas_mask))))


def similarity(on_atlas: np.ndarray, template: Template) -> float:
    """Normalised mutual information with the template in its brain: 1 for unrelated greys, 2 for the same ones."""
    inside = template.mask
    found, wanted = (_levels(np.asarray(a)[inside]) for a in (on_atlas, template.volume.array))
    joint = np.bincount(found * _BINS + wanted, minlength=_BINS**2).reshape(_BINS, _BINS) / max(len(found), 1)
    both = _entropy(joint)
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / both if both > 0 else 2.0


def _levels(values: np.ndarray) -> np.ndarray:
    """Greys as levels from 0 to 31, the brightest percent together."""
    share = np.clip(values / max(float(np.percentile(values, 99)), 1e-9), 0.0, 1.0)
    return np.minimum(share * _BINS, _BINS - 1).astype(np.int64)


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _pieces(mask: np.ndarray) -> int:
    from scipy import ndimage

    return int(ndimage.label(mask)[1])
