"""Feature extractors of the fidelity table: our own encoder, plain slices, and any local TorchScript network.

Legend: F features. A volume is z-scored (X,Y,Z) on the model grid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from braing3n_core.errors import CheckpointError
from braing3n_core.inference import Inference

from .figures import CENTRE


class Features(Protocol):
    """name: of its column; of: one volume (X,Y,Z) -> features (F,)."""

    name: str

    def of(self, volume: np.ndarray) -> np.ndarray: ...


class EncoderFeatures:
    """The mean token of the evaluated checkpoint's own encoder: always there, and blind where it is blind."""

    name = "own encoder"

    def __init__(self, inference: Inference) -> None:
        self.inference = inference

    def of(self, volume: np.ndarray) -> np.ndarray:
        return self.inference.encode(volume)[0].mean(0)


class SliceFeatures:
    """Central slices in three views, averaged over cells of 8 mm: no network, sees only coarse intensities."""

    name = "slices, 8 mm"

    def of(self, volume: np.ndarray) -> np.ndarray:
        return np.concatenate([F.avg_pool2d(s[None], 8).flatten().numpy() for s in central_slices(volume)])


class TorchScriptFeatures:
    """A local TorchScript network of 2D images (B,3,299,299) in -1..1 -> (B,F): the paper's kind of 3D-FID.

    Inception-V3 exported with ``torch.jit.script`` is one; its features of the three central slices are joined.
    """

    def __init__(self, path: Path, size: int = 299) -> None:
        self.name, self.size = path.stem, size
        try:
            self.network = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                "features.torchscript", f"{path} is no TorchScript network: {str(error).splitlines()[0]}.",
                "Export one with torch.jit.script(model).save(path).",
            ) from error

    @torch.inference_mode()
    def of(self, volume: np.ndarray) -> np.ndarray:
        low, high = float(volume.min()), float(volume.max())
        images = [
            F.interpolate((s[None, None] - low) / max(high - low, 1e-6) * 2 - 1, (self.size, self.size),
                          mode="bilinear", align_corners=False)
            for s in central_slices(volume)
        ]
        features: torch.Tensor = self.network(torch.cat(images).expand(-1, 3, -1, -1))
        return features.flatten().float().numpy()


def rescaled(volume: np.ndarray) -> np.ndarray:
    """Z-scored again, as every volume is that comes into the model: what a decoder makes is not quite."""
    return ((volume - volume.mean()) / max(float(volume.std()), 1e-6)).astype(np.float32)


def central_slices(volume: np.ndarray) -> list[torch.Tensor]:
    """Axial, coronal and sagittal slices through the middle of the brain, 2D, float32."""
    x, y, z = CENTRE
    return [torch.from_numpy(np.ascontiguousarray(s)).float() for s in (volume[:, :, z], volume[:, y], volume[x])]
