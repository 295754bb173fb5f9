"""Many processes compute what one does: torchrun with gloo on the CPU, copies (DDP) and shards (FSDP2)."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from braing3n_core.checkpoint import CheckpointSpec, save_checkpoint
from braing3n_core.errors import ConfigError
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig
from training import parallel
from training.checkpointing import Snapshots, damage_of

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = """
[dit.model]
width = 24
depth = 2
num_heads = 2

[dit.train]
steps = {steps}
batch_size = 4
learning_rate = 1e-2
precision = "float32"
save_every = {save_every}
picture_every = 0
parallel = "{parallel}"
"""
TOKENIZER = TokenizerConfig(encoder_width=24, widths=(8, 8, 8), blocks=(1, 1, 1), last_factor=4, num_heads=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with random weights and a set of latents: all that the generator's training needs."""
    folder = tmp_path_factory.mktemp("data")
    torch.manual_seed(0)
    card = "Random weights for tests, not for clinical use"
    spec = CheckpointSpec("tokenizer", asdict(TOKENIZER), Tokenizer(TOKENIZER).state_dict(), card)
    save_checkpoint(folder / "tokenizer", spec)
    rows = [{"subject": f"s{i}", "visit": 0, "modality": ("T1", "T2")[i % 2], "age_years": 40.0 + i} for i in range(6)]
    latents = folder / "latents"
    latents.mkdir()
    (latents / "records.json").write_text(json.dumps(rows))
    np.save(latents / "latents.npy", np.random.default_rng(0).normal(size=(6, 1200, 32)).astype(np.float16))
    return folder


def command(data: Path, out: Path, processes: int, *, steps: int = 3, save_every: int = 2, parallel: str = "ddp",
            ) -> list[str]:  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    config = out.with_suffix(".toml")
    config.write_text(CONFIG.format(steps=steps, save_every=save_every, parallel=parallel))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    stage = ["-m", "training.train_dit", str(config), "--device", "cpu", "--out", str(out)]
    given = ["--tokenizer", str(data / "tokenizer"), "--latents", str(data / "latents")]
    return [sys.executable, *(launcher if processes > 1 else []), *stage, *given]


def environment() -> dict[str, str]:
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(REPOSITORY), before])}


def run(data: Path, out: Path, processes: int, **settings: object) -> list[float]:
    """The losses of a run of the real stage."""
    line = command(data, out, processes, **settings)  # type: ignore[arg-type]
    done = subprocess.run(line, capture_output=True, text=True, cwd=REPOSITORY, env=environment(), timeout=3600)
    assert done.returncode == 0, done.stderr
    return losses(out)


def losses(out: Path) -> list[float]:
    with (out / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return run(data, tmp_path_factory.mktemp("alone") / "run", 1)


def test_two_processes_have_the_loss_of_one(data: Path, alone: list[float], tmp_path: Path) -> None:
    together = run(data, tmp_path / "run", 2)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    assert abs(alone[0] - alone[-1]) > 1e-3, "nothing was learnt, so nothing was compared"


@pytest.mark.slow
def test_shards_have_the_loss_of_one_process_and_go_on_from_their_own_snapshot(
    data: Path, alone: list[float], tmp_path: Path
) -> None:
    first = run(data, tmp_path / "run", 2, parallel="fsdp", steps=3, save_every=2)
    np.testing.assert_allclose(first, alone, rtol=0, atol=1e-5)
    snapshots = Snapshots(tmp_path / "run")
    assert all(damage_of(p) is None for p in snapshots.names())
    newest = snapshots.names()[-1]
    (newest / "__0_0.distcp").write_bytes(b"")  # so that steps 2 to 3 are done again from the shards of step 2
    assert damage_of(newest) is not None
    np.testing.assert_allclose(run(data, tmp_path / "run", 2, parallel="fsdp"), alone, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_one_snapshot_of_all_processes(
    data: Path, alone: list[float], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    line = command(data, out, 2, steps=10_000, save_every=5_000)
    with subprocess.Popen(line, cwd=REPOSITORY, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 600
        while not ((out / "log.csv").is_file() and len(losses(out)) >= 2):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=600)
    (newest,) = Snapshots(out).names()
    assert damage_of(newest) is None


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "world", lambda: 3)
    with pytest.raises(ConfigError, match="batch of 8 cannot be shared evenly by 3"):
        parallel.require_divisible(8)
