"""From decoded volumes to intensities: residual and full rendering, difference maps, ensembles. Numpy only.

The decoder works on z-scored voxels of the atlas grid: ``z = (x - mean) / std`` with the scan's own mean and std.
Residual rendering keeps the patient's own voxels and adds only what the model changed:
``output = input + mask (D(edit) - D(source)) std``. The resampling from atlas to native is the caller's.
Arrays are (X,Y,Z) in one grid; intensities are in the scan's own unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import RequestError


def intensity_change(decoded_edit: np.ndarray, decoded_source: np.ndarray, std: float) -> np.ndarray:
    """The change in intensities, float32, from two decoded z-scored volumes. ``std``: of the scan's z-score."""
    _check_grids(decoded_edit=decoded_edit, decoded_source=decoded_source)
    return (decoded_edit.astype(np.float32) - decoded_source) * np.float32(std)


def soft_mask(mask: np.ndarray, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0), falloff_mm: float = 4.0) -> np.ndarray:
    """Weights float32 that are 0 outside ``mask`` and rise to 1 at ``falloff_mm`` inside its edge.

    A smooth step instead of an edge: a decoded change that does not vanish at the brain's edge would draw a rim.
    """
    from scipy.ndimage import distance_transform_edt

    inside = np.asarray(mask) > 0
    if falloff_mm <= 0 or not inside.any():
        return inside.astype(np.float32)
    box = _bounding_box(inside)
    # Voxel centres just inside the edge lie half a voxel from it.
    depth = distance_transform_edt(np.pad(inside[box], 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    ramp = np.clip((depth - 0.5 * min(spacing_mm)) / falloff_mm, 0, 1)
    weights = np.zeros(inside.shape, np.float32)
    weights[box] = ramp * ramp * (3 - 2 * ramp)
    return weights


def residual(
    volume: np.ndarray, change: np.ndarray, mask: np.ndarray, bias_field: np.ndarray | None = None
) -> np.ndarray:
    """``volume + mask * change``, never below 0 where it was changed; equal to ``volume`` wherever that change is 0.

    change: in intensities of the bias-corrected scan, resampled to the grid of ``volume``. mask: weights 0..1
    (:func:`soft_mask`). bias_field: the field that was divided out (volume = corrected * field), if there was one.
    Integer volumes are answered in float32, floating ones in their own type.
    """
    _check_grids(volume=volume, change=change, mask=mask, bias_field=bias_field)
    dtype = volume.dtype if volume.dtype.kind == "f" else np.dtype(np.float32)
    added = mask.astype(np.float32) * change
    if bias_field is not None:
        added = added * bias_field
    # A voxel that is already negative (a reconstruction's ringing) is not lifted by a change that lowers it.
    floor = np.minimum(volume, 0)
    return np.where(added == 0, volume, np.maximum(volume + added, floor)).astype(dtype, copy=False)


def full(decoded: np.ndarray, mean: float, std: float, mask: np.ndarray | None = None) -> np.ndarray:
    """The decoded z-scored volume in intensities, float32, at least 0, and 0 outside ``mask`` (weights 0..1)."""
    _check_grids(decoded=decoded, mask=mask)
    volume = np.maximum(decoded.astype(np.float32) * np.float32(std) + np.float32(mean), 0)
    return volume if mask is None else volume * mask.astype(np.float32)


def difference(output: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """``output - volume``, float32: positive where the model brightened the scan."""
    _check_grids(output=output, volume=volume)
    return output.astype(np.float32) - volume.astype(np.float32)


def ensemble_statistics(samples: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread (sample standard deviation), float32, of volumes that are seen one at a time.

    One sample has spread 0. Raises RequestError without any.
    """
    count = 0
    mean: np.ndarray = np.zeros((), np.float32)
    squares: np.ndarray = np.zeros((), np.float32)
    for sample in samples:
        count += 1
        deviation = sample.astype(np.float32) - mean
        mean = mean + deviation / count
        squares = squares + deviation * (sample - mean)
    if count == 0:
        raise RequestError("render.ensemble", "An ensemble needs at least one sample.", "Raise samples.")
    return mean.astype(np.float32), np.sqrt(np.maximum(squares, 0) / max(count - 1, 1)).astype(np.float32)


def _check_grids(**arrays: np.ndarray | None) -> None:
    shapes = {name: array.shape for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) > 1:
        raise RequestError(
            "render.grid", "Arrays of one rendering must share a grid, got "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items()) + ".", "Resample them to one grid.",
        )


def _bounding_box(inside: np.ndarray) -> tuple[slice, ...]:
    spans = []
    for axis in range(inside.ndim):
        filled = np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis)))
        spans.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(spans)
