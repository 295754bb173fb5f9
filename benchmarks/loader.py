"""Volumes a second that a store gives, beside those that the model takes: the data must never starve the model.

    python -m benchmarks.loader --store STORE... [--stage mae|tokenizer] [--config FILE] [--batch 8] [--device auto]

The store's volumes are read, brought to the device and z-scored there as the training does it, in a random order: once
(from the disk, unless the system has them in memory), then again. The model steps on one batch that it has already:
forward, backward, AdamW. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from training.store import Store

from .training_step import PAPER, TrainingStep

STAGES = ("mae", "tokenizer")


def rate(work: Callable[[int], int], rounds: int, device: torch.device) -> float:
    """Volumes a second over so many rounds of work, each of which says how many it did."""
    begin, volumes = time.perf_counter(), sum(work(k) for k in range(rounds))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return volumes / (time.perf_counter() - begin)


def reading(store: Store, batch: int, device: torch.device, seed: int) -> tuple[Callable[[int], int], int]:
    """The reading of batch k of one random pass over the store, and how many batches there are."""
    order = torch.randperm(len(store), generator=torch.Generator().manual_seed(seed)).split(batch)

    def read(k: int) -> int:
        return len(store.zscored(order[k].tolist(), device))

    return read, len(order)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Volumes a second: first pass over the store, second pass, the model; and the second over the model."""
    model = TrainingStep(options.stage, options.config, options.batch, options.device)

    def step(_: int) -> int:
        model()
        return options.batch

    store, device = Store.open(*options.store), model.device
    passes = [rate(*reading(store, options.batch, device, seed), device) for seed in (1, 2)]
    step(0)  # what is built once does not count
    needed = rate(step, options.steps, device)
    return {"first pass": passes[0], "second pass": passes[1], "model": needed, "store / model": passes[1] / needed}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, nargs="+", required=True)
    parser.add_argument("--stage", choices=STAGES, default="mae")
    parser.add_argument("--config", type=Path, default=PAPER)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="of the model")
    parser.add_argument("--device", default="auto")
    for name, value in measure(parser.parse_args()).items():
        print(f"{name:14} {value:10.3g}{'' if '/' in name else ' volumes a second'}")


if __name__ == "__main__":
    main()
