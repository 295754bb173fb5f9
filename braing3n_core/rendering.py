"""From decoded volumes of the model grid to images in the atlas grid and in the scanner's own space.

Everything that depends on the scan alone (soft masks, the brain's box in the native grid) is made once per scan.
Legend: X Y Z voxels of the model grid.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from .atlas import to_atlas_grid
from .generation.render import difference, full, intensity_change, residual, soft_mask
from .outcomes import Encoded, Rendered
from .preprocess.spatial import to_grid
from .volume import Volume

Box = tuple[slice, slice, slice]


class Renderer:
    """Renders decoded volumes of one encoded scan."""

    def __init__(self, encoded: Encoded) -> None:
        self.preprocessed = encoded.preprocessed
        self.atlas_to_native = np.linalg.inv(self.preprocessed.record.transform())
        self.normalisation = encoded.normalisation

    def prepare(self) -> None:
        """Make all that depends on the scan alone now, rather than at the first rendering."""
        _ = self._atlas_weights, self._native_weights, self._box_grid, self._bias_box

    def residual(self, decoded_edit: np.ndarray, decoded_source: np.ndarray) -> Rendered:
        """The scan's own voxels plus the decoded change. Both (X,Y,Z), z-scored."""
        change = intensity_change(decoded_edit, decoded_source, self.normalisation.std)
        on_atlas = to_atlas_grid(change)
        native, atlas = self.preprocessed.native, self.preprocessed.volume
        edited = residual(atlas.array, on_atlas, self._atlas_weights)
        if not change.any():
            return self._rendered(native.array, edited)
        box = self._box
        output = native.array.copy(order="K")
        output[box] = residual(
            native.array[box], self._native_box(on_atlas), self._native_weights, self._bias_box
        )
        return self._rendered(output, edited)

    def full(self, decoded: np.ndarray) -> Rendered:
        """The decoded volume itself, brain only. Differences are taken inside the brain."""
        z = self.normalisation
        on_atlas = to_atlas_grid(full(decoded, z.mean, z.std)) * self.preprocessed.mask.array
        native = np.zeros_like(self.preprocessed.native.array)
        box = self._box
        brain = self._native_box(on_atlas) * self.preprocessed.native_mask.array[box]
        native[box] = brain if self._bias_box is None else brain * self._bias_box
        return self._rendered(native, on_atlas, inside_only=True)

    def map(self, model_array: np.ndarray) -> tuple[Volume, Volume]:
        """A non-negative map in z units (X,Y,Z) as (native, atlas) volumes in the scan's unit, inside the brain."""
        on_atlas = to_atlas_grid(model_array * np.float32(self.normalisation.std))
        native = np.zeros_like(self.preprocessed.native.array)
        moved = self._native_box(on_atlas) * self._native_weights
        native[self._box] = moved if self._bias_box is None else moved * self._bias_box
        atlas = self.preprocessed.volume
        return self.preprocessed.native.with_array(native), atlas.with_array(on_atlas * self._atlas_weights)

    def _rendered(self, native: np.ndarray, atlas: np.ndarray, inside_only: bool = False) -> Rendered:
        scan, on_atlas = self.preprocessed.native, self.preprocessed.volume
        native_change, atlas_change = difference(native, scan.array), difference(atlas, on_atlas.array)
        if inside_only:
            native_change = native_change * self.preprocessed.native_mask.array
            atlas_change = atlas_change * self.preprocessed.mask.array
        return Rendered(
            scan.with_array(native), on_atlas.with_array(atlas),
            scan.with_array(native_change), on_atlas.with_array(atlas_change),
        )

    def _native_box(self, on_atlas: np.ndarray) -> np.ndarray:
        """An atlas-grid array resampled to the brain's box of the native grid."""
        volume = self.preprocessed.volume.with_array(on_atlas)
        shape, affine = self._box_grid
        return to_grid(volume, self.atlas_to_native, shape, affine).array

    @cached_property
    def _box(self) -> Box:
        inside = self.preprocessed.native_mask.array > 0
        spans = []
        for axis, length in enumerate(inside.shape):
            filled = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
            low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, length)
            spans.append(_at_least(low, high, length))
        return spans[0], spans[1], spans[2]

    @cached_property
    def _box_grid(self) -> tuple[tuple[int, int, int], np.ndarray]:
        """Shape and affine of the brain's box: resampling there alone is several times cheaper."""
        affine, box = self.preprocessed.native.affine.copy(), self._box
        affine[:3, 3] += affine[:3, :3] @ [s.start for s in box]
        x, y, z = (s.stop - s.start for s in box)
        return (x, y, z), affine

    @cached_property
    def _atlas_weights(self) -> np.ndarray:
        return soft_mask(self.preprocessed.mask.array)

    @cached_property
    def _native_weights(self) -> np.ndarray:
        """Weights in the brain's box."""
        return soft_mask(self.preprocessed.native_mask.array, self.preprocessed.native.spacing_mm)[self._box]

    @cached_property
    def _bias_box(self) -> np.ndarray | None:
        bias = self.preprocessed.bias
        return None if bias is None else bias.array[self._box]


def _at_least(low: int, high: int, length: int, least: int = 8) -> slice:
    """A span of at least ``least`` voxels inside 0..length: the smallest grid that a Volume may have."""
    low = max(min(low, length - least), 0)
    return slice(low, min(max(high, low + least), length))
