"""Structural similarity of whole volumes (Wang et al. 2004), fast enough to learn by.

Shape legend: B batch, X Y Z voxels, K = 11 voxels of the Gaussian window.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
"""Side of the Gaussian window and its standard deviation, in voxels; MONAI's."""


def structural_similarity(a: Tensor, b: Tensor, data_range: float | Tensor) -> Tensor:
    """Mean over the places where the window fits, of volumes (B,X,Y,Z): (B,), differentiable.

    data_range: of the true volume, one number or (B,). MONAI's numbers; an average along an axis is a product with a
    banded matrix, which takes a hundredth of the convolution's time on a CPU.
    """
    # Differences of large averages: bfloat16 would leave nothing of them.
    with torch.autocast(a.device.type, enabled=False):
        x, y = a.float(), b.float()
        mean_x, mean_y = _blur(x), _blur(y)
        var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
        both = _blur(x * y) - mean_x * mean_y
        span = torch.as_tensor(data_range, dtype=torch.float32, device=a.device).reshape(-1, 1, 1, 1)
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        likeness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * (2 * both + c2) / (var_x + var_y + c2)
    return likeness.mean((1, 2, 3))


def _blur(volume: Tensor) -> Tensor:
    """(B,X,Y,Z) averaged along each axis in turn, without padding."""
    x, y, z = (_averages(n).to(volume.device) for n in volume.shape[1:])
    volume = y @ (volume @ z.T)
    return (x @ volume.flatten(2)).unflatten(2, volume.shape[2:])


@cache
def _averages(length: int) -> Tensor:
    """(length - K + 1, length): each row the window at one place."""
    place = torch.arange(WINDOW, dtype=torch.float32) - (WINDOW - 1) / 2
    weights = torch.exp(-0.5 * (place / SIGMA) ** 2)
    rows = torch.zeros(length - WINDOW + 1, length)
    for k in range(WINDOW):
        rows.diagonal(k).copy_(weights[k] / weights.sum())
    return rows
