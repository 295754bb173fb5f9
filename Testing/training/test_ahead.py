"""Batches made ahead are the batches that would have been made in time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from training.ahead import Ahead
from training.loop import Batch, Run, TrainConfig, train


def test_the_next_batches_are_made_while_nobody_asks_for_them() -> None:
    made, ready = [], {k: threading.Event() for k in range(5)}

    def make(step: int) -> int:
        made.append((step, threading.current_thread().name))
        ready[step].set()
        return 10 * step

    batches = Ahead(make, 2, 5)
    assert batches(0) == 0
    assert ready[2].wait(60) and not ready[3].is_set()
    assert [batches(k) for k in (1, 2, 3, 4)] == [10, 20, 30, 40]
    batches.close()
    assert [step for step, _ in made] == [0, 1, 2, 3, 4], "each once, and none beyond the end"
    assert all(name.startswith("ahead") for _, name in made)


def test_without_any_ahead_batches_are_made_in_time_and_in_place() -> None:
    asked: list[tuple[int, str]] = []
    batches = Ahead(lambda step: asked.append((step, threading.current_thread().name)), 0, 3)
    batches(0)
    assert asked == [(0, threading.current_thread().name)]
    batches.close()


def test_an_error_is_raised_at_its_own_step() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise OSError("unreadable")
        return step

    batches = Ahead(make, 3, 9)
    assert [batches(0), batches(1)] == [0, 1]
    with pytest.raises(OSError, match="unreadable"):
        batches(2)
    batches.close()


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.net(x)[:, 0] - x.sum(1)).square().mean()


def test_a_run_that_reads_ahead_ends_bit_for_bit_where_another_does_broken_off_or_not(tmp_path: Path) -> None:
    def run(name: str, prefetch: int, breaks_at: int = -1) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        config = TrainConfig(steps=12, batch_size=4, save_every=4, picture_every=0, prefetch=prefetch)

        def draw(step: int, generator: torch.Generator) -> Batch:
            if step == breaks_at:
                raise InterruptedError
            return Batch((torch.randn(4, 3, generator=generator),))

        return train(_Line(), draw, Run(config, tmp_path / name, torch.device("cpu"))).state_dict()

    plain, ahead = run("plain", 0), run("ahead", 3)
    with pytest.raises(InterruptedError):
        run("broken", 3, breaks_at=9)
    resumed = run("broken", 3)
    assert all(torch.equal(plain[k], ahead[k]) and torch.equal(plain[k], resumed[k]) for k in plain)
