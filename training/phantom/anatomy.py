"""Anatomies that the phantom cohort moves: a template brain on the model grid with tissue maps and displacement bases.

Legend: X Y Z voxels of the model grid (160,192,160), 1 mm, affine ``atlas.model_affine()`` (RAS+);
x y z = 80 96 80 cells of the half grid. A half-grid cell ``h`` is centred on voxel ``2h + .5``, so both grids share
the normalised coordinates of torch's ``grid_sample(align_corners=False)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from braing3n_core import atlas

T1_MEANS: tuple[float, float, float] = (56.0, 75.0, 24.0)
"""T1 intensity of pure grey matter, white matter and cerebrospinal fluid."""

HALF_SHAPE: tuple[int, int, int] = (80, 96, 80)
FIELDS: tuple[str, ...] = ("residual", "gm", "wm", "sulci")
BASES: tuple[str, ...] = ("ventricle", "cortex", "hippocampus", "temporal", "midbrain", "sex")
REGIONS: tuple[str, ...] = ("ventricle", "hippocampus", "horn", "wmh", "midbrain", "enhancing")


@dataclass(frozen=True)
class Anatomy:
    """One brain to be moved. Arrays are float32 and read-only by convention.

    name: identifier written beside each volume. fields: (4,X,Y,Z), see :data:`FIELDS`; outside the brain they hold CSF,
    so that a shrinking cortex uncovers fluid. ``residual`` is the T1 texture that the tissue means do not explain,
    ``sulci`` the nearness to sulcal fluid (0..1). mask: (X,Y,Z), soft, with a thin rim of fluid.
    bases: (6,3,x,y,z) displacements in voxels per mm of effect, see :data:`BASES`; regions: (6,x,y,z), 0..1,
    see :data:`REGIONS`.
    """

    name: str
    fields: np.ndarray
    mask: np.ndarray
    bases: np.ndarray
    regions: np.ndarray

    @property
    def gm(self) -> np.ndarray:
        """Grey matter fraction (X,Y,Z)."""
        return self.fields[1]

    @property
    def wm(self) -> np.ndarray:
        """White matter fraction (X,Y,Z)."""
        return self.fields[2]

    @property
    def csf(self) -> np.ndarray:
        """Cerebrospinal fluid fraction (X,Y,Z), ventricles and sulci."""
        return (1 - self.gm - self.wm).clip(0, 1)

    @property
    def t1(self) -> np.ndarray:
        """T1 intensity (X,Y,Z), white matter near 75, 0 outside the brain."""
        gm_mean, wm_mean, csf_mean = T1_MEANS
        t1 = self.gm * gm_mean + self.wm * wm_mean + self.csf * csf_mean + self.fields[0]
        return t1.clip(0, None) * (self.mask > 0.5)


@lru_cache(maxsize=1)
def icbm_anatomy() -> Anatomy:
    """The ICBM152 template that the ``nilearn`` package carries (nothing is downloaded)."""
    from nilearn import datasets

    t1 = _mni_on_model_grid(datasets.load_mni152_template(resolution=1), 0.0)
    mask = _mni_on_model_grid(datasets.load_mni152_brain_mask(resolution=1), 0.0)
    wm = _mni_on_model_grid(datasets.load_mni152_wm_template(resolution=1), 0.0)
    t1 = t1 * (T1_MEANS[1] / np.median(t1[wm > 0.9]))
    return build_anatomy("icbm152", sharpen(t1, mask > 0.5, 1.1), mask)


def build_anatomy(name: str, t1: np.ndarray, mask: np.ndarray, rim_voxels: int = 1) -> Anatomy:
    """Tissue maps, regions and bases from a stripped T1 (X,Y,Z) with the means :data:`T1_MEANS`, and its mask (0..1).

    rim_voxels: fluid to add around a mask that ends at the cortex, as brain extraction of a scan keeps it.
    """
    from scipy import ndimage

    brain = ndimage.binary_fill_holes(mask > 0.5)
    gm, wm = soft_tissue(t1, brain)
    ventricles = find_ventricles(gm, wm, brain)
    gm, wm = _unrim(gm, wm, ventricles)
    csf = 1 - gm - wm
    gm_mean, wm_mean, csf_mean = T1_MEANS
    residual = np.where(brain, t1 - gm * gm_mean - wm * wm_mean - csf * csf_mean, 0).clip(-15, 15)
    rim = ndimage.binary_dilation(brain, iterations=rim_voxels) if rim_voxels else brain
    soft = ndimage.gaussian_filter(rim.astype(np.float32), 0.7)
    sulci = _sulcal_nearness(csf, ventricles, brain)
    fields = np.stack([residual, gm, wm, sulci]).astype(np.float32)
    regions = np.stack(_regions(ventricles, wm, brain)).astype(np.float32)
    return Anatomy(name, fields, soft.astype(np.float32), _bases(ventricles, brain), regions)


def soft_tissue(t1: np.ndarray, brain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey and white fractions (X,Y,Z) by linear mixing between the tissue means; fluid is the rest."""
    gm_mean, wm_mean, csf_mean = T1_MEANS
    wm = ((t1 - gm_mean) / (wm_mean - gm_mean)).clip(0, 1)
    gm = ((t1 - csf_mean) / (gm_mean - csf_mean)).clip(0, 1) - wm
    return np.where(brain, gm, 0).astype(np.float32), np.where(brain, wm, 0).astype(np.float32)


