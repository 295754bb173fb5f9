"""Further anatomies for the cohort: real skull-stripped T1 scans, brought onto the model grid once and cached."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from braing3n_core import atlas
from braing3n_core.errors import VolumeError
from braing3n_core.preprocess.intensity import n4_bias_field
from braing3n_core.preprocess.spatial import register_affine, resample
from braing3n_core.volume import Volume

from .anatomy import T1_MEANS, Anatomy, build_anatomy, icbm_anatomy, sharpen


@lru_cache(maxsize=4)
def load_anatomies(folder: Path | None = None) -> dict[str, Anatomy]:
    """ICBM152, and every ``*_T1w.nii.gz`` below ``folder``, by name."""
    anatomies = {"icbm152": icbm_anatomy()}
    for path in sorted(folder.rglob("*T1w.nii.gz")) if folder else []:
        anatomy = template_anatomy(path)
        anatomies[anatomy.name] = anatomy
    if folder and len(anatomies) == 1:
        raise VolumeError("phantom.templates", f"No *T1w.nii.gz below {folder}.", "Give stripped T1 scans.")
    return anatomies


def template_anatomy(path: Path) -> Anatomy:
    """A skull-stripped T1 as an anatomy: affine to ICBM152 on the model grid, white matter set to 75, tissue maps."""
    t1, mask = _cached(path)
    scaled = _tissue_scaled(t1, mask > 0.5)
    return build_anatomy(path.name.split("_")[0], sharpen(scaled, mask > 0.5, 0.6), mask, rim_voxels=0)


def _cached(path: Path) -> tuple[np.ndarray, np.ndarray]:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "braing3n" / "anatomies"
    file = cache / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.npz"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        t1, mask = _registered(Volume.load(path, "T1"))
        partial = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, t1=t1.astype(np.float16), mask=mask.astype(np.float16))
        partial.replace(file)
    with np.load(file) as arrays:
        return arrays["t1"].astype(np.float32), arrays["mask"].astype(np.float32)


def _registered(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """T1 and mask (X,Y,Z) on the model grid; the mask's pinholes and ragged edge are closed."""
    from scipy import ndimage

    fixed = Volume.from_array(icbm_anatomy().t1, atlas.model_affine(), modality="T1")
    native_to_atlas = register_affine(volume, fixed)
    moved = native_to_atlas @ volume.affine
    corrected = volume.array / n4_bias_field(volume, volume.array > 0.05 * volume.array.max()).array
    t1 = resample(corrected, moved, atlas.MODEL_SHAPE, atlas.model_affine()).clip(0, None)
    inside = ndimage.binary_closing(t1 > 0.05 * np.median(t1[t1 > 0]), iterations=2)
    inside = ndimage.binary_fill_holes(ndimage.binary_opening(inside, iterations=1))
    mask = ndimage.gaussian_filter(inside.astype(np.float32), 0.8)
    return t1 * (75.0 / float(np.quantile(t1[inside], 0.9))), mask


def _tissue_scaled(t1: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Intensities so that fluid, grey and white matter have the means that the tissue maps expect."""
    from scipy import ndimage
    from sklearn.cluster import KMeans

    smooth = ndimage.gaussian_filter(t1, 0.6)
    sample = smooth[ndimage.binary_erosion(inside, iterations=2)][::37, None]
    start = np.quantile(sample, [0.03, 0.15, 0.4, 0.65, 0.88])[:, None]
    # Five classes, for two of them are the mixtures at the borders; without them the means are drawn together.
    fluid, _, grey, _, white = np.sort(KMeans(5, init=start, n_init=1).fit(sample).cluster_centers_[:, 0])
    grey_mean, white_mean, fluid_mean = T1_MEANS
    slope = (white_mean - grey_mean) / (white - grey)
    knots = [0.0, fluid, grey, white, 2 * white]
    scaled = np.interp(t1, knots, [fluid_mean / 2, fluid_mean, grey_mean, white_mean, white_mean + slope * white])
    return np.where(t1 > 0, scaled, 0).clip(0, 100).astype(np.float32)
