"""The whole state of a run: weights, moving average, optimiser, random numbers, where the sampler stands.

One process, or many with a copy each: one ``state.pt``, read with ``weights_only``. Sharded: torch's distributed
checkpoint (DCP), of which each process writes its own part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .averaging import Ema
from .checkpointing import SnapshotError, Snapshots, read_state, write_state
from .parallel import barrier, is_sharded, rank


@dataclass
class RunState:
    """objective: not wrapped by DDP. step: done so far. seconds: spent so far. identity: stage and sizes, by name."""

    objective: nn.Module
    ema: Ema
    optimiser: torch.optim.Optimizer
    identity: dict[str, Any]
    seed: int
    batch_size: int
    step: int = 0
    seconds: float = 0.0

    def save(self, snapshots: Snapshots) -> None:
        """Write a snapshot; all processes must call it."""
        if not is_sharded(self.objective):
            if rank() == 0:
                snapshots.save(self.step, lambda folder: write_state(folder, self._plain()))
            barrier()
            return
        import torch.distributed.checkpoint as dcp

        partial = snapshots.folder / f".step-{self.step:08d}.partial"
        if rank() == 0:
            snapshots.begin(self.step)
        barrier()
        dcp.save(self._sharded(), checkpoint_id=partial)
        if rank() == 0:
            write_state(partial, self._small())
            snapshots.seal(partial, self.step)
        barrier()

    def load(self, snapshot: Path) -> None:
        """Go on from a whole snapshot. Raises SnapshotError when it is of another model."""
        state = read_state(snapshot)
        self._require_same(state["identity"], snapshot)
        if is_sharded(self.objective):
            self._load_sharded(snapshot)
        else:
            self.objective.load_state_dict(state["model"])
            self.ema.load(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
        _restore_random(state["random"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    def _small(self) -> dict[str, Any]:
        consumed = self.step * self.batch_size
        return {
            "step": self.step, "seconds": self.seconds, "identity": self.identity, "random": _random(),
            "sampler": {"seed": self.seed, "consumed": consumed},
        }

    def _plain(self) -> dict[str, Any]:
        return {
            **self._small(), "model": self.objective.state_dict(), "ema": self.ema.state(),
            "optimiser": self.optimiser.state_dict(),
        }

    def _sharded(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimiser = get_state_dict(self.objective, self.optimiser)
        return {"model": model, "optimiser": optimiser, "ema": self.ema.state()}

    def _load_sharded(self, snapshot: Path) -> None:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import set_state_dict

        state = self._sharded()
        dcp.load(state, checkpoint_id=snapshot)
        set_state_dict(
            self.objective, self.optimiser, model_state_dict=state["model"], optim_state_dict=state["optimiser"]
        )
        self.ema.load(state["ema"])

    def _require_same(self, identity: dict[str, Any], snapshot: Path) -> None:
        different = [k for k in {**self.identity, **identity} if self.identity.get(k) != identity.get(k)]
        if different:
            told = "; ".join(f"{k}: {identity.get(k)} there, {self.identity.get(k)} here" for k in different)
            raise SnapshotError(
                "snapshot.other_run", f"{snapshot} is of another run ({told}).",
                "Give another --out, or start afresh with --resume never.",
            )


def _random() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
