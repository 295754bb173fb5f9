"""A run of seconds with everything that a real one has, to be started, killed and started again by the tests.

    python -m Testing.training.little_run OUT STEPS [--kill-at K] [--nan-at K] [--slow] [--threads]
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

from training.loop import Batch, Run, TrainConfig, train
from training.stage import command


class Objective(nn.Module):
    """Dropout makes it depend on the process's own random numbers, the buffer on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 1))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (self.net(x)[:, 0] - x.sum(1)).square().mean()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--kill-at", type=int, default=-1)
    parser.add_argument("--nan-at", type=int, default=-1)
    parser.add_argument("--resume", default="auto")
    parser.add_argument("--slow", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)

    def draw(step: int, generator: torch.Generator) -> Batch:
        if step == options.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if options.slow:
            time.sleep(0.05)
        x = torch.randn(8, 6, generator=generator)
        return Batch((x * float("nan") if step == options.nan_at else x,), [f"sub-{step:02d}"])

    config = TrainConfig(steps=options.steps, save_every=4, learning_rate=1e-2, picture_every=0)
    run = Run(config, options.out, torch.device("cpu"), resume=options.resume, identity={"stage": "little"})
    best = train(Objective(), draw, run)
    torch.save(best.state_dict(), options.out / "best.pt")


if __name__ == "__main__":
    command(main)
