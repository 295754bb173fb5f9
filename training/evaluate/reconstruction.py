"""How much the tokenizer keeps (paper, Table 5), on held-out phantoms or any store.

Mean squared error of z-scored volumes over the whole grid and inside the brain, SSIM, PSNR by each volume's own range,
and the seam ratio: mean absolute step across 16-voxel patch borders over the step one voxel inside.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .bench import Bench, bench, show
from .metrics.images import ssim


def volume_metrics(truth: Tensor, decoded: Tensor) -> dict[str, float]:
    """Metrics of one z-scored volume (X,Y,Z) and its reconstruction."""
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


def evaluate(table: Bench, count: int) -> list[tuple[str, object]]:
    """Averages over ``count`` volumes spread over the store, all modalities, and per modality."""
    indices = np.linspace(0, len(table.store) - 1, min(count, len(table.store))).astype(int).tolist()
    rows: dict[str, list[dict[str, float]]] = {}
    for i in indices:
        latents, _ = table.encode([i])
        metrics = volume_metrics(table.store.zscored([i])[0, 0], table.decode(latents[0]))
        for group in ("all", str(table.store.records[i]["modality"])):
            rows.setdefault(group, []).append(metrics)
    return [("volumes", len(indices))] + [
        (f"{group} {name}", float(np.mean([m[name] for m in group_rows])))
        for group, group_rows in rows.items() for name in group_rows[0]
    ]


if __name__ == "__main__":
    BENCH, OPTIONS = bench(__doc__ or "")
    show(evaluate(BENCH, OPTIONS.count), OPTIONS.json)
