"""Brain extraction with neither network nor weights: the atlas's brain, laid into the head, grows to the scan's edge.

The vertex and the middle of the head place the template; a surface started well inside it grows until the greys end
(``surface.py``), once for each of several edge levels; kept is the brain most like the atlas's in shape and size. The
template is then fitted to that brain, and the edge is drawn midway between the two: where the surface ran astray, the
atlas's shape holds it; where the atlas's shape is not the patient's, the greys do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import PreprocessError
from ..progress import Cancel, Progress, silent
from ..volume import Volume
from .masks import dice, filled, head_mask, largest_component, volume_ml
from .prealign import prealign
from .spatial import align_centres, resample, resample_isotropic
from .surface import Surface, SurfaceOptions, grow, icosphere, measure_greys, voxelise
from .template import Template, find_template, load_template

SPACING_MM = 2.0
SCALP_MM = 12.0
"""From the skin to the brain at the vertex."""
SLAB_MM = (25.0, 95.0)
"""Below the vertex: the part of the head that is brain and bone only; its middle is the brain's middle."""
START_SHARE = 0.75
"""Size of the starting surface against the template's brain."""
GREY_FRACTIONS: tuple[float, ...] = (0.5, 0.6, 0.65, 0.7, 0.725, 0.75, 0.775, 0.8, 0.825, 0.85)
TYPICAL_BRAIN_ML = 1450.0
REACH_MM = 8.0
TONGUE_MM = 6.0
DEPTH_LIMIT_MM = 12.0
SIZE_WEIGHT = 0.5
"""How much an unusual size counts against likeness: subtracted is this times the squared logarithm of the ratio."""


@dataclass(frozen=True)
class TemplateBrain:
    """The backend ``template``. template: the atlas; None loads the usual one when it is needed."""

    template: Template | None = None
    name: str = "template"

    def available(self) -> tuple[bool, str]:
        """Whether it can run here, and why or why not; reads no voxel."""
        if self.template is not None:
            return True, f"shape and place of {self.template.identifier}"
        return find_template()

    def prepare(self) -> None:
        """Raises DependencyError when there is no template."""
        if self.template is None:
            load_template()

    def extract(self, volume: Volume, *, progress: Progress = silent, cancel: Cancel | None = None) -> np.ndarray:
        """Brain mask of a whole head: bool (X,Y,Z) on the volume's grid."""
        template = self.template or load_template()
        placed = Volume.from_array(volume.array, first_guess(volume, template) @ volume.affine)
        field = resample_isotropic(placed, SPACING_MM)
        fraction = _choose_fraction(field, template, progress, cancel)
        grown = tidy(_grown(field, template, fraction, 4, cancel), field.affine, template)
        if not grown.any():
            raise PreprocessError("brain.empty", "The template found no brain in the scan.", "Give a mask with --mask.")
        depth = (_depth_mm(grown, field) + _depth_mm(_laid(field, grown, template), field)) / 2
        on_input = resample(depth, field.affine, placed.shape, placed.affine, fill=-DEPTH_LIMIT_MM)
        return filled(largest_component(on_input > 0))


def _choose_fraction(field: Volume, template: Template, progress: Progress, cancel: Cancel | None) -> float:
    scores = []
    for index, fraction in enumerate(GREY_FRACTIONS):
        progress(index / len(GREY_FRACTIONS), f"growing the brain's surface at edge level {fraction:g}")
        scores.append(likeness(_grown(field, template, fraction, 3, cancel), field.affine, template))
    return GREY_FRACTIONS[int(np.argmax(scores))]


def _grown(
    field: Volume, template: Template, fraction: float, subdivisions: int, cancel: Cancel | None
) -> np.ndarray:
    surface = _start(template, subdivisions)
    greys = measure_greys(field, voxelise(surface, field.shape, field.affine))
    grow(surface, field, greys, SurfaceOptions(grey_fraction=fraction), cancel)
    return voxelise(surface, field.shape, field.affine)


def _laid(field: Volume, grown: np.ndarray, template: Template) -> np.ndarray:
    """The template's brain fitted to the grown one by its greys, on the field's grid."""
    stripped = field.with_array(np.where(grown, field.array, 0.0))
    fitted = prealign(stripped, template.volume, align_centres(stripped, template.volume))
    laid = np.linalg.inv(fitted) @ template.volume.affine
    return resample(template.mask, laid, field.shape, field.affine) > 0.5


