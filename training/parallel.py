"""One process or many: torch's own process groups, DDP and FSDP2, and the share of a batch that is this process's.

Started by ``torchrun`` a stage is one of many processes (NCCL on GPUs, gloo on CPUs); started by ``python -m`` it is
alone. Every process draws the same whole batch from the step's generator and keeps its own rows, so that the loss does
not depend on how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from braing3n_core.errors import ConfigError
from braing3n_core.models.layers import AdaLNBlock, Block, ResBlock

BLOCKS = (Block, AdaLNBlock, ResBlock)
"""What is compiled and sharded as one piece."""
_PATIENCE = timedelta(hours=12)  # the first process may encode a whole cohort while the others wait


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` is the GPU where there is one: that of this process's local rank under torchrun."""
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if kind == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(kind)


def join(device: torch.device) -> None:
    """Join the other processes of this run, if torchrun started it."""
    if "RANK" not in os.environ or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)


def leave() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, 0 for the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share() -> slice:
    """This process's rows of a batch that all have drawn."""
    return slice(rank(), None, world())


def require_divisible(batch_size: int) -> None:
    """Raises ConfigError unless each process gets as many rows as the others, which the mean of means needs."""
    if batch_size % world():
        raise ConfigError(
            "train.batch_size", f"A batch of {batch_size} cannot be shared evenly by {world()} processes.",
            f"Set batch_size to a multiple of {world()}, or start fewer processes.",
        )


def barrier() -> None:
    """Wait for the others."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process runs the block while the others wait, then they run it: for caches on a shared disk."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


def agree(loss: Tensor, stop: bool, elapsed: float) -> tuple[float, bool, float]:
    """What all processes go on with: the mean loss, whether any was asked to stop, the first one's clock."""
    if world() == 1:
        return float(loss), stop, elapsed
    row = torch.tensor([float(loss), float(stop), elapsed if rank() == 0 else 0.0], dtype=torch.float64)
    row = row.to(loss.device)
    dist.all_reduce(row)
    return float(row[0]) / world(), bool(row[1] > 0), float(row[2])


def wrap(objective: nn.Module, parallel: str) -> nn.Module:
    """The module that is called in training. parallel: ``ddp`` (a copy each) or ``fsdp`` (shards, in place)."""
    if not dist.is_initialized():
        return objective
    if parallel == "ddp":
        # Readings of weight 0 and a frozen projection have no gradient: DDP must look for them.
        return nn.parallel.DistributedDataParallel(objective, find_unused_parameters=True)
    from torch.distributed.fsdp import fully_shard

    for module in objective.modules():
        if isinstance(module, BLOCKS):
            fully_shard(module)
    return fully_shard(objective)


def is_sharded(objective: nn.Module) -> bool:
    """Whether the parameters are spread over the processes."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(p, DTensor) for p in objective.parameters())


def whole(tensor: Any) -> Tensor:
    """A tensor that may be spread over processes, gathered; all must call it."""
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered
