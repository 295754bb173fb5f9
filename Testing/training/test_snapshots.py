"""A run survives kills, stops and damaged files, and never goes on from something else than what it saved."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from training.checkpointing import SnapshotError, Snapshots, choose, damage_of, read_state, write_state

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 14


def module(name: str, *arguments: str, given: str = "") -> str:
    """Standard output of a module of the tests, run as a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", f"Testing.training.{name}", *arguments], input=given, capture_output=True, text=True,
        cwd=REPOSITORY, env=environment, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def carry_out(plans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ends: list[dict[str, Any]] = json.loads(module("little_run", given=json.dumps(plans)))
    return ends


def cut(folder: Path, step: int) -> list[dict[str, Any]]:
    out = str(folder / f"cut-{step}")
    return [{"out": out, "steps": STEPS, "strike_at": step}, {"out": out, "steps": STEPS}]


def require_equal(whole: Path, other: Path) -> None:
    """Weights of the average, the whole last state and the log's losses agree bit for bit."""
    a, b = (read_state(Snapshots(run).newest() or run) for run in (whole, other))
    assert a["step"] == b["step"] == STEPS and a["sampler"] == b["sampler"]
    for part in ("model", "ema"):
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])
    for one, two in zip(a["optimiser"]["state"].values(), b["optimiser"]["state"].values(), strict=True):
        assert all(torch.equal(one[k], two[k]) for k in one)
    assert torch.equal(a["random"]["cpu"], b["random"]["cpu"])
    assert losses(whole) == losses(other)