def find_ventricles(gm: np.ndarray, wm: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Deep fluid: the lateral and third ventricles, bool (X,Y,Z)."""
    from scipy import ndimage

    fluid = brain & ((gm + wm) < 0.6)
    x, y, z = np.moveaxis(mni_coordinates(atlas.MODEL_SHAPE, 1), -1, 0)
    lateral = (np.abs(x) < 22 + 0.5 * (-15 - y).clip(0, 28)) & (y > -48) & (y < 38) & (z > -2) & (z < 32)
    third = (np.abs(x) < 6) & (y > -24) & (y < 6) & (z > -14) & (z < 14)
    allowed = (lateral | third) & (ndimage.distance_transform_edt(brain) > 20)
    labels, count = ndimage.label(fluid & allowed)
    sizes = ndimage.sum_labels(np.ones_like(labels), labels, range(1, count + 1))
    return np.isin(labels, 1 + np.flatnonzero(np.asarray(sizes) >= 150))


def mni_coordinates(shape: tuple[int, int, int], step: int) -> np.ndarray:
    """MNI152 mm (RAS+) of each cell of the model grid (step 1) or the half grid (step 2), (*shape, 3)."""
    to_mni = np.linalg.inv(atlas.MNI_TO_ATLAS) @ atlas.model_affine()
    axes = [step * np.arange(n) + (step - 1) / 2 for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    return (grid @ to_mni[:3, :3].T + to_mni[:3, 3]).astype(np.float32)


def mni_to_voxel(point_mm: np.ndarray) -> np.ndarray:
    """MNI152 mm (RAS+) to model-grid voxels, (...,3)."""
    to_voxel = np.linalg.inv(atlas.model_affine()) @ atlas.MNI_TO_ATLAS
    return np.asarray(point_mm) @ to_voxel[:3, :3].T + to_voxel[:3, 3]


def _mni_on_model_grid(image: object, fill: float) -> np.ndarray:
    from nibabel.affines import from_matvec
    from scipy import ndimage

    data = np.asarray(image.get_fdata(), np.float32)  # type: ignore[attr-defined]
    to_source = np.linalg.inv(image.affine) @ np.linalg.inv(atlas.MNI_TO_ATLAS) @ atlas.model_affine()  # type: ignore[attr-defined]
    matrix = from_matvec(to_source[:3, :3], to_source[:3, 3])
    return ndimage.affine_transform(data, matrix, output_shape=atlas.MODEL_SHAPE, order=1, cval=fill)


def sharpen(t1: np.ndarray, brain: np.ndarray, amount: float) -> np.ndarray:
    """Unsharp mask: gives back the contrast of the sulci that averaging brains, or interpolating one, takes away."""
    from scipy import ndimage

    filled = np.where(brain, t1, T1_MEANS[2])
    sharp = filled + amount * (filled - ndimage.gaussian_filter(filled, 1.6))
    return np.where(brain, sharp, 0).clip(0, 100).astype(np.float32)


def _unrim(gm: np.ndarray, wm: np.ndarray, ventricles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Partial volume of white matter and fluid looks grey around the ventricles; split it into the two."""
    from scipy import ndimage

    near = ndimage.binary_dilation(ventricles, iterations=2)
    t1 = gm * T1_MEANS[0] + wm * T1_MEANS[1] + (1 - gm - wm) * T1_MEANS[2]
    mixed = ((t1 - T1_MEANS[2]) / (T1_MEANS[1] - T1_MEANS[2])).clip(0, 1)
    return np.where(near, 0.25 * gm, gm), np.where(near, 0.75 * mixed + 0.25 * wm, wm)


def _sulcal_nearness(csf: np.ndarray, ventricles: np.ndarray, brain: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    fluid = np.where(brain, csf, 0.35) * ~ndimage.binary_dilation(ventricles, iterations=3)
    return (1.6 * ndimage.gaussian_filter(fluid, 1.0)).clip(0, 1)


def _half(array: np.ndarray) -> np.ndarray:
    """Mean over 2x2x2 voxels: (X,Y,Z) to (x,y,z)."""
    x, y, z = HALF_SHAPE
    return array.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5), dtype=np.float32)


