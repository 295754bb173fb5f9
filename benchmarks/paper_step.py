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
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from braing3n_core.atlas import MODEL_SHAPE
from braing3n_core.generation.flow import BridgePath
from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.models.dit import DiT, DiTConfig
from braing3n_core.models.layers import NUM_TOKENS
from braing3n_core.models.mae import MAEConfig, random_keep
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig
from training.acceleration import adamw, autocast, count_flops, peak_flops
from training.averaging import Ema
from training.pretrain_mae import MAETraining, Pretraining
from training.stage import Settings
from training.train_dit import FlowMatching
from training.train_forecaster import BridgeMatching, ForecasterTraining
from training.train_tokenizer import Reconstruction

CONFIG = Path(__file__).resolve().parents[1] / "training" / "configs" / "paper.toml"
STAGES = ("mae", "tokenizer", "dit", "forecaster")
CORPUS = {"mae": 35_309, "tokenizer": 35_309, "dit": 35_309}
"""Volumes of the paper; the number of pairs that its forecaster was trained on is not given."""
_TIMED = 5


def objective_of(stage: str, settings: Settings, batch: int) -> tuple[nn.Module, tuple[Any, ...]]:
    """The stage's objective at the sizes of the file, and inputs of the right shapes."""
    volume, tokens = torch.randn(batch, 1, *MODEL_SHAPE), torch.randn(batch, NUM_TOKENS, 32)
    if stage == "mae":
        config = settings.model("mae", MAEConfig)
        return Pretraining(config, settings.extra(MAETraining)), (volume, random_keep(batch, config.mask_ratio))
    if stage == "tokenizer":
        sizes = settings.model("tokenizer", TokenizerConfig)
        return Reconstruction(Tokenizer(sizes)), (torch.randn(batch, NUM_TOKENS, sizes.encoder_width), volume, True)
    network = DiT(settings.model(stage, DiTConfig))
    rows = ConditionBatch.from_rows(network.spec, [{}] * batch)
    if stage == "dit":
        return FlowMatching(network), (torch.randn_like(tokens), tokens, torch.rand(batch), rows)
    extra = settings.extra(ForecasterTraining)
    bridge = BridgeMatching(network, BridgePath(extra.bridge_sigma, extra.bridge_envelope))
    return bridge, (tokens, torch.randn_like(tokens), torch.rand(batch), torch.randn_like(tokens), rows)


def measure(stage: str, options: argparse.Namespace) -> dict[str, Any]:
    """Step this process through ``stage`` and say what it took."""
    choices = SimpleNamespace(
        config=options.config, out=Path("."), resume="never", set=[], device=options.device, minutes=None
    )
    settings = Settings(stage, choices)  # type: ignore[arg-type]
    device, train = settings.device, settings.train
    torch.manual_seed(0)
    objective, inputs = objective_of(stage, settings, options.batch)
    objective = objective.to(device)
    inputs = tuple(x.to(device) if hasattr(x, "to") else x for x in inputs)
    flops = count_flops(objective, inputs, device, train.precision)
    optimiser, ema = adamw([{"params": objective.parameters()}], 1e-4, train.betas, device), Ema(objective, train.ema)
    timed = _TIMED if device.type == "cuda" else 0
    for k in range(1 + timed):
        if k <= 1:
            begin = time.perf_counter()
        with autocast(device, train.precision):
            loss = objective(*inputs)
        loss.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), train.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        ema.update(objective, k + 1)
        value = float(loss.detach())  # waits for the device
    seconds = (time.perf_counter() - begin) / max(timed, 1)
    row = {
        "stage": stage, "batch": options.batch, "seconds": seconds, "loss": value, "tera_flops": flops / 1e12,
        "parameters_millions": sum(p.numel() for p in objective.parameters()) / 1e6,
    }
    return row | _of_the_device(stage, device, flops / seconds, seconds / options.batch, train.epochs)


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
    parser.add_argument("--config", type=Path, default=CONFIG)
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
