"""A small convolutional network trained from scratch, end to end, on the evaluated scans: the baseline without any
pretraining. One network a fold answers all tasks at once, by its own folds' scans alone.

Legend: n scans, K outputs of a task.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .metrics.crossval import SEED, Folds

CELL = 4
"""Voxels are averaged over cells of this many a side: 4 mm, 40 x 48 x 40."""


@dataclass(frozen=True, eq=False)
class Answers:
    """labels (n,): words, or numbers with ``classes`` empty; known: bool (n,), where there is a label."""

    labels: np.ndarray
    known: np.ndarray
    classes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        return len(self.classes) or 1


class SmallCNN(nn.Module):
    """Four strided convolutions and a mean: (B,1,40,48,40) -> one output tensor (B,K) a task."""

    def __init__(self, outputs: dict[str, int], widths: tuple[int, ...] = (8, 16, 32, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((1, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv3d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.GELU()]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(widths[-1], count) for name, count in outputs.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x).mean((2, 3, 4))
        return {name: head(features) for name, head in self.heads.items()}


def coarse(volume: np.ndarray) -> np.ndarray:
    """A z-scored volume (X,Y,Z) averaged over cells, float16 (X/4,Y/4,Z/4)."""
    x = torch.from_numpy(np.ascontiguousarray(volume)).float()[None]
    return F.avg_pool3d(x, CELL)[0].numpy().astype(np.float16)


def out_of_fold(
    volumes: np.ndarray, tasks: dict[str, Answers], folds: Folds, epochs: int, batch: int = 16
) -> dict[str, np.ndarray]:
    """Predictions of scans that the network had not seen, by task: (n,K) probabilities, or (n,) numbers.

    volumes (n,X/4,Y/4,Z/4). A row that no fold tests is nan.
    """
    found = {k: np.full((len(volumes), a.outputs), np.nan) for k, a in tasks.items()}
    for number, (fit, test) in enumerate(folds):
        network = _trained(volumes[fit], {k: _rows(a, fit) for k, a in tasks.items()}, epochs, batch, SEED + number)
        for name, answer in _asked(network, volumes[test]).items():
            numbers = tasks[name].labels[fit][tasks[name].known[fit]] if not tasks[name].classes else None
            found[name][test] = answer.softmax(1).numpy() if numbers is None else _in_unit(answer, numbers)
    return {k: v if tasks[k].classes else v[:, 0] for k, v in found.items()}


def _rows(answers: Answers, rows: np.ndarray) -> Answers:
    return Answers(answers.labels[rows], answers.known[rows], answers.classes)


def _trained(volumes: np.ndarray, tasks: dict[str, Answers], epochs: int, batch: int, seed: int) -> SmallCNN:
    """AdamW with a cosine to zero; mirrored and shifted copies, since the scans are few."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallCNN({k: a.outputs for k, a in tasks.items()}).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = epochs * -(-len(volumes) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    targets = {k: _target(a) for k, a in tasks.items()}
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(volumes)), -(-len(volumes) // batch)):
            answers = network(_varied(volumes[rows], rng))
            loss = sum(_loss(answers[k], targets[k][rows], torch.from_numpy(tasks[k].known[rows])) for k in tasks)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimiser.step()
            schedule.step()
    return network.eval()


def _target(answers: Answers) -> Tensor:
    """Class indices (n,) int64, or standardised numbers (n,1); what is not known is 0."""
    if answers.classes:
        place = {name: k for k, name in enumerate(answers.classes)}
        return torch.tensor([place.get(str(label), 0) for label in answers.labels])
    y = np.where(answers.known, answers.labels, 0).astype(np.float32)
    inside = y[answers.known]
    scaled = (y - inside.mean()) / max(float(inside.std()), 1e-6)
    return torch.from_numpy(np.asarray(scaled, np.float32))[:, None]


def _loss(answer: Tensor, target: Tensor, known: Tensor) -> Tensor:
    if not known.any():
        return answer.sum() * 0
    if target.dtype == torch.int64:
        return F.cross_entropy(answer[known], target[known])
    return F.smooth_l1_loss(answer[known], target[known])


def _varied(volumes: np.ndarray, rng: np.random.Generator) -> Tensor:
    """(B,1,X,Y,Z): each shifted by up to one cell along every axis, every second one mirrored left to right."""
    made = []
    for volume in volumes.astype(np.float32):
        moved = np.roll(volume, tuple(rng.integers(-1, 2, 3)), (0, 1, 2))
        made.append(moved[::-1] if rng.random() < 0.5 else moved)
    return torch.from_numpy(np.stack(made))[:, None]


@torch.no_grad()
def _asked(network: SmallCNN, volumes: np.ndarray) -> dict[str, Tensor]:
    return network(torch.from_numpy(volumes.astype(np.float32))[:, None])  # type: ignore[no-any-return]


def _in_unit(answer: Tensor, numbers: np.ndarray) -> np.ndarray:
    return np.asarray(answer.numpy() * max(float(numbers.std()), 1e-6) + float(numbers.mean()))
