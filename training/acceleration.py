"""Speed that changes nothing else: bfloat16, fused AdamW, compilation by block; and what the speed is of."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .parallel import BLOCKS

PEAK_BFLOAT16: dict[str, float] = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12}
"""Dense bfloat16 operations a second by the name of the GPU, from the makers' data sheets; the first match counts."""


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The stage's precision as a context."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def adamw(groups: list[dict[str, Any]], rate: float, betas: tuple[float, float], device: torch.device) -> Any:
    """AdamW, fused on a GPU."""
    kind = {"fused": True} if device.type == "cuda" else {"foreach": True}
    return torch.optim.AdamW(groups, lr=rate, betas=betas, **kind)  # type: ignore[arg-type]


def compile_blocks(objective: nn.Module) -> None:
    """Compile each block in place: equal blocks share one compilation, and names of weights stay as they are."""
    for module in objective.modules():
        if isinstance(module, BLOCKS):
            module.compile()


def count_flops(objective: nn.Module, inputs: tuple[Any, ...], device: torch.device, precision: str) -> float:
    """Operations of one forward and backward pass, counted by torch; gradients are left empty."""
    counter = FlopCounterMode(display=False)
    with counter, autocast(device, precision):
        objective(*inputs).backward()
    objective.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def peak_flops(device: torch.device) -> float | None:
    """What the GPU can do at most, or None where that is not known (any CPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for word, peak in PEAK_BFLOAT16.items() if word in name), None)


def memory_gb(device: torch.device) -> float | None:
    """Largest memory of tensors on the GPU so far, 10^9 bytes."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
