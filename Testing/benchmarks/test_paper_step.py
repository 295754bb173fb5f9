"""The benchmark of one training step takes each stage through a step and says what it took."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.training_step import STAGES, TrainingStep

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "training" / "configs" / "tiny.toml"


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_of_each_stage_changes_its_weights(stage: str) -> None:
    torch.manual_seed(0)
    step = TrainingStep(stage, TINY, batch=1, device="cpu")
    before = [p.detach().clone() for p in step.objective.parameters() if p.requires_grad]
    assert torch.isfinite(step())
    after = [p.detach() for p in step.objective.parameters() if p.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert all(p.grad is None for p in step.objective.parameters())


def test_each_stage_is_measured_in_a_process_whose_memory_is_told() -> None:
    command = [sys.executable, "-m", "benchmarks.paper_step", "mae", "--config", str(TINY), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    found = dict(zip(words[::2], words[1::2], strict=True))
    assert found["stage"] == "mae" and float(found["peak_gb"]) > 0.1 and float(found["tera_flops"]) > 0
