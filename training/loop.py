"""One plain training loop for every stage: AdamW, cosine schedule, clipping, EMA, bfloat16, snapshots.

It runs on a CPU, on one GPU, and as many processes under ``torchrun``. A stage gives an objective (a module whose
output is the loss) and ``draw(step, generator)``, which makes its inputs; the loop does the rest.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from braing3n_core.errors import BrainG3NError

from .acceleration import adamw, autocast, compile_blocks, count_flops, memory_gb, peak_flops
from .ahead import Ahead
from .averaging import Ema
from .checkpointing import Snapshots, choose
from .journal import Hardware, Journal
from .parallel import agree, is_sharded, pick_device, rank, require_divisible, whole, world, wrap
from .run_state import RunState
from .sampling import DISEASE_IDH1_MODALITY
from .stopping import EXIT_CODE, StopSignal

__all__ = ["Batch", "Run", "TrainConfig", "TrainingError", "autocast", "pick_device", "train"]


class TrainingError(BrainG3NError):
    """A run cannot go on, or its parts do not belong together."""


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to learn.

    epochs: as many samples as there are, so many times, instead of ``steps`` (0: use steps). minutes: a wall-clock
    budget that ends the schedule early (0: none). parallel: ``ddp`` or ``fsdp``, under torchrun. picture_every: steps
    between pictures (0: none). prefetch: batches that a thread makes ahead of the model.

    balance_temperature: 0 draws each sample by chance, independently of the others; from 1 on every stratum comes in
    proportion to size ** (1 / temperature), 1 as often as it is in the data, ``inf`` as often as any other. Strata are
    the values of the labels balance_by, or for the forecaster the distance of two visits.
    """

    steps: int = 1000
    epochs: float = 0.0
    minutes: float = 0.0
    batch_size: int = 8
    learning_rate: float = 2e-4
    warmup: float = 0.05
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    precision: str = "bfloat16"
    save_every: int = 100
    keep_snapshots: int = 2
    picture_every: int = 200
    parallel: str = "ddp"
    compile: bool = False
    prefetch: int = 0
    balance_temperature: float = 0.0
    balance_by: tuple[str, ...] = DISEASE_IDH1_MODALITY

    def total_steps(self, samples: int) -> int:
        """Steps of the whole run over a data set of so many samples."""
        return math.ceil(self.epochs * samples / self.batch_size) if self.epochs else self.steps


@dataclass(frozen=True)
class Batch:
    """inputs: of the objective, this process's share, on its device. names: what they were made from, for people."""

    inputs: tuple[Any, ...]
    names: Sequence[str] = ()


Draw = Callable[[int, torch.Generator], Batch]


@dataclass(frozen=True)
class Run:
    """Where and how a stage trains.

    samples: size of the data set. resume: ``auto``, ``never`` or a path. identity: what a snapshot must agree on.
    picture: the objective -> name and picture (H,W) uint8, called now and then without gradients.
    """

    config: TrainConfig
    out: Path
    device: torch.device
    samples: int = 0
    resume: str = "auto"
    identity: dict[str, Any] = field(default_factory=dict)
    picture: Callable[[nn.Module], tuple[str, np.ndarray]] | None = None

    @property
    def steps(self) -> int:
        return self.config.total_steps(self.samples)


def train(objective: nn.Module, draw: Draw, run: Run) -> nn.Module:
    """Optimise the objective and return a copy of it with the moving average of its weights.

    Exits with 143 after saving when SIGTERM or SIGUSR1 arrived. Raises TrainingError when the loss is not finite.
    """
    require_divisible(run.config.batch_size)
    run.out.mkdir(parents=True, exist_ok=True)
    if rank() == 0:
        (run.out / "train.json").write_text(json.dumps({**asdict(run.config), "processes": world()}, indent=2))
    average = copy.deepcopy(objective).requires_grad_(False)
    with StopSignal() as stop:
        loop = _Loop(objective, draw, run, stop)
        try:
            loop.go()
        finally:
            loop.batches.close()
            loop.journal.close()
    return loop.state.ema.put_into(average)


