"""What users do wrong: each is refused in a sentence that says what to do, and leaves the scene as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")

import vtk
from BrainG3NLib import Jobs
from BrainG3NLib.Logic import Logic
from BrainG3NLib.Volumes import fillNode
from BrainG3NLib.Worker import Compute, ComputeSettings

from braing3n_core.engine import Engine
from braing3n_core.errors import BrainG3NError

EDIT = {"targetDisease": "AD"}
EDITS: list[dict[str, Any]] = [
    {}, {"targetDisease": "plague"}, {"targetDisease": "ad"}, {"targetDisease": "Alzheimer's disease"},
    {"targetDisease": " AD"}, {"targetSex": "X"}, {"targetSex": "female"}, {"targetSex": "m"}, {"targetAge": -1.0},
    {"targetAge": 4.9}, {"targetAge": 98.1}, {"targetAge": 400.0}, {"targetAge": float("nan")},
    {"targetAge": float("inf")}, {"targetModality": "PET"}, {"targetModality": "t1"}, {"targetSite": "Mars"},
    {"targetIdh1": "maybe"}, {"targetIdh1": "Mutant"}, {**EDIT, "guidance": -3.0}, {**EDIT, "guidance": 10.1},
    {**EDIT, "guidance": float("nan")}, {**EDIT, "guidance": float("inf")},
    {**EDIT, "guidanceDisease": -1.0}, {**EDIT, "guidanceDisease": 10.1}, {**EDIT, "guidanceDisease": float("nan")},
    {**EDIT, "strength": -0.1},
    {**EDIT, "strength": 7.0}, {**EDIT, "strength": float("nan")}, {**EDIT, "editRendering": "sharp"},
    {**EDIT, "editRendering": ""}, {**EDIT, "seed": -1}, {**EDIT, "knownAge": -4.0}, {**EDIT, "knownAge": 120.0},
    {**EDIT, "knownSex": "both"}, {**EDIT, "knownDisease": "flu"}, {**EDIT, "modality": "PET"},
    {**EDIT, "modality": ""}, {**EDIT, "modality": "CT"}, {**EDIT, "stage": "boiled"}, {**EDIT, "stage": ""},
    {**EDIT, "brain": "spoon"}, {**EDIT, "brain": ""}, {**EDIT, "brain": "mask"}, {**EDIT, "stage": "Registered"},
]  # fmt: skip
FORECASTS: list[dict[str, Any]] = [
    {"horizons": text}
    for text in ("", " ", ",", "soon", "1; later", "1,,x", "1..2", "400", "-21", "nan", "inf", "1e9", "1 2 50", "two")
] + [
    {"samples": 0}, {"samples": -2}, {"samples": 65}, {"knownCdr": "9"}, {"knownCdr": "-1"}, {"knownCdr": "nan"},
    {"knownAge": 4.0}, {"knownAge": 99.0}, {"knownAge": float("nan")}, {"knownSex": "?"}, {"knownDisease": "cold"},
    {"forecastRendering": "blurred"}, {"stage": "raw"}, {"brain": "knife"}, {"modality": "DWI"}, {"seed": -5},
]  # fmt: skip
PROBES: list[dict[str, Any]] = [
    {"modality": "MRA"}, {"stage": "unknown"}, {"brain": "HDBET"}, {"seed": -9}, {"brain": "mask"},
]
CASES = [("counterfactual", c) for c in EDITS] + [("forecast", c) for c in FORECASTS] + [
    (kind, case) for kind in ("probe", "preprocess") for case in PROBES
]  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The real engine in this process: it refuses before it loads anything."""
    return Engine()


@pytest.fixture
def head(mrml):
    node = mrml.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Head")
    fillNode(node, np.random.default_rng(5).normal(100.0, 9.0, (8, 9, 10)).astype(np.float32), np.eye(4))
    return node


def refused(act: Callable[[], Any]) -> BrainG3NError:
    """The sentence, which says what is wrong and what to do."""
    with pytest.raises(BrainG3NError) as caught:
        act()
    assert len(caught.value.message) > 10 and caught.value.hint and "Traceback" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("kind", "changes"), CASES, ids=str)
def test_settings_that_make_no_sense_are_a_sentence(mrml, head, settings, engine, kind: str, changes) -> None:
    before, logic = mrml.nodes(), Logic(mrml.scene)

    def act() -> None:
        job = logic.prepare(kind, settings(inputVolume=head, **changes))
        job.run(engine, lambda *_: None)

    refused(act)
    assert mrml.nodes() == before


