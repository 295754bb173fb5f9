"""Volumes as one grey picture: each row one volume, its three middle planes side by side."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def three_planes(*volumes: Tensor, low: float = -1.0, high: float = 4.0) -> np.ndarray:
    """z-scored volumes (...,X,Y,Z) -> picture (H,W) uint8: sagittal, coronal, axial; ``low`` is black, ``high`` white.

    The model grid is stored LPS: superior or anterior is up, the patient's right is at the left.
    """
    rows = [_row(v.detach().float().cpu().reshape(v.shape[-3:])) for v in volumes]
    grey = ((torch.cat(rows) - low) / (high - low)).clamp(0, 1)
    return (255 * grey).round().to(torch.uint8).numpy()


def _row(volume: Tensor) -> Tensor:
    x, y, z = (n // 2 for n in volume.shape)
    planes = [volume[x].T.flip(0), volume[:, y].T.flip(0), volume[:, :, z].T]
    height = max(len(p) for p in planes)
    return torch.cat([F.pad(p, (0, 0, 0, height - len(p)), value=-10.0) for p in planes], dim=1)