def _depth_mm(mask: np.ndarray, field: Volume) -> np.ndarray:
    """Distance to the mask's edge, positive inside; limited, so that far errors do not move near edges."""
    from scipy import ndimage

    inside, outside = (ndimage.distance_transform_edt(m, sampling=field.spacing_mm) for m in (mask, ~mask))
    return np.clip(inside - outside, -DEPTH_LIMIT_MM, DEPTH_LIMIT_MM)


def likeness(mask: np.ndarray, affine: np.ndarray, template: Template) -> float:
    """How much a mask looks like a brain: Dice with the template stretched onto it, less a penalty for odd sizes."""
    if not mask.any():
        return -np.inf
    odd = np.log(volume_ml(mask, affine) / TYPICAL_BRAIN_ML)
    return dice(_stretched(mask, affine, template), mask) - SIZE_WEIGHT * float(odd) ** 2


def tidy(mask: np.ndarray, affine: np.ndarray, template: Template) -> np.ndarray:
    """Cut off what no brain has: thin tongues, and whatever lies far outside the template stretched onto the mask."""
    from scipy import ndimage

    if not mask.any():
        return mask
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    near = ndimage.distance_transform_edt(~_stretched(mask, affine, template), sampling=spacing) <= REACH_MM
    core = largest_component(ndimage.distance_transform_edt(mask & near, sampling=spacing) > TONGUE_MM)
    return np.asarray(ndimage.distance_transform_edt(~core, sampling=spacing) <= TONGUE_MM)


def _stretched(mask: np.ndarray, affine: np.ndarray, template: Template) -> np.ndarray:
    """The template's brain moved and scaled along the axes to the middle and spread of a mask, on the mask's grid."""
    stretch = np.eye(4)
    middle, spread = _moments(mask, affine)
    template_middle, template_spread = _moments(template.mask, template.volume.affine)
    stretch[:3, :3] = np.diag(spread / template_spread)
    stretch[:3, 3] = middle - stretch[:3, :3] @ template_middle
    shape = (mask.shape[0], mask.shape[1], mask.shape[2])
    return resample(template.mask, stretch @ template.volume.affine, shape, affine) > 0.5


def _moments(mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    thin = affine @ np.diag([2.0, 2.0, 2.0, 1.0])  # every second voxel says the same
    world = np.argwhere(mask[::2, ::2, ::2]) @ thin[:3, :3].T + thin[:3, 3]
    return world.mean(axis=0), world.std(axis=0)


def _start(template: Template, subdivisions: int) -> Surface:
    """The template's brain seen from its middle, shrunk, as a mesh in the atlas's world."""
    directions, faces = icosphere(subdivisions)
    middle = _moments(template.mask, template.volume.affine)[0]
    lengths = np.arange(0.0, 120.0, 0.5)
    inverse = np.linalg.inv(template.volume.affine)
    points = middle + directions[:, None, :] * lengths[None, :, None]
    voxels = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    inside = np.all((voxels >= 0) & (voxels < np.array(template.mask.shape)), axis=-1)
    voxels = np.clip(voxels, 0, np.array(template.mask.shape) - 1)
    brain = template.mask[voxels[..., 0], voxels[..., 1], voxels[..., 2]] & inside
    radii = np.where(brain, lengths, 0.0).max(axis=1)
    return Surface(middle + START_SHARE * radii[:, None] * directions, faces)


def first_guess(volume: Volume, template: Template) -> np.ndarray:
    """The translation head -> atlas (4x4, RAS) that puts the vertex and the middle of the upper head on the atlas's."""
    head = head_mask(volume)
    if not head.any():
        raise PreprocessError("brain.empty", "There is no head in the scan.", "Check the scan, or give --mask.")
    head_top, head_middle = _top_and_middle(head, volume.affine, SLAB_MM)
    slab = (SLAB_MM[0] - SCALP_MM, SLAB_MM[1] - SCALP_MM)
    brain_top, brain_middle = _top_and_middle(template.mask, template.volume.affine, slab)
    guess = np.eye(4)
    guess[:2, 3] = brain_middle - head_middle
    guess[2, 3] = brain_top - (head_top - SCALP_MM)
    return guess


def _top_and_middle(mask: np.ndarray, affine: np.ndarray, slab_mm: tuple[float, float]) -> tuple[float, np.ndarray]:
    world = np.argwhere(mask)[::7] @ affine[:3, :3].T + affine[:3, 3]
    top = float(np.percentile(world[:, 2], 99.9))
    depth = top - world[:, 2]
    chosen = world[(depth > slab_mm[0]) & (depth < slab_mm[1])]
    chosen = world if len(chosen) == 0 else chosen
    return top, (chosen[:, :2].min(axis=0) + chosen[:, :2].max(axis=0)) / 2
