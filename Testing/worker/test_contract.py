"""Near and far are one interface: in this process, in a child process, and on a worker over HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from braing3n_core.client import ProcessEngine
from braing3n_core.engine import Engine
from braing3n_core.errors import Cancelled, RequestError, VolumeError
from braing3n_core.local_worker import LocalWorker
from braing3n_core.preprocess.template import load_template
from braing3n_core.progress import Cancel
from braing3n_core.protocol import map_text
from braing3n_core.remote import RemoteEngine
from braing3n_core.schema import (
    Conditions,
    EngineProtocol,
    GenerateRequest,
    PreprocessOptions,
    ProbeRequest,
    ReconstructRequest,
    Result,
)
from braing3n_core.worker.privacy import without_folders
from braing3n_core.worker.store import Database
from braing3n_core.worker.tokens import TokenStore

from ..core.tiny_checkpoint import make_tiny_checkpoint
from .conftest import REPOSITORY, free_port, ready, wait_for

GENERATE = GenerateRequest(Conditions(disease="AD", modality="T1", age_years=80.0), seed=5, num_steps=2)
HAS_RAY = importlib.util.find_spec("ray") is not None
SIDES = ("near", "process", "worker", *(["ray"] if HAS_RAY else []))
NO_RAY = pytest.param("ray", marks=pytest.mark.skip(reason="needs the extra ray: make test-ray"))


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EngineProtocol]]:
    checkpoint = make_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    with contextlib.ExitStack() as stack:
        yield {
            "near": Engine(checkpoint, "cpu"), "process": ProcessEngine(checkpoint=checkpoint, device="cpu"),
            "worker": stack.enter_context(LocalWorker(checkpoint=checkpoint, device="cpu")),
            **({"ray": stack.enter_context(on_ray(checkpoint, tmp_path_factory.mktemp("ray")))} if HAS_RAY else {}),
        }  # fmt: skip


@contextlib.contextmanager
def on_ray(checkpoint: Path, spool: Path) -> Iterator[RemoteEngine]:
    """The worker on a Ray Serve of its own."""
    database, port = Database(spool / "worker.sqlite"), free_port()
    token = TokenStore(database).create("alice")
    database.close()
    command = [sys.executable, "-m", "Testing.worker.ray_cluster", str(port), f"spool={spool}",
               f"checkpoint={checkpoint}", "device=cpu"]  # fmt: skip
    # Ray gives a replica one thread unless told otherwise, and the last bits depend on how many share a sum.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment = os.environ | threads | {"PYTHONPATH": str(REPOSITORY), "RAY_USAGE_STATS_ENABLED": "0"}
    with open(spool / "log.txt", "wb") as log, subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdin is not None
        said = iter(process.stdout.readline, b"")
        assert b"serving\n" in said, (spool / "log.txt").read_text()[-3000:]
        engine = RemoteEngine(f"http://127.0.0.1:{port}", token, patience_seconds=600.0)
        wait_for(lambda: ready(engine), 600)
        yield engine
        engine.close()
        process.stdin.close()


@pytest.fixture(params=SIDES if HAS_RAY else [*SIDES, NO_RAY])
def engine(request: pytest.FixtureRequest, engines: dict[str, EngineProtocol]) -> EngineProtocol:
    return engines[request.param]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stripped T1 on the atlas grid, which nobody has to register."""
    return load_template().volume.save(tmp_path_factory.mktemp("scan") / "sub-01_ses-2_T1w.nii.gz")


@pytest.fixture(scope="module")
def results(
    engines: dict[str, EngineProtocol], scan: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Result]]:
    """By request and side: what came out."""
    folder = tmp_path_factory.mktemp("out")
    options = PreprocessOptions(stage="registered")
    requests = {"generate": GENERATE, "reconstruct": ReconstructRequest(str(scan), options)}
    return {
        name: {side: engines[side].run(request, folder / name / side) for side in SIDES}
        for name, request in requests.items()
    }


def files(result: Result) -> dict[str, str]:
    """sha256 of every image, and the content of every other file but its times, by name."""
    folder = Path(result.outputs[0].path).parent
    return {p.name: content(p) for p in folder.iterdir()}


