"""Intensities: the N4 bias field, and the z-score of the model's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..atlas import ATLAS_SHAPE, MODEL_SHAPE, to_atlas_grid, to_model_grid
from ..errors import DependencyError, PreprocessError
from ..volume import Volume

N4_SPACING_MM = 4.0
N4_ITERATIONS: tuple[int, ...] = (50, 50, 50, 50)
N4_TOLERANCE = 1e-3  # measured: 1e-7 takes twice as long and leaves more bias


@dataclass(frozen=True)
class Normalisation:
    """The z-score of one volume over the whole model grid: ``z = (x - mean) / std``."""

    mean: float
    std: float


def n4_bias_field(volume: Volume, mask: np.ndarray) -> Volume:
    """The multiplicative bias field on the volume's own grid, geometric mean 1 in the mask (paper, section 2).

    N4 (Tustison 2010) of SimpleITK on voxels of about 4 mm; the field is then evaluated at full resolution.
    Raises DependencyError without SimpleITK, PreprocessError when the mask is empty.
    """
    try:
        import SimpleITK as sitk
    except ImportError as error:
        message = f"N4 needs SimpleITK: {error}."
        raise DependencyError("dependency.simpleitk", message, "pip install SimpleITK") from error
    if not mask.any():
        raise PreprocessError("n4.mask", "N4 has no voxel to look at: the mask is empty.", "Give a scan with a head.")
    image = _sitk_image(sitk, np.maximum(volume.array, 0.0), volume)
    inside = sitk.Cast(_sitk_image(sitk, mask.astype(np.float32), volume), sitk.sitkUInt8)
    factors = [max(int(round(N4_SPACING_MM / s)), 1) for s in volume.spacing_mm]
    factors = [min(f, max(n // 8, 1)) for f, n in zip(factors, volume.shape, strict=True)]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(list(N4_ITERATIONS))
    n4.SetConvergenceThreshold(N4_TOLERANCE)
    n4.SetNumberOfThreads(2)  # fixed, so that the sums are made in the same order on every run
    try:
        n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(inside, factors))
        log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
    except RuntimeError as error:
        raise PreprocessError(
            "n4.failed", f"N4 failed: {str(error).strip().splitlines()[-1]}.",
            "Run without N4 if the scan is corrected.",
        ) from error
    log_field = log_field - log_field[mask].mean()
    return volume.with_array(np.exp(log_field).astype(np.float32))


def _sitk_image(sitk, array: np.ndarray, volume: Volume):  # type: ignore[no-untyped-def]
    """SimpleITK wants (Z,Y,X); N4 needs the spacing only, not the place in the world."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T, dtype=np.float32))
    image.SetSpacing([float(s) for s in volume.spacing_mm])
    return image


def to_model(atlas_array: np.ndarray) -> tuple[np.ndarray, Normalisation]:
    """Atlas grid (240,240,155) to the model's input: float32 (160,192,160), mean 0 and standard deviation 1.

    Raises PreprocessError for another shape and for a constant volume.
    """
    if atlas_array.shape != ATLAS_SHAPE:
        raise PreprocessError(
            "model.grid", f"The model needs the atlas grid {ATLAS_SHAPE}, got {atlas_array.shape}.",
            "Preprocess the scan first.",
        )
    # Unspecified in the paper: the region of the z-score. Here the whole model grid, background included.
    cropped = to_model_grid(np.asarray(atlas_array, dtype=np.float32))
    mean, std = float(cropped.mean(dtype=np.float64)), float(cropped.std(dtype=np.float64))
    flat = float(np.ptp(atlas_array)) == 0.0  # padding alone would give it a spread
    if flat or not np.isfinite(std) or std <= 1e-6 * max(abs(mean), 1e-30):
        raise PreprocessError(
            "model.constant", f"The volume is constant ({mean:g}) on the model grid; it cannot be z-scored.",
            "Check that the preprocessed volume shows a brain.",
        )
    return ((cropped - mean) / std).astype(np.float32), Normalisation(mean, std)


def from_model(model_array: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    """The inverse of :func:`to_model`: grey values on the atlas grid, 0 outside the model grid."""
    if model_array.shape != MODEL_SHAPE:
        raise PreprocessError(
            "model.grid", f"Expected the model grid {MODEL_SHAPE}, got {model_array.shape}.",
            "Pass one volume of the decoder.",
        )
    return to_atlas_grid(np.asarray(model_array, dtype=np.float32) * normalisation.std + normalisation.mean)
