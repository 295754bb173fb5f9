"""The rows of the comparison run, in children that cannot take the machine's memory with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import Row, default_total, together, totals

ROOT = Path(__file__).resolve().parents[2]


def peers(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.peers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_a_total_is_steps_times_a_step_and_a_decode_and_needs_both() -> None:
    rows = [Row("UKB LDM: step", seconds=2.0), Row("UKB LDM: decode", seconds=30.0), Row("ours: step", seconds=1.0)]
    assert totals(rows) == [("UK Biobank LDM, 50 steps of DDIM", 130.0)]


def test_a_brain_by_default_is_12_evaluations_of_which_6_are_guided() -> None:
    name, paid = default_total()
    assert name == "BrainG3N, its default: 12 evaluations, guided"
    assert paid == {"ours: step": 6, "ours: guided step": 6, "ours: decode": 1}
    rows = [Row(row, seconds=seconds) for row, seconds in zip(paid, (1.0, 10.0, 100.0), strict=True)]
    assert (name, 166.0) in totals(rows)


def test_the_rounds_of_a_row_are_one_median_and_a_failure_is_not_hidden() -> None:
    first, second = Row("ours: step", 1, 0, 1.0, 2.0, calls=[1.0, 9.0]), Row("ours: step", 1, 0, 3.0, 4.0, calls=[3.0])
    assert together([first, second]) == Row("ours: step", 1, 0, 3.0, 4.0, calls=[1.0, 9.0, 3.0])
    assert together([first, Row("ours: step", error="no memory")]).error == "no memory"


@pytest.mark.slow
def test_the_networks_have_the_published_sizes() -> None:
    pytest.importorskip("monai")
    listed = peers("--list")
    assert listed.returncode == 0, listed.stderr
    sizes = dict(line.rsplit("million", 1)[0].rsplit(None, 1) for line in listed.stdout.splitlines())
    found = {name.strip(): float(value) for name, value in sizes.items()}
    assert found["UKB LDM: step"] == pytest.approx(553, abs=3)
    assert found["BrainIAC: encode (ViT-B, 96^3)"] == pytest.approx(88, abs=3)
    assert found["MAISI rflow: step"] == pytest.approx(180, abs=3)
    assert found["MedicalNet: encode (R-50, 96^3)"] == pytest.approx(46, abs=3)


@pytest.mark.slow
def test_a_row_is_measured_and_one_without_memory_says_why_it_was_not(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    peers("--only", "ours: step", "--repeats", "1", "--out", str(out))
    assert json.loads(out.read_text())[0]["seconds"] > 0
    done = peers("--only", "ours: step", "--repeats", "1", "--memory-gb", "0.05", "--out", str(out))
    assert json.loads(out.read_text())[0]["seconds"] is None and "not measured" in done.stdout