def content(path: Path) -> str:
    if path.suffix != ".json":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    data = json.loads(path.read_text(encoding="utf-8"))
    if path.name == "provenance.json":
        data = without_times(data)
        data["checkpoint"] = without_place(data["checkpoint"]) if data["checkpoint"] else None  # preprocessing has none
    return json.dumps(data, sort_keys=True)


def without_times(data: Any) -> Any:
    """The data without how long each step took."""
    if isinstance(data, dict):
        return {key: without_times(value) for key, value in data.items() if key != "seconds"}
    return [without_times(value) for value in data] if isinstance(data, list) else data


def without_place(card: dict[str, str]) -> dict[str, str]:
    """The card of a checkpoint as the worker tells it, which keeps its folders to itself."""
    return {**card, "folder": Path(card["folder"]).name, "name": Path(card["name"]).name}


def test_all_sides_say_the_same_of_themselves(engines: dict[str, EngineProtocol]) -> None:
    said = []
    for side in SIDES:
        facts = map_text(json.loads(json.dumps(engines[side].capabilities(), default=str)), without_folders)
        said.append({**facts, "checkpoint": without_place(facts["checkpoint"])})
    assert said == [said[0]] * len(SIDES)


@pytest.mark.parametrize("kind", ["generate", "reconstruct"])
def test_all_sides_write_the_same_files_bit_for_bit(results: dict[str, dict[str, Result]], kind: str) -> None:
    near = files(results[kind]["near"])
    assert near
    for side in SIDES[1:]:
        assert files(results[kind][side]) == near


@pytest.mark.parametrize("kind", ["generate", "reconstruct"])
def test_all_sides_answer_the_same_result(results: dict[str, dict[str, Result]], kind: str) -> None:
    near = results[kind]["near"]
    for side in SIDES[1:]:
        far = results[kind][side]
        assert (far.kind, far.readings, far.effects) == (near.kind, near.readings, near.effects)
        assert far.warnings == near.warnings
        assert [(o.role, Path(o.path).name, o.space, o.synthetic) for o in far.outputs] == [
            (o.role, Path(o.path).name, o.space, o.synthetic) for o in near.outputs
        ]
        assert all(Path(o.path).is_file() for o in far.outputs)


def test_an_unknown_word_is_the_same_error_on_all_sides(engine: EngineProtocol, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        engine.run(GenerateRequest(Conditions(disease="plague")), tmp_path / "out")
    assert caught.value.code == "condition.word"
    assert "plague" in caught.value.message
    assert caught.value.hint


def test_a_number_that_is_not_finite_is_refused_at_once_on_all_sides(engine: EngineProtocol, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:  # and no error of a network, which a client would be patient with
        engine.run(GenerateRequest(Conditions(age_years=float("nan"))), tmp_path / "out")
    assert caught.value.hint


def test_a_missing_file_is_the_same_error_on_all_sides(engine: EngineProtocol, tmp_path: Path) -> None:
    with pytest.raises(VolumeError) as caught:
        engine.run(ProbeRequest(str(tmp_path / "nothing.nii.gz")), tmp_path / "out")
    assert caught.value.code == "volume.not_found"
    assert str(tmp_path / "nothing.nii.gz") in caught.value.message


def test_a_damaged_file_is_the_same_error_on_all_sides(engine: EngineProtocol, scan: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged_T1w.nii.gz"
    damaged.write_bytes(scan.read_bytes()[:-1000])
    with pytest.raises(VolumeError) as caught:
        engine.run(ProbeRequest(str(damaged)), tmp_path / "out")
    assert caught.value.code == "volume.truncated"
    assert str(damaged) in caught.value.message


def test_progress_rises_to_one_on_all_sides(engine: EngineProtocol, tmp_path: Path) -> None:
    fractions: list[float] = []
    engine.run(GENERATE, tmp_path / "out", progress=lambda fraction, _: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_a_cancelled_run_leaves_no_files_on_all_sides(engine: EngineProtocol, tmp_path: Path) -> None:
    cancel = Cancel()
    with pytest.raises(Cancelled):
        engine.run(GENERATE, tmp_path / "out", progress=lambda *_: cancel.cancel(), cancel=cancel)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
