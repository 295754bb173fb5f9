"""The Slurm job of the paper, with stand-ins for Slurm's own commands: when it puts itself into the queue again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

JOB = Path(__file__).resolve().parents[2] / "training" / "runs" / "paper.sbatch"
STOPPED = "saved at step 40; the same command goes on from there"


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with an srun that says $SAY and exits with $STATUS, and an scontrol that notes what it is asked."""
    for name, body in (("srun", 'echo "$SAY"; exit "$STATUS"'), ("scontrol", f'echo "$@" >> {tmp_path}/asked')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(cluster: Path, said: str, status: int) -> int:
    """One start of job 7, its output appended to the log as Slurm does it; how often it was requeued so far."""
    names = {"SLURM_SUBMIT_DIR": str(cluster), "SLURM_JOB_NAME": "braing3n-paper", "SLURM_JOB_ID": "7"}
    environment = {**os.environ, **names, "PATH": f"{cluster}:{os.environ['PATH']}", "SAY": said, "STATUS": str(status)}
    with (cluster / "braing3n-paper-7.log").open("a") as log:
        done = subprocess.run(["bash", str(JOB), "store", "visits", "work"], env=environment, stdout=log, check=False)
    assert done.returncode == status
    asked = cluster / "asked"
    return asked.read_text().count("requeue 7\n") if asked.is_file() else 0


def test_a_job_that_was_stopped_queues_again_and_one_that_failed_or_finished_does_not(cluster: Path) -> None:
    assert start(cluster, STOPPED, 1) == 1
    assert start(cluster, STOPPED, 1) == 2
    assert start(cluster, "the loss is nan", 1) == 2  # though the log still holds the words of the first two
    assert start(cluster, "all done", 0) == 2