def losses(run: Path) -> list[tuple[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Runs that were cut in every way, and one that was not; all from one start of torch."""
    folder = tmp_path_factory.mktemp("runs")
    plans = {
        "whole": {"out": str(folder / "whole"), "steps": STEPS},
        **{f"kill {k}, {part}": plan for k in (3, 9) for part, plan in zip("ab", cut(folder, k), strict=True)},
        "term": {"out": str(folder / "term"), "steps": STEPS, "strike_at": 6, "signal": "SIGTERM"},
        "after term": {"out": str(folder / "term"), "steps": STEPS},
        "usr1": {"out": str(folder / "usr1"), "steps": STEPS, "strike_at": 2, "signal": "SIGUSR1"},
        "after usr1": {"out": str(folder / "usr1"), "steps": STEPS},
        "nan": {"out": str(folder / "nan"), "steps": STEPS, "nan_at": 5},
        "other": {"out": str(folder / "whole"), "steps": STEPS, "stage": "another"},
        "never": {"out": str(folder / "nan"), "steps": STEPS, "resume": "never"},
        "path": {"out": str(folder / "path"), "steps": STEPS, "resume": str(folder / "term")},
    }
    return folder, dict(zip(plans, carry_out(list(plans.values())), strict=True))


@pytest.mark.parametrize("step", [3, 9])
def test_a_run_that_was_killed_ends_where_the_uninterrupted_one_does_bit_for_bit(
    ends: tuple[Path, dict[str, dict[str, Any]]], step: int
) -> None:
    folder, end = ends
    assert end[f"kill {step}, a"]["code"] == -9 and end[f"kill {step}, b"]["code"] == 0
    require_equal(folder / "whole", folder / f"cut-{step}")


@pytest.mark.slow
def test_twenty_kills_at_twenty_steps_change_nothing(tmp_path: Path) -> None:
    global STEPS
    before, STEPS = STEPS, 22
    try:
        runs = [plan for k in range(1, 21) for plan in cut(tmp_path, k)]
        ends = carry_out([{"out": str(tmp_path / "whole"), "steps": STEPS}, *runs])
        assert [e["code"] for e in ends] == [0] + [-9, 0] * 20
        for k in range(1, 21):
            require_equal(tmp_path / "whole", tmp_path / f"cut-{k}")
    finally:
        STEPS = before


@pytest.mark.parametrize(("name", "step"), [("term", 7), ("usr1", 3)])
def test_a_signal_saves_at_once_exits_143_and_the_run_goes_on_bit_for_bit(
    ends: tuple[Path, dict[str, dict[str, Any]]], name: str, step: int
) -> None:
    folder, end = ends
    assert end[name]["code"] == 143 and f"saved at step {step}" in end[name]["said"]
    assert end[f"after {name}"]["code"] == 0 and f"step-{step:08d}" in end[f"after {name}"]["said"]
    require_equal(folder / "whole", folder / name)


def test_a_loss_that_is_not_finite_names_the_step_and_the_volumes(
    ends: tuple[Path, dict[str, dict[str, Any]]],
) -> None:
    end = ends[1]["nan"]
    assert end["code"] == 1
    assert "train.not_finite" in end["said"] and "at step 5" in end["said"] and "sub-05 visit 0 T1" in end["said"]


def test_a_snapshot_of_another_stage_is_refused(ends: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    end = ends[1]["other"]
    assert end["code"] == 1 and "snapshot.other_run" in end["said"]
    assert "stage: little there, another here" in end["said"]


def test_resume_never_starts_afresh_and_keeps_the_old_snapshots_aside(
    ends: tuple[Path, dict[str, dict[str, Any]]],
) -> None:
    folder, end = ends
    assert end["never"]["code"] == 0 and "going on" not in end["never"]["said"]
    require_equal(folder / "whole", folder / "nan")
    assert list((folder / "nan" / "snapshots.old-1").iterdir())


def test_resume_takes_the_snapshot_of_another_run(ends: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    folder, end = ends
    assert end["path"]["code"] == 0 and f"going on from {folder / 'term'}" in end["path"]["said"]


def kill_storm(folder: Path, kills: int) -> None:
    rows = [json.loads(line) for line in module("kill_storm", str(folder), str(kills), "1").splitlines()]
    assert len(rows) == kills
    for row in rows:
        # What was told to be saved is there; what was sealed but not yet told may be too.
        assert row["whole"] and row["told"] <= row["found"] <= row["told"] + 1
    assert any(row["during"] for row in rows), "no kill fell into a save: the test shows nothing"


def test_kills_during_a_save_lose_nothing_that_was_saved(tmp_path: Path) -> None:
    kill_storm(tmp_path, 8)


@pytest.mark.slow
def test_a_hundred_kills_during_a_save_lose_nothing_that_was_saved(tmp_path: Path) -> None:
    kill_storm(tmp_path, 100)


def state_of(step: int) -> dict[str, Any]:
    return {"step": step, "model": {"w": torch.arange(4096.0) + step}}


def damage(snapshot: Path, chance: random.Random) -> str:
    """Spoil one file in one of the ways in which disks and copies do."""
    path = chance.choice(sorted(snapshot.iterdir()))
    content = bytearray(path.read_bytes())
    way = chance.choice(("flip", "truncate", "empty", "remove", "append", "zeros", "stranger"))
    if way == "flip":
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif way == "truncate":
        del content[chance.randrange(len(content)) :]
    elif way == "empty":
        content.clear()
    elif way == "append":
        content += b"\0"
    elif way == "zeros":
        start = chance.randrange(len(content))
        content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)
    if way == "remove":
        path.unlink()
    if way == "stranger":
        (snapshot / "state.pt.copy").write_bytes(b"x")
    return f"{way} of {path.name}"


def corrupt(folder: Path, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(7)
    for i in range(count):
        snapshots = Snapshots(folder / str(i))
        for step in (1, 2):
            snapshots.save(step, lambda f, step=step: write_state(f, state_of(step)))
        newest = snapshots.names()[-1]
        what = damage(newest, chance)
        found = snapshots.newest()
        assert found is not None
        state = read_state(found)
        # A flip of a blank in the manifest harms nothing: then the newest is taken, and it must be what was saved.
        assert torch.equal(state["model"]["w"], state_of(state["step"])["model"]["w"]), what
        said = capsys.readouterr().err
        assert (found == newest) == (damage_of(newest) is None), what
        if found != newest:
            assert state["step"] == 1 and str(newest) in said, what


def test_a_damaged_snapshot_is_named_and_the_one_before_it_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corrupt(tmp_path, 40, capsys)


@pytest.mark.slow
def test_two_hundred_damaged_snapshots_are_never_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corrupt(tmp_path, 200, capsys)


def test_without_a_whole_snapshot_a_run_does_not_silently_start_again(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    path = snapshots.save(1, lambda f: write_state(f, state_of(1)))
    (path / "state.pt").write_bytes(b"")
    with pytest.raises(SnapshotError, match="None of the 1 snapshots"):
        choose(tmp_path, "auto")
    with pytest.raises(SnapshotError, match="damaged"):
        choose(tmp_path / "new", str(path))
    assert choose(tmp_path, "never") is None


def test_old_snapshots_go_and_the_newest_stay(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=2)
    for step in (4, 8, 12):
        snapshots.save(step, lambda f, step=step: write_state(f, state_of(step)))
    assert [p.name for p in snapshots.names()] == ["step-00000008", "step-00000012"]
