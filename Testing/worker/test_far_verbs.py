"""Every verb of the command line on a worker with TLS, as a user types it: the same files as near, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from braing3n_core.cli import main
from braing3n_core.cli_worker import FINGERPRINT_VARIABLE
from braing3n_core.preprocess.template import load_template
from braing3n_core.protocol import TOKEN_VARIABLE

from ..core.tiny_checkpoint import make_tiny_checkpoint
from .conftest import REPOSITORY, RunningWorker, secure_worker
from .test_contract import content

VERBS: dict[str, tuple[str, ...]] = {
    "preprocess": (), "examine": (), "encode": (), "probe": (), "reconstruct": (),
    "counterfactual": ("--set", "disease=AD", "--steps", "2"),
    "forecast": ("--years", "1", "2", "--samples", "2", "--steps", "2"),
    "generate": ("--set", "disease=AD", "--count", "2", "--steps", "2"),
}  # fmt: skip
QUICK = ("examine", "encode", "probe", "counterfactual", "generate")
"""The others take their time in writing and packing large images."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def far(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    """A worker with TLS and the engine."""
    arguments = ("--checkpoint", str(checkpoint), "--device", "cpu")
    running = secure_worker(tmp_path_factory.mktemp("spool"), *arguments, rehearsal=False).start().wait_ready()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stripped T1 on the atlas grid, which nobody has to register."""
    return load_template().volume.save(tmp_path_factory.mktemp("scan") / "Anna_Ärztin_T1w.nii.gz")


def words(verb: str, scan: Path, out: Path) -> list[str]:
    source = [] if verb == "generate" else [str(scan), "--stage", "registered"]
    return [verb, *source, *VERBS[verb], "-o", str(out), "--json"]


def type_far(worker: RunningWorker, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """What a user types on another machine, with token and fingerprint in the environment."""
    known = {TOKEN_VARIABLE: worker.tokens["alice"], FINGERPRINT_VARIABLE: str(worker.fingerprint)}
    environment = os.environ | known | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "braing3n_core", "--worker", worker.url, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def files(folder: Path) -> dict[str, str]:
    return {path.name: content(path) for path in folder.iterdir()}


def said(text: str, folder: Path) -> dict[str, Any]:
    """The result on standard output, without its folder and times."""
    result = json.loads(text.replace(str(folder), "."))
    result.pop("provenance")  # compared as a file
    return dict(result)


@pytest.mark.parametrize("verb", [v if v in QUICK else pytest.param(v, marks=pytest.mark.slow) for v in VERBS])
def test_a_verb_far_away_is_the_verb_here(
    far: RunningWorker, checkpoint: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*words(verb, scan, here), "--checkpoint", str(checkpoint), "--device", "cpu"]) == 0
    near = capsys.readouterr().out
    run = type_far(far, words(verb, scan, there))
    assert run.returncode == 0, run.stderr
    assert files(there) == files(here) != {}
    assert said(run.stdout, there) == said(near, here)
    assert not list((far.spool / "jobs").iterdir()), "the worker keeps nothing of what was fetched"
    assert not list((far.spool / "uploads").rglob("*.part"))


@pytest.mark.slow
def test_the_demo_runs_far_away(far: RunningWorker, scan: Path, tmp_path: Path) -> None:
    run = type_far(far, ["demo", str(scan), "--stage", "registered", "-o", str(tmp_path / "demo")])
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "not for clinical use" in page.lower()
    assert (far.spool / "log.txt").read_text().count("Ärztin") == 0


def test_a_wrong_fingerprint_ends_a_verb_with_its_reason(far: RunningWorker, tmp_path: Path) -> None:
    run = type_far(far, ["--worker-fingerprint", "0" * 64, "generate", "-o", str(tmp_path / "out")])
    assert run.returncode == 1
    assert "worker.certificate" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()
