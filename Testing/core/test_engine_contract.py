"""Near and far are one interface: the engine in this process and in a child process give the same answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from braing3n_core.client import ProcessEngine
from braing3n_core.engine import Engine
from braing3n_core.errors import Cancelled, RequestError
from braing3n_core.progress import Cancel
from braing3n_core.schema import Conditions, EngineProtocol, GenerateRequest, Result

from .tiny_checkpoint import make_tiny_checkpoint

GENERATE = GenerateRequest(Conditions(disease="AD", modality="T1", age_years=80.0), seed=5, num_steps=2)
SIDES: dict[str, Callable[[Path], EngineProtocol]] = {
    "near": lambda checkpoint: Engine(checkpoint, "cpu"),
    "far": lambda checkpoint: ProcessEngine(checkpoint=checkpoint, device="cpu"),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(params=sorted(SIDES))
def engine(request: pytest.FixtureRequest, checkpoint: Path) -> EngineProtocol:
    return SIDES[request.param](checkpoint)


def images(result: Result) -> dict[str, str]:
    """sha256 of every image, by name."""
    paths = [Path(output.path) for output in result.outputs]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if p.name.endswith((".nii.gz", ".nrrd"))}


def test_both_sides_say_the_same_of_themselves(checkpoint: Path) -> None:
    near, far = (json.dumps(SIDES[side](checkpoint).capabilities(), sort_keys=True, default=str) for side in SIDES)
    assert near == far


def test_both_sides_write_the_same_voxels_and_readings(checkpoint: Path, tmp_path: Path) -> None:
    near, far = (SIDES[side](checkpoint).run(GENERATE, tmp_path / side) for side in SIDES)
    assert images(near) and images(near) == images(far)
    assert near.readings == far.readings
    kinds = [[(output.role, output.space, output.synthetic) for output in side.outputs] for side in (near, far)]
    assert kinds[0] == kinds[1]


def test_an_unknown_word_is_the_same_error_on_both_sides(engine: EngineProtocol, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        engine.run(GenerateRequest(Conditions(disease="plague")), tmp_path / "out")
    assert "plague" in caught.value.message
    assert caught.value.hint


def test_progress_rises_to_one_on_both_sides(engine: EngineProtocol, tmp_path: Path) -> None:
    fractions: list[float] = []
    engine.run(GENERATE, tmp_path / "out", progress=lambda fraction, _: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_a_cancelled_run_leaves_no_files_on_both_sides(engine: EngineProtocol, tmp_path: Path) -> None:
    cancel = Cancel()
    with pytest.raises(Cancelled):
        engine.run(GENERATE, tmp_path / "out", progress=lambda *_: cancel.cancel(), cancel=cancel)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
