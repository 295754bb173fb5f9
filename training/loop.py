"""One plain training loop for every stage: AdamW, cosine schedule, clipping, EMA, bfloat16, resume.

It runs on a CPU or one GPU. A stage gives a model and a ``loss(step, generator)``; the loop does the rest.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to learn. minutes: a wall-clock budget that ends the schedule early (0: none)."""

    steps: int = 1000
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


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` is the GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The stage's precision as a context."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


class Ema:
    """Exponential moving average of the weights; early on it forgets faster, so short runs average too."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, current in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - decay)
        for average, current in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(current)


def train(
    model: nn.Module, loss: Callable[[int, torch.Generator], Tensor], config: TrainConfig, out: str | Path,
    device: torch.device,
) -> nn.Module:
    """Optimise ``model`` in place and return its moving average. Resumes from ``out/state.pt`` if it is there."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        _groups(model, config.weight_decay), lr=config.learning_rate, betas=config.betas, foreach=True
    )
    ema = Ema(model, config.ema)
    step, spent = _resume(out, model, ema, optimiser, config)
    begin = time.monotonic() - spent
    while (done := _fraction(step, time.monotonic() - begin, config)) < 1.0:
        # One generator a step: a resumed run draws what the uninterrupted run would have drawn.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(done, config.warmup)
        with autocast(device, config.precision):
            value = loss(step, generator)
        if not torch.isfinite(value):
            raise FloatingPointError(f"The loss is {float(value)} at step {step}; lower the learning rate.")
        value.backward()
        norm = nn.utils.clip_grad_norm_(parameters, config.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        ema.update(model, step)
        elapsed = time.monotonic() - begin
        _log(out, step, float(value.detach()), float(norm), elapsed, _fraction(step, elapsed, config))
        if step % config.save_every == 0:
            _save(out, model, ema, optimiser, step, elapsed)
    _save(out, model, ema, optimiser, step, time.monotonic() - begin)
    return ema.model


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on matrices only, as usual for transformers."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _fraction(step: int, elapsed: float, config: TrainConfig) -> float:
    """Share of the run that is done: steps or minutes, whichever is further."""
    budget = elapsed / (60 * config.minutes) if config.minutes else 0.0
    return max(step / config.steps, budget)


def _schedule(done: float, warmup: float) -> float:
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _log(out: Path, step: int, loss: float, norm: float, elapsed: float, done: float) -> None:
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "loss": loss, "grad_norm": norm, "seconds": elapsed}) + "\n")
    if step % 20 == 0 or done >= 1:
        left = elapsed * (1 - done) / max(done, 1e-9)
        line = f"[{100 * min(done, 1):3.0f}%] step {step}  loss {loss:.4f}  {elapsed:.0f} s, {left:.0f} s left"
        print(line, file=sys.stderr, flush=True)


def _save(
    out: Path, model: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer, step: int, elapsed: float
) -> None:
    state = {
        "model": model.state_dict(), "ema": ema.model.state_dict(), "optimiser": optimiser.state_dict(),
        "step": step, "seconds": elapsed,
    }
    partial = out / "state.pt.partial"
    torch.save(state, partial)
    partial.replace(out / "state.pt")


def _resume(
    out: Path, model: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer, config: TrainConfig
) -> tuple[int, float]:
    (out / "train.json").write_text(json.dumps(asdict(config), indent=2))
    if not (out / "state.pt").is_file():
        return 0, 0.0
    state = torch.load(out / "state.pt", weights_only=True)
    model.load_state_dict(state["model"])
    ema.model.load_state_dict(state["ema"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"]), float(state["seconds"])
