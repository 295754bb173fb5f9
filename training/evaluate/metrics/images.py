"""How much of a volume a reconstruction keeps: squared error, PSNR, structural similarity, seams between patches."""

from __future__ import annotations

import torch
from torch import Tensor


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


def ssim(a: Tensor, b: Tensor, data_range: float, window: int = 11, sigma: float = 1.5) -> float:
    """Mean structural similarity of two volumes (X,Y,Z) over the places where the Gaussian window fits.

    MONAI's numbers; the separable window as sums of shifted volumes takes a hundredth of the convolution's time.
    """
    x, y = a.float(), b.float()
    mean_x, mean_y = _blur(x, window, sigma), _blur(y, window, sigma)
    var_x = _blur(x * x, window, sigma) - mean_x**2
    var_y = _blur(y * y, window, sigma) - mean_y**2
    both = _blur(x * y, window, sigma) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    likeness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * (2 * both + c2) / (var_x + var_y + c2)
    return float(likeness.mean())


def _blur(volume: Tensor, window: int, sigma: float) -> Tensor:
    """(X,Y,Z) averaged along each axis in turn, without padding."""
    place = torch.arange(window, dtype=torch.float32) - (window - 1) / 2
    weights = torch.exp(-0.5 * (place / sigma) ** 2)
    weights = weights / weights.sum()
    for axis in range(3):
        length = volume.shape[axis] - window + 1
        total = volume.narrow(axis, 0, length) * weights[0]
        for k in range(1, window):
            total.add_(volume.narrow(axis, k, length), alpha=float(weights[k]))
        volume = total
    return volume
