"""Kills a process again and again while it writes snapshots: ``python -m Testing.training.kill_storm RUN KILLS SEED``.

Prints one JSON line a kill: the step that the writer had told to be safe, the newest step found, and whether its
tensors are those of that step.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import torch

from training.checkpointing import Snapshots, read_state, write_state


def state_of(step: int) -> dict[str, object]:
    """A state of about a megabyte in which every number tells the step."""
    return {"step": step, "model": {str(i): torch.full((64, 1024), float(step + i)) for i in range(4)}}


def write_for_ever(run: Path, tell: int) -> None:
    """Save step after step; a step is told only after it was saved."""
    snapshots = Snapshots(run)
    newest = snapshots.newest()
    step = read_state(newest)["step"] if newest else 0
    while True:
        step += 1
        snapshots.save(step, lambda folder, step=step: write_state(folder, state_of(step)))
        os.write(tell, struct.pack("q", step))


def storm(run: Path, chance: random.Random) -> dict[str, object]:
    """One writer, one kill."""
    heard, tell = os.pipe()
    child = os.fork()
    if child == 0:
        write_for_ever(run, tell)
    os.close(tell)
    told = [os.read(heard, 8)]  # at least one save, so that every kill falls into the middle of work
    time.sleep(chance.uniform(0, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while word := os.read(heard, 8):
        told.append(word)
    os.close(heard)
    newest = Snapshots(run).newest()
    found = read_state(newest) if newest else {"step": -1, "model": {}}
    expected = state_of(found["step"])["model"]
    whole = all(torch.equal(found["model"][k], v) for k, v in expected.items())  # type: ignore[attr-defined]
    partial = any(p.name.endswith(".partial") for p in (run / "snapshots").iterdir())
    return {"told": struct.unpack("q", told[-1])[0], "found": found["step"], "whole": whole, "during": partial}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dice = random.Random(seed)
    for _ in range(kills):
        sys.stdout.write(json.dumps(storm(folder, dice)) + "\n")
