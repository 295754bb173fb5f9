"""What the tests of the Slicer module share: the module's folder on the path, a real scene, a real engine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "BrainG3NSlicer"
for folder in (str(MODULE), str(REPOSITORY)):
    if folder not in sys.path:
        sys.path.insert(0, folder)
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("BRAING3N_TESTING", "1")

from BrainG3NLib.Requests import DEFAULTS

SETTINGS: dict[str, Any] = {
    **DEFAULTS, "stage": "registered", "brain": "none", "correctBias": False, "horizons": "1, 5", "samples": 2,
}  # fmt: skip


@pytest.fixture
def settings():
    """Makes the parameters of a run, as the panels have them."""
    return lambda **changes: SimpleNamespace(**{**SETTINGS, **changes})


@pytest.fixture
def mrml():
    """A real MRML scene with Slicer's own logics."""
    from Testing.slicer.harness.mrml import Mrml

    made = Mrml()
    yield made
    made.close()


@pytest.fixture
def app(tmp_path: Path):
    """The open panel in the harness, with settings of its own."""
    qtCore = pytest.importorskip("PySide6.QtCore", reason="pip install PySide6-Essentials", exc_type=ImportError)
    from Testing.slicer.harness.application import Slicer

    qtCore.QSettings.setPath(qtCore.QSettings.NativeFormat, qtCore.QSettings.UserScope, str(tmp_path))
    made = Slicer()
    made.open()
    yield made
    made.close()


@pytest.fixture
def ready(app, python: str, tinyCheckpoint: Path, templateFile: Path):
    """The panel with a loaded, registered scan and a worker that can be started."""
    ui = app.widget.ui
    ui.pythonPath.currentPath, ui.checkpointPath.currentPath = python, str(tinyCheckpoint)
    ui.inputSelector.setCurrentNode(addScan(app.mrml.scene, templateFile))
    choose(ui.stageBox, "registered")
    choose(ui.brainBox, "none")
    ui.correctBiasBox.checked = False
    return app


@pytest.fixture(scope="session")
def python() -> str:
    """An interpreter that has the models: this one, or the one that BRAING3N_PYTHON names."""
    named = os.environ.get("BRAING3N_PYTHON", "")
    if named:
        return named
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no torch here: set BRAING3N_PYTHON to a Python that has braing3n[torch,preprocess]")
    return sys.executable


@pytest.fixture(scope="session")
def tinyCheckpoint(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every part real and small, with random weights, made by the interpreter that has torch."""
    folder = tmp_path_factory.mktemp("tiny")
    load = "from pathlib import Path; from Testing.core.tiny_checkpoint import make_tiny_checkpoint"
    _do(python, f"{load}; make_tiny_checkpoint(Path({str(folder)!r}))")
    return folder


@pytest.fixture(scope="session")
def templateFile(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stripped T1 on the atlas grid, which nobody has to register."""
    from Testing.slicer.harness.template import writeTemplate

    return writeTemplate(python, tmp_path_factory.mktemp("scan") / "template.nrrd")


@pytest.fixture
def scan(mrml, templateFile: Path):
    """The template as a volume node named ``Head``."""
    return addScan(mrml.scene, templateFile)


def addScan(scene, path: Path):
    """A file as a volume node named ``Head``."""
    from BrainG3NLib.Volumes import fillNode, slicerOrder

    from braing3n_core.volume import Volume

    volume = Volume.load(path)
    return addVolume(scene, "Head", slicerOrder(volume.array), volume.affine, fillNode)


def addVolume(scene, name: str, array: np.ndarray, affine: np.ndarray, fill):
    """A volume node with a display node of its own window and level."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    fill(node, array, affine)
    display = scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(float(array.max()) * 0.8, float(array.max()) * 0.45)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    node.SetAndObserveDisplayNodeID(display.GetID())
    return node


def addNoise(scene, name: str):
    """A small volume node of noise, for what needs a scan and not a head."""
    from BrainG3NLib.Volumes import fillNode

    array = np.random.default_rng(1).normal(size=(10, 9, 8)).astype(np.float32)
    return addVolume(scene, name, array, np.eye(4), fillNode)


def choose(box: Any, value: str) -> None:
    """Choose in a combo box by value, as a user does by its words."""
    index = box.findData(value)
    assert index >= 0, f"{value} is not offered"
    box.currentIndex = index


def _do(python: str, code: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [python, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{python} could not prepare the test data:\n{done.stderr[-2000:]}")
