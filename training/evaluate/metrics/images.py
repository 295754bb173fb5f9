"""How much of a volume a reconstruction keeps: squared error, PSNR, structural similarity, seams between patches."""

from __future__ import annotations

import torch
from torch import Tensor

from ...similarity import structural_similarity


def volume_metrics(truth: Tensor, decoded: Tensor) -> dict[str, float]:
    """Metrics of one z-scored volume (X,Y,Z) and its reconstruction; PSNR by the volume's own range."""
    error = (decoded - truth).square()
    brain = truth > truth.min() + 1e-4
    span = float(truth.max() - truth.min())
    return {
        "mse": float(error.mean()), "mse_brain": float(error[brain].mean()),
        "ssim": ssim(decoded, truth, span),
        "psnr": float(10 * torch.log10(span**2 / error.mean())),
        "psnr_brain": float(10 * torch.log10(span**2 / error[brain].mean())),
        "seam": seam_ratio(decoded, brain), "seam_truth": seam_ratio(truth, brain),
    }


def seam_ratio(volume: Tensor, brain: Tensor, patch: int = 16) -> float:
    """Mean absolute step across patch borders over the mean step one voxel inside them; 1 is seamless."""
    across, inside = [], []
    for axis in range(3):
        step = volume.diff(dim=axis).abs().movedim(axis, 0)
        both = (brain.movedim(axis, 0)[1:] & brain.movedim(axis, 0)[:-1])
        position = torch.arange(len(step)) % patch
        across.append(step[position == patch - 1][both[position == patch - 1]])
        near = (position == 0) | (position == patch - 2)
        inside.append(step[near][both[near]])
    return float(torch.cat(across).mean() / torch.cat(inside).mean())


def ssim(a: Tensor, b: Tensor, data_range: float) -> float:
    """Mean structural similarity of two volumes (X,Y,Z)."""
    return float(structural_similarity(a[None], b[None], data_range))
