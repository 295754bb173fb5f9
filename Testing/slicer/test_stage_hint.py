"""How far a scan is prepared already is shown with its evidence before anything is done to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")
pytest.importorskip("PySide6.QtWidgets", reason="pip install PySide6-Essentials", exc_type=ImportError)

from BrainG3NLib import Jobs
from BrainG3NLib.Logic import Logic
from BrainG3NLib.Scene import PREFIX
from BrainG3NLib.Volumes import fillNode

from braing3n_core.errors import BrainG3NError

from .conftest import addNoise, addVolume


def test_a_local_worker_looks_at_each_scan_that_is_chosen(ready, settings) -> None:
    ui, label, hint = ready.widget.ui, ready.widget.ui.stageLabel, ready.widget.panels.hint
    head, scene = ui.inputSelector.currentNode(), ready.mrml.scene
    assert not ui.stageButton.enabled and not label.visible
    ui.testButton.click()
    assert ready.wait(lambda: "Looks like" in label.text, 300), label.text
    assert label.text.startswith("Looks like: Brain only, on the SRI24 grid. ") and "of the voxels are 0" in label.text
    assert label.visible and ui.stageButton.enabled
    ui.inputSelector.setCurrentNode(None)
    assert label.text == "" and not label.visible
    block = np.random.default_rng(0).uniform(1.0, 9.0, (48, 50, 52)).astype(np.float32)
    ui.inputSelector.setCurrentNode(addVolume(scene, "block", block, np.diag([4.0, 4.0, 4.0, 1.0]), fillNode))
    assert ready.wait(lambda: label.text and not hint.busy, 300) and "it is not on the SRI24 grid" in label.text
    logic = Logic(scene, ready.widget.panels.compute.compute())
    assert logic.examine(settings(inputVolume=head, stage="native"))["stage"] == "registered"
    with pytest.raises(BrainG3NError, match="no nodes"):
        logic.process("examine", settings(inputVolume=head))
    assert not [n for n in ready.mrml.nodes() if scene.GetNodeByID(n).GetAttribute(f"{PREFIX}Verb")]


def test_a_remote_worker_looks_only_when_it_is_asked_to_and_after_a_yes(app, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Jobs.tempfile, "tempdir", str(tmp_path))
    ui, panels = app.widget.ui, app.widget.panels
    ui.locationBox.currentIndex = 1
    ui.urlEdit.text = "https://worker.invalid:8443"
    panels.compute.capabilities = {"verbs": {"examine": {"available": True, "why": ""}}}
    ui.inputSelector.setCurrentNode(addNoise(app.mrml.scene, "noise"))
    app.turn(0.5)
    assert ui.stageLabel.text == "" and not slicer.app.questions
    slicer.app.answers.append(False)
    ui.stageButton.click()
    assert "https://worker.invalid:8443" in slicer.app.questions[0] and "Nothing was sent" in ui.stageLabel.text
    assert not list(tmp_path.glob("BrainG3N-*")) and not panels.hint.busy


def test_without_a_volume_looking_says_what_to_do(app) -> None:
    panels = app.widget.panels
    panels.hint.look(app.widget.parameters)
    assert "Choose one under Input volume" in app.widget.ui.stageLabel.text
