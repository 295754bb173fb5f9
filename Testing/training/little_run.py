"""Runs of seconds with everything that a real one has, each a process of its own, to be killed and started again.

    python -m Testing.training.little_run < PLANS.json > ENDS.json

PLANS is a list of runs: out, steps, and at which step a signal strikes or the loss is spoilt. Each is forked from this
process, which has imported torch once; ENDS has the exit code (negative: the signal) and the standard error of each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.loop import Batch, Run, TrainConfig, train
from training.stage import command


@dataclass(frozen=True)
class Plan:
    out: str
    steps: int
    strike_at: int = -1
    signal: str = "SIGKILL"
    nan_at: int = -1
    resume: str = "auto"
    stage: str = "little"


class Objective(nn.Module):
    """Dropout makes it depend on the process's own random numbers, the buffer on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 1))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (self.net(x)[:, 0] - x.sum(1)).square().mean()


def carry_out(plan: Plan) -> None:
    """Train, with the misfortune that is planned."""
    torch.manual_seed(0)

    def draw(step: int, generator: torch.Generator) -> Batch:
        if step == plan.strike_at:
            os.kill(os.getpid(), getattr(signal, plan.signal))
        x = torch.randn(8, 6, generator=generator)
        return Batch((x * float("nan") if step == plan.nan_at else x,), [f"sub-{step:02d} visit 0 T1"])

    config = TrainConfig(steps=plan.steps, save_every=4, learning_rate=1e-2, picture_every=0)
    identity = {"stage": plan.stage}
    run = Run(config, Path(plan.out), torch.device("cpu"), resume=plan.resume, identity=identity)
    best = train(Objective(), draw, run)
    torch.save(best.state_dict(), run.out / "best.pt")


def fork(plan: Plan) -> dict[str, Any]:
    """One run in a process of its own, to its end."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            code = 0
            try:
                command(lambda: carry_out(plan))
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException as error:  # noqa: BLE001 - the parent must see it
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                code = 99
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "said": said.read()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with suppress(ImportError):
        import torch.utils.tensorboard  # once for all forks
    sys.stdout.write(json.dumps([fork(Plan(**plan)) for plan in json.load(sys.stdin)]))
