"""Binary masks: Otsu's threshold, the head, holes, the largest piece."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..volume import Volume

HEAD_SPACING_MM = 4.0


def otsu_threshold(array: np.ndarray) -> float:
    """The grey value that best parts dark from bright (Otsu 1979), robust to the brightest half percent."""
    high = float(np.percentile(array, 99.5))
    low = float(array.min())
    if high <= low:
        return low
    counts, edges = np.histogram(np.clip(array, low, high), bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = ((counts * centres).sum() - np.cumsum(counts * centres)) / np.maximum(above, 1)
    return float(centres[np.argmax(below * above * (mean_below - mean_above) ** 2)])


def head_mask(volume: Volume) -> np.ndarray:
    """Where the head is, to about 4 mm: brighter than half Otsu's threshold, closed by 6 mm, filled; bool (X,Y,Z)."""
    steps = [max(int(round(HEAD_SPACING_MM / s)), 1) for s in volume.spacing_mm]
    coarse = volume.array[tuple(slice(None, None, step) for step in steps)]
    bright = coarse > 0.5 * otsu_threshold(coarse)
    spacing = [s * step for s, step in zip(volume.spacing_mm, steps, strict=True)]
    head = filled(largest_component(closed(bright, spacing, 6.0)))
    for axis, step in enumerate(steps):
        head = head.repeat(step, axis=axis)
    return np.asarray(head[tuple(slice(n) for n in volume.shape)])


def ball(radii_voxels: list[int]) -> np.ndarray:
    """An ellipsoid of the given radii as a structuring element."""
    axes = np.ogrid[tuple(slice(-r, r + 1) for r in radii_voxels)]
    return np.asarray(sum((axis / max(r, 0.5)) ** 2 for axis, r in zip(axes, radii_voxels, strict=True)) <= 1.0)


def closed(mask: np.ndarray, spacing_mm: Sequence[float], radius_mm: float) -> np.ndarray:
    """Morphological closing by a ball; the outside of the grid counts as empty."""
    from scipy import ndimage

    rounds = [max(int(round(radius_mm / s)), 1) for s in spacing_mm]
    box = bounding_box(mask)
    padded = np.pad(mask[box], [(r, r) for r in rounds])
    done = ndimage.binary_closing(padded, structure=ball(rounds))
    out = np.zeros_like(mask, dtype=bool)
    out[box] = done[tuple(slice(r, -r) for r in rounds)]
    return out


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice, slice]:
    """The box of a mask, grown by a margin inside the grid; the whole grid for an empty mask."""
    if not mask.any():
        return slice(None), slice(None), slice(None)
    bounds = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        bounds.append(slice(max(int(used[0]) - margin, 0), min(int(used[-1]) + 1 + margin, mask.shape[axis])))
    return bounds[0], bounds[1], bounds[2]


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 6-connected piece; an empty mask stays empty."""
    from scipy import ndimage

    box = bounding_box(mask)
    labels, count = ndimage.label(mask[box])
    if count < 2:
        return np.asarray(mask, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    out = np.zeros(mask.shape, dtype=bool)
    out[box] = labels == sizes.argmax()
    return out


def filled(mask: np.ndarray) -> np.ndarray:
    """The mask without holes in 3D."""
    from scipy import ndimage

    box = bounding_box(mask)
    out = np.zeros(mask.shape, dtype=bool)
    out[box] = ndimage.binary_fill_holes(mask[box])
    return out


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks, 2|A and B| / (|A| + |B|); 1.0 for two empty ones."""
    both = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / both if both else 1.0


def volume_ml(mask: np.ndarray, affine: np.ndarray) -> float:
    """Size of a mask in millilitres."""
    return float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000.0)