class _Loop:
    """One run in progress."""

    def __init__(self, objective: nn.Module, draw: Draw, run: Run, stop: StopSignal) -> None:
        config = run.config
        self.draw, self.run, self.config, self.stop = draw, run, config, stop
        self.hardware = self._measure(objective)
        if config.compile:
            compile_blocks(objective)
        self.called = wrap(objective, config.parallel)
        self.parameters = [p for p in objective.parameters() if p.requires_grad]
        optimiser = adamw(_groups(objective, config.weight_decay), config.learning_rate, config.betas, run.device)
        self.state = RunState(
            objective, Ema(objective, config.ema), optimiser, run.identity, config.seed, config.batch_size
        )
        self.snapshots = Snapshots(run.out, config.keep_snapshots)
        self.saved = self._resume()
        self.batches = Ahead(self._batch, config.prefetch, run.steps)
        self.begin = time.monotonic() - self.state.seconds
        self.journal = Journal(run.out, self.state.step, writes=rank() == 0, hardware=self.hardware)

    def go(self) -> None:
        """All steps that are left."""
        state = self.state
        while (done := self._done()) < 1.0:
            loss, norm, rate = self._step(done)
            state.step += 1
            state.ema.update(state.objective, state.step)
            value, stopped, state.seconds = agree(loss, self.stop.asked, time.monotonic() - self.begin)
            self._tell(value, norm, rate)
            if stopped or state.step % self.config.save_every == 0:
                self._save()
            if stopped:
                print(f"saved at step {state.step}; the same command goes on from there", file=sys.stderr, flush=True)
                raise SystemExit(EXIT_CODE)
        self._save()

    def _step(self, done: float) -> tuple[Tensor, float, float]:
        """Forward, backward, update: (loss, gradient norm, learning rate)."""
        batch = self.batches(self.state.step)
        rate = self.config.learning_rate * _schedule(done, self.config.warmup)
        for group in self.state.optimiser.param_groups:
            group["lr"] = rate
        with autocast(self.run.device, self.config.precision):
            loss = self.called(*batch.inputs)
        if not torch.isfinite(loss):
            self._refuse(float(loss), batch)
        loss.backward()
        norm = whole(nn.utils.clip_grad_norm_(self.parameters, self.config.clip))
        self.state.optimiser.step()
        self.state.optimiser.zero_grad(set_to_none=True)
        return loss.detach(), float(norm), rate

    def _batch(self, step: int) -> Batch:
        """From one generator a step: a resumed run draws what the uninterrupted run would have drawn."""
        return self.draw(step, torch.Generator().manual_seed(self.config.seed * 1_000_003 + step))

    def _refuse(self, loss: float, batch: Batch) -> None:
        made_from = f" It was made from: {'; '.join(batch.names)}." if batch.names else ""
        raise TrainingError(
            "train.not_finite", f"The loss is {loss} at step {self.state.step}.{made_from}",
            "Look at these volumes, or lower the learning rate; the last snapshot is from before.",
        )

    def _done(self) -> float:
        """Share of the run that is done: steps or minutes, whichever is further. A run of no steps is done at once."""
        budget = self.state.seconds / (60 * self.config.minutes) if self.config.minutes else 0.0
        return max(self.state.step / self.run.steps if self.run.steps else 1.0, budget)

    def _tell(self, loss: float, norm: float, rate: float) -> None:
        step, seconds = self.state.step, self.state.seconds
        row = {
            "step": step, "loss": loss, "grad_norm": norm, "learning_rate": rate,
            "samples": step * self.config.batch_size, "seconds": seconds,
        }
        if (memory := memory_gb(self.run.device)) is not None:
            row["memory_gb"] = memory
        self.journal.record(row, self._done())
        every = self.config.picture_every
        if self.run.picture and every and step % every == 0 and rank() == 0 and not is_sharded(self.state.objective):
            with torch.no_grad():
                name, picture = self.run.picture(self.state.objective)
            self.journal.picture(name, step, picture)

    def _save(self) -> None:
        if self.state.step != self.saved:
            self.state.save(self.snapshots)
            self.saved = self.state.step

    def _resume(self) -> int:
        """The step of the snapshot that the run goes on from, -1 for none."""
        if self.run.resume == "never" and rank() == 0:
            self.snapshots.set_aside()
        snapshot = choose(self.run.out, self.run.resume)
        if snapshot is None:
            return -1
        self.state.load(snapshot)
        if rank() == 0:
            print(f"going on from {snapshot}", file=sys.stderr, flush=True)
        return self.state.step

    def _measure(self, objective: nn.Module) -> Hardware | None:
        """Model FLOPs of a step, before anything is wrapped; only where the GPU's peak is known."""
        if (peak := peak_flops(self.run.device)) is None:
            return None
        inputs = self._batch(0).inputs
        return Hardware(count_flops(objective, inputs, self.run.device, self.config.precision), peak)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only, as usual for transformers."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _schedule(done: float, warmup: float) -> float:
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
