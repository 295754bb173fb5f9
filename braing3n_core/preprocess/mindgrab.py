"""Brain extraction by MindGrab, a small network of the brainchop project (MIT) for any contrast.

25 convolutions 3^3 of 15 channels with dilations 16, 8, 4, 2, 1, five times over, each followed by instance norm and
GELU; a last 1^3 convolution to two classes. It sees the head at 1 mm on an LIA grid, greys clipped to the 2nd-98th
percentile and scaled to [0, 1]. Shape legend: C channels; X Y Z voxels of the LIA grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DependencyError, PreprocessError
from ..progress import Cancel, Progress, silent
from ..volume import Volume
from .masks import bounding_box, filled, head_mask, largest_component
from .mindgrab_weights import find_weights, load_weights, where_to_find
from .spatial import isotropic_grid, resample

if TYPE_CHECKING:
    import torch

DILATIONS: tuple[int, ...] = (16, 8, 4, 2, 1) * 5
FIELD_OF_VIEW_MM = 256
MARGIN_VOXELS = 16
_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class MindGrab:
    """The backend ``mindgrab``. weights: path of the safetensors file; None searches, and fetches when asked for."""

    weights: str | Path | None = None
    name: str = "mindgrab"

    def available(self) -> tuple[bool, str]:
        """Whether it can run here, and why or why not."""
        return where_to_find(self.weights)

    def prepare(self) -> None:
        """Fetch the weights when they are missing. Raises DependencyError."""
        find_weights(self.weights)

    def extract(self, volume: Volume, *, progress: Progress = silent, cancel: Cancel | None = None) -> np.ndarray:
        """Brain mask of a whole head of any contrast: bool (X,Y,Z) on the volume's grid."""
        weights = load_weights(find_weights(self.weights))
        field = conform(volume)
        logits = forward(field.array, weights, progress=progress, cancel=cancel)
        if not (logits > 0).any():
            raise PreprocessError(
                "brain.empty", "MindGrab found no brain in the scan.",
                "Check the scan, or give a brain mask with --mask.",
            )
        brain = largest_component(logits > 0)
        smooth = np.where(brain, np.maximum(logits, 0.0), np.minimum(logits, -0.0)).clip(-4.0, 4.0)
        on_input = resample(smooth, field.affine, volume.shape, volume.affine, fill=-4.0)
        return filled(largest_component(on_input > 0))


@dataclass(frozen=True)
class Field:
    """What the network sees. array: float32 (X,Y,Z) in [0, 1], 1 mm, LIA; affine: voxel to RAS+ world."""

    array: np.ndarray
    affine: np.ndarray


def conform(volume: Volume) -> Field:
    """The head on the network's grid, cropped to the head and a margin; all statistics are of the uncropped field."""
    shape, affine = _lia_grid(volume)
    array = resample(volume.array, volume.affine, shape, affine)
    low, high = np.percentile(array, (2.0, 98.0))
    scaled = np.clip((array - low) / max(float(high - low), 1e-6), 0.0, 1.0)
    box = _head_box(Volume.from_array(scaled, affine))
    cropped = affine.copy()
    cropped[:3, 3] = affine[:3, :3] @ np.array([s.start or 0 for s in box]) + affine[:3, 3]
    return Field(np.ascontiguousarray(scaled[box], dtype=np.float32), cropped)


def _lia_grid(volume: Volume) -> tuple[tuple[int, int, int], np.ndarray]:
    """The 1 mm grid with axes to the left, inferior and anterior that covers the volume."""
    (nx, ny, nz), ras = isotropic_grid(volume, 1.0)
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    affine[:3, 3] = ras[:3, 3] + np.array([nx - 1, 0, nz - 1])
    return (nx, nz, ny), affine


def _head_box(scaled: Volume) -> tuple[slice, slice, slice]:
    """Box of the head with a margin; at most 256 mm, and downwards counted from the vertex."""
    x, y, z = bounding_box(head_mask(scaled), MARGIN_VOXELS)
    # The second axis runs downwards: necks are cut, vertices are not.
    return x, slice(y.start, y.stop if y.stop is None else min(y.stop, (y.start or 0) + FIELD_OF_VIEW_MM)), z


def forward(
    array: np.ndarray, weights: dict[str, Any], *, progress: Progress = silent, cancel: Cancel | None = None
) -> np.ndarray:
    """Logit of brain over background, float32 (X,Y,Z). weights: the tensors of the safetensors file."""
    try:
        import torch
    except ImportError as error:
        raise DependencyError("dependency.torch", f"MindGrab needs torch: {error}.", "pip install torch") from error
    dtype = _fast_dtype()
    layout = torch.channels_last_3d
    with torch.inference_mode():
        x = torch.from_numpy(array).to(dtype)[None, None].contiguous(memory_format=layout)
        for index, dilation in enumerate(DILATIONS):
            if cancel is not None:
                cancel.check()
            progress(index / len(DILATIONS), f"MindGrab layer {index + 1} of {len(DILATIONS)}")
            kernel = weights[f"model.{index}.0.weight"].to(dtype).contiguous(memory_format=layout)
            x = torch.nn.functional.conv3d(x, kernel, padding=dilation, dilation=dilation)  # (1,C,X,Y,Z)
            _normalise_gelu_(x)
        kernel, bias = weights["model.25.weight"].to(dtype), weights["model.25.bias"].float()
        difference = (kernel[1] - kernel[0]).reshape(1, -1, 1, 1, 1)
        logits = torch.nn.functional.conv3d(x, difference)[0, 0].float() + (bias[1] - bias[0])
    return np.asarray(logits.numpy())


def _fast_dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies it natively (measured: masks agree with float32 to Dice .999)."""
    import torch

    wide = torch.backends.cpu.get_cpu_capability() in ("AVX512", "SVE256")
    native = wide and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _normalise_gelu_(x: torch.Tensor) -> None:
    """Instance norm and GELU in place, slab by slab so that each stays in the cache; statistics in float64."""
    import torch

    slabs = x[0].permute(1, 2, 3, 0).flatten(1, 2)  # (X, Y*Z, C), a view of channels-last memory
    total = torch.zeros(slabs.shape[-1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for slab in slabs:
        values = slab.float()
        total += values.sum(0)
        squares += values.square().sum(0)  # not in place: of a float32 slab, ``values`` is the slab itself
    count = slabs.shape[0] * slabs.shape[1]
    mean = total / count
    scale = (squares / count - mean**2).clamp_min(0.0).add(_NORM_EPSILON).rsqrt()
    mean32, scale32 = mean.float(), scale.float()
    for slab in slabs:
        slab.copy_(torch.nn.functional.gelu(slab.float().sub_(mean32).mul_(scale32)))