def _capsule_mm(side: int) -> np.ndarray:
    """Distance in mm (x,y,z) of the half grid from the axis of one hippocampus. side: -1 left, 1 right."""
    axis = np.array([[23, -9, -21], [27, -18, -17], [30, -28, -10], [26, -37, -3]], float) * [side, 1, 1]
    points = mni_coordinates(HALF_SHAPE, 2)
    best = np.full(HALF_SHAPE, np.inf, np.float32)
    for a, b in pairwise(axis):
        t = (((points - a) @ (b - a)) / ((b - a) @ (b - a))).clip(0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - t[..., None] * (b - a), axis=-1))
    return best


def _blob(centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    distance = np.linalg.norm(mni_coordinates(HALF_SHAPE, 2) - np.array(centre_mm), axis=-1)
    return np.exp(-((distance / radius_mm) ** 2))


def _regions(ventricles: np.ndarray, wm: np.ndarray, brain: np.ndarray) -> list[np.ndarray]:
    from scipy import ndimage

    x, _, z = np.moveaxis(mni_coordinates(HALF_SHAPE, 2), -1, 0)
    near = _half(ndimage.binary_dilation(ventricles, iterations=2).astype(np.float32))
    capsule = np.minimum(_capsule_mm(-1), _capsule_mm(1))
    hippocampus = 1 / (1 + np.exp((capsule - 6.0) / 0.7))
    lateral = np.abs(x) - 24 + 0.5 * (z + 16)
    horn = np.exp(-(((capsule - 8.0) / 1.8) ** 2)) / (1 + np.exp(-lateral / 2.5))
    distance = ndimage.distance_transform_edt(~(_half(ventricles.astype(np.float32)) > 0.3)) * 2
    wmh = _half(wm) * np.exp(-distance / 7.0) * (distance > 0) / (1 + np.exp(-(z - 4) / 4))
    return [near, hippocampus, horn, wmh, _blob((0, -20, -14), 10.0), _enhancing(near)]


def _enhancing(ventricles: np.ndarray) -> np.ndarray:
    """Where fluid holds what enhances in everybody (x,y,z), 0..1: the choroid plexus, the veins of the midline."""
    x, y, _ = np.moveaxis(mni_coordinates(HALF_SHAPE, 2), -1, 0)
    plexus = ventricles * np.exp(-(((y + 36) / 14) ** 2)) * (np.abs(x) > 8)
    midline = np.exp(-((x / 3.0) ** 2)) * (1 - ventricles)
    return np.maximum(plexus, midline).astype(np.float32)


def _direction(distance: np.ndarray, smooth: float) -> np.ndarray:
    """Gradient (3,x,y,z) of a half-grid distance in half-grid cells, smoothed so that it vanishes on ridges."""
    from scipy import ndimage

    return np.stack(np.gradient(ndimage.gaussian_filter(distance.astype(np.float32), smooth)))


def _bases(ventricles: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Backward displacements in voxels for one mm of each effect, (6,3,x,y,z)."""
    from scipy import ndimage

    vent, inside = _half(ventricles.astype(np.float32)) > 0.4, _half(brain.astype(np.float32)) > 0.5
    edt = ndimage.distance_transform_edt
    outward = edt(~vent) - edt(vent)
    depth = edt(inside) - edt(~inside)
    capsule = np.minimum(_capsule_mm(-1), _capsule_mm(1))
    points = mni_coordinates(HALF_SHAPE, 2)
    scaled = (np.abs(points[..., 0]) - 48) / 18, (points[..., 1] + 15) / 32, (points[..., 2] + 18) / 18
    temporal = np.exp(-sum(part**2 for part in scaled))
    away = -_direction(depth, 1.5)
    ventricle = -_direction(outward, 0.8) * np.exp(-np.maximum(outward * 2, 0) / 14)
    cortex = away * np.exp(-np.maximum(depth * 2, 0) / 12)
    hippocampus = _direction(capsule / 2, 1.0) * np.exp(-(np.maximum(capsule - 5, 0) / 9))
    midbrain = _radial(points, (0, -20, -14)) * np.exp(-np.linalg.norm(points - [0, -20, -14], axis=-1) / 14)
    bases = [ventricle, cortex, hippocampus, cortex * temporal, midbrain, _sex_pattern(points)]
    return np.stack(bases).astype(np.float32)


def _radial(points: np.ndarray, centre_mm: tuple[float, float, float]) -> np.ndarray:
    offset = points - np.array(centre_mm, np.float32)
    unit = offset / (np.linalg.norm(offset, axis=-1, keepdims=True) + 4.0)
    return np.moveaxis(unit * [-1, -1, 1], -1, 0)


def _sex_pattern(points: np.ndarray) -> np.ndarray:
    """A fixed smooth pattern with unit peak. It is a label to be found, not a claim about people."""
    x, y, z = np.moveaxis(points, -1, 0)
    wide = np.tanh(x / 25) * np.sin((y + 20) / 28)
    tall = np.sin((y - 5) / 24) * np.cos(x / 40)
    long = np.cos(z / 22) * np.sin(np.abs(x) / 24 - 0.6) * 0.6
    return np.stack([-wide, -long, 0.7 * tall])
