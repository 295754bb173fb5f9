"""One step of each of the four trainings at the paper's size on this machine: seconds, operations, largest memory.

    python -m benchmarks.paper_step [mae|tokenizer|dit|forecaster ...] [--batch 1] [--config FILE] [--device cpu]

Each runs in a process of its own, one after another: forward, backward, clipping, AdamW and moving average on random
volumes. On a GPU five more steps are timed, and model-FLOP utilisation and H100-hours to the paper's epochs follow.
Several minutes and up to about 24 GB of memory on a CPU: run it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from training.acceleration import count_flops, peak_flops
from training.averaging import Ema

from .training_step import PAPER, STAGES, TrainingStep

CORPUS = {"mae": 35_309, "tokenizer": 35_309, "dit": 35_309}
"""Volumes of the paper; the number of pairs that its forecaster was trained on is not given."""
_TIMED = 5


def measure(stage: str, options: argparse.Namespace) -> dict[str, Any]:
    """Step this process through ``stage`` and say what it took."""
    torch.manual_seed(0)
    step = TrainingStep(stage, options.config, options.batch, options.device)
    flops = count_flops(step.objective, step.inputs, step.device, step.train.precision)
    ema = Ema(step.objective, step.train.ema)
    timed = _TIMED if step.device.type == "cuda" else 0
    for k in range(1 + timed):
        if k <= 1:
            begin = time.perf_counter()
        loss = step()
        ema.update(step.objective, k + 1)
        value = float(loss)  # waits for the device
    seconds = (time.perf_counter() - begin) / max(timed, 1)
    row = {
        "stage": stage, "batch": options.batch, "seconds": seconds, "loss": value, "tera_flops": flops / 1e12,
        "parameters_millions": sum(p.numel() for p in step.objective.parameters()) / 1e6,
    }
    return row | _of_the_device(stage, step.device, flops / seconds, seconds / options.batch, step.train.epochs)


def _of_the_device(stage: str, device: torch.device, rate: float, per_sample: float, epochs: float) -> dict[str, Any]:
    if device.type != "cuda":
        return {}
    found: dict[str, Any] = {"gpu_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    if peak := peak_flops(device):
        found["mfu"] = rate / peak
    if stage in CORPUS:
        found["gpu_hours_of_the_paper"] = per_sample * CORPUS[stage] * epochs / 3600
    return found


def in_a_process(stage: str, options: argparse.Namespace) -> dict[str, Any]:
    """The measurement with the largest resident memory of its process."""
    line = [sys.executable, "-m", "benchmarks.paper_step", stage, "--here", "--batch", str(options.batch)]
    line += ["--config", str(options.config), "--device", options.device]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as child:
        answer = child.stdout.read() if child.stdout else ""
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, line)
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes there, kilobytes elsewhere
    return {**json.loads(answer), "peak_gb": usage.ru_maxrss / unit}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=list(STAGES), metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--config", type=Path, default=PAPER)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for stage in options.stages:
        if options.here:
            print(json.dumps(measure(stage, options)))
            continue
        row = in_a_process(stage, options)
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
