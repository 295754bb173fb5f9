"""Many processes compute what one does: torchrun with gloo on the CPU, copies (DDP) and shards (FSDP2)."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from training.checkpointing import Snapshots, damage_of
from training.store import write_store

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = """
[mae.model]
decoder_width = 24
decoder_depth = 1
decoder_num_heads = 2

[mae.model.encoder]
width = 24
depth = 1
num_heads = 2

[mae.train]
steps = {steps}
batch_size = 4
learning_rate = 1e-3
precision = "float32"
save_every = {save_every}
parallel = "{parallel}"
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five volumes of smooth noise in a ball."""
    folder = tmp_path_factory.mktemp("store")
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (160, 192, 160)), indexing="ij")
    ball = (x**2 + y**2 + z**2) < 0.7
    made = [
        (ball * (2 + np.sin((3 + i) * x) + np.cos((4 - i) * y * z)), {"subject": f"s{i}", "visit": 0, "modality": "T1"})
        for i in range(5)
    ]  # fmt: skip
    write_store(folder, iter(made), len(made))
    return folder


def command(store: Path, out: Path, processes: int, *, steps: int = 3, save_every: int = 2, parallel: str = "ddp",
            ) -> list[str]:  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    config = out.with_suffix(".toml")
    config.write_text(CONFIG.format(steps=steps, save_every=save_every, parallel=parallel))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    stage = ["-m", "training.pretrain_mae", str(config), "--store", str(store), "--out", str(out), "--device", "cpu"]
    return [sys.executable, *(launcher if processes > 1 else []), *stage]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}


def run(store: Path, out: Path, processes: int, **settings: object) -> list[float]:
    """The losses of a run of the real stage."""
    line = command(store, out, processes, **settings)  # type: ignore[arg-type]
    done = subprocess.run(line, capture_output=True, text=True, cwd=REPOSITORY, env=environment(), timeout=3600)
    assert done.returncode == 0, done.stderr
    return losses(out)


def losses(out: Path) -> list[float]:
    with (out / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def alone(store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return run(store, tmp_path_factory.mktemp("alone") / "run", 1)


def test_two_processes_have_the_loss_of_one(store: Path, alone: list[float], tmp_path: Path) -> None:
    together = run(store, tmp_path / "run", 2)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    assert abs(alone[0] - alone[-1]) > 1e-3, "nothing was learnt, so nothing was compared"


@pytest.mark.slow
def test_shards_have_the_loss_of_one_process_and_go_on_from_their_own_snapshot(
    store: Path, alone: list[float], tmp_path: Path
) -> None:
    first = run(store, tmp_path / "run", 2, parallel="fsdp", steps=3, save_every=2)
    np.testing.assert_allclose(first, alone, rtol=0, atol=1e-5)
    snapshots = Snapshots(tmp_path / "run")
    assert all(damage_of(p) is None for p in snapshots.names())
    newest = snapshots.names()[-1]
    (newest / "__0_0.distcp").write_bytes(b"")  # so that steps 2 to 3 are done again from the shards of step 2
    assert damage_of(newest) is not None
    np.testing.assert_allclose(run(store, tmp_path / "run", 2, parallel="fsdp"), alone, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_one_snapshot_of_all_processes(
    store: Path, alone: list[float], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    line = command(store, out, 2, steps=10_000, save_every=5_000)
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
    from braing3n_core.errors import ConfigError
    from training import parallel

    monkeypatch.setattr(parallel, "world", lambda: 3)
    with pytest.raises(ConfigError, match="batch of 8 cannot be shared evenly by 3"):
        parallel.require_divisible(8)
