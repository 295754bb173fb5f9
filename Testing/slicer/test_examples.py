"""The headless examples, run as a user runs them, in a plain Python with slicer-core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="pip install slicer-core")

EXAMPLES = Path(__file__).resolve().parents[2] / "BrainG3NSlicer" / "Examples"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))


def test_a_folder_of_scans_becomes_forecasts_and_tables(python, tinyCheckpoint, templateFile: Path, tmp_path: Path):
    done = run("forecasts.py", templateFile.parent, tmp_path, "--years", "2", "--samples", 2, "--python", python,
               "--checkpoint", tinyCheckpoint, "--stage", "registered")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = sorted(p.name for p in tmp_path.rglob("*.*"))
    assert any(n.endswith("_forecast.nii.gz") for n in written), written
    assert any(n.endswith("_trajectory-age.tsv") for n in written)
    assert "100%" in done.stdout


def test_a_scan_that_cannot_be_read_is_a_sentence_and_an_exit_code(python: str, tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    done = run("forecasts.py", tmp_path, tmp_path / "out", "--python", python)
    assert done.returncode == 1
    assert "error:" in done.stderr and "Traceback" not in done.stderr