def volumeOf(scene, array: np.ndarray, affine: np.ndarray | None = None):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Odd")
    fillNode(node, array, np.eye(4) if affine is None else affine)
    return node


def holes(scene):
    array = np.ones((8, 8, 8), np.float32)
    array[2, 2, 2] = np.nan
    return volumeOf(scene, array)


def vector(scene):
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Odd")
    image = vtk.vtkImageData()
    image.SetDimensions(8, 8, 8)
    image.AllocateScalars(vtk.VTK_FLOAT, 3)
    node.SetAndObserveImageData(image)
    return node


ODD: dict[str, Callable[[Any], Any]] = {
    "nothing chosen": lambda scene: None,
    "no voxels": lambda scene: scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Odd"),
    "a vector in each voxel": vector,
    "a hole of NaN": holes,
    "infinite": lambda scene: volumeOf(scene, np.full((8, 8, 8), np.inf, np.float32)),
    "flat": lambda scene: volumeOf(scene, np.full((8, 8, 8), 5.0, np.float32)),
    "a transform": lambda scene: scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Odd"),
    "a table": lambda scene: scene.AddNewNodeByClass("vtkMRMLTableNode", "Odd"),
}


@pytest.mark.parametrize("odd", sorted(ODD))
def test_what_is_no_scan_is_a_sentence(mrml, settings, engine, odd: str) -> None:
    node = ODD[odd](mrml.scene)
    before, logic = mrml.nodes(), Logic(mrml.scene)
    refused(lambda: logic.prepare("probe", settings(inputVolume=node)).run(engine, lambda *_: None))
    assert mrml.nodes() == before


@pytest.mark.parametrize(
    "compute",
    [
        ComputeSettings(python="/nowhere/python"), ComputeSettings(python="/"), ComputeSettings(python="python3"),
        ComputeSettings(location="remote", url=""), ComputeSettings(location="remote", url="server"),
        ComputeSettings(location="remote", url="server:8443"), ComputeSettings(location="remote", url="ftp://server"),
        ComputeSettings(location="remote", url="/somewhere"), ComputeSettings(location="remote", url="https:/server"),
    ],
    ids=str,
)  # fmt: skip
def test_a_place_that_cannot_compute_is_a_sentence(mrml, head, settings, compute: ComputeSettings) -> None:
    refused(lambda: Logic(mrml.scene, Compute(compute)).process("probe", settings(inputVolume=head)))


def test_no_place_to_compute_is_a_sentence(mrml, head, settings) -> None:
    refused(lambda: Logic(mrml.scene).process("probe", settings(inputVolume=head)))


def test_a_verb_that_does_not_exist_is_a_sentence(mrml, head, settings) -> None:
    refused(lambda: Logic(mrml.scene).prepare("dream", settings(inputVolume=head)))


def test_a_temporary_folder_that_is_gone_is_a_sentence(mrml, head, settings, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Jobs.tempfile, "tempdir", str(tmp_path / "gone"))
    assert "gone" in refused(lambda: Logic(mrml.scene).prepare("probe", settings(inputVolume=head))).message


def test_a_folder_that_vanishes_before_the_run_is_a_sentence(mrml, head, settings, engine, tmp_path: Path) -> None:
    job = Logic(mrml.scene).prepare("probe", settings(inputVolume=head))
    job.folder.rmdir()
    job.folder.write_text("a file in its place")
    refused(lambda: job.run(engine, lambda *_: None))


def test_a_second_run_at_the_same_time_is_a_sentence() -> None:
    runner, cancel = Jobs.Runner(), Jobs.Cancel()
    runner.start(lambda tell: None, cancel)
    refused(lambda: runner.start(lambda tell: None, Jobs.Cancel()))
    runner.abandon(1.0)


def test_a_task_that_fails_in_an_unforeseen_way_is_a_sentence() -> None:
    runner = Jobs.Runner()
    runner.start(lambda tell: 1 / 0, Jobs.Cancel())
    runner._thread.join(10)
    (event,) = runner.poll()
    assert event.kind == "failed" and "ZeroDivisionError" in event.message and not runner.busy


def test_these_are_at_least_a_hundred() -> None:
    assert len(CASES) + len(ODD) + 15 >= 100
