"""A reload of the module, by Slicer's own function, leaves one of everything: nobody old listens any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="pip install slicer-core")
pytest.importorskip("PySide6.QtWidgets", reason="pip install PySide6-Essentials", exc_type=ImportError)

from .conftest import MODULE, REPOSITORY

START = """
import sys, threading, time
import numpy as np
from Testing.slicer.harness.application import Slicer
app = Slicer()
scene = app.mrml.scene
for name in ("Red", "Yellow", "Green"):
    scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode").SetLayoutName(name)
ui = app.open().ui
import slicer
from BrainG3NLib.Volumes import fillNode

def volume(name):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    fillNode(node, np.random.default_rng(1).normal(size=(8, 9, 10)).astype(np.float32), np.eye(4))
    return node

def spy(thing, *names):
    heard = []
    for name in names:
        own = getattr(thing, name)
        setattr(thing, name, lambda *a, _n=name, _o=own, **k: (heard.append(_n), _o(*a, **k))[1])
    return heard

old, oldWidget, oldUi, sources = app.widget.panels, app.widget, ui, sys.modules["BrainG3NLib.Widget"]
paths = list(sys.path)
ui.horizonsEdit.text = "3, 7"
"""

REPEATED = (
    START
    + """
for _ in range(3):
    app.widget.onReload()
assert app.widget is not oldWidget and sys.modules["BrainG3NLib.Widget"] is not sources
assert sys.path == paths and not old.timer.active
assert oldUi.inputSelector.mrmlScene() is None and oldUi.maskSelector.mrmlScene() is None
assert not oldWidget.hasObserver(scene, scene.StartCloseEvent, oldWidget.onSceneStartClose)
assert scene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode") == 1
assert app.widget.ui.horizonsEdit.text == app.widget.parameters.horizons == "3, 7"

gone = [spy(old, "_refresh", "pump", "apply", "setParameters", "sceneCloses", "say"),
        spy(old.stamp, "write", "_watch"), spy(old.compute, "probe", "poll")]
new = spy(app.widget.panels, "apply", "sceneCloses")
stamped = spy(app.widget.panels.stamp, "write")
head = volume("Head")
scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode").SetBackgroundVolumeID(head.GetID())
assert stamped == ["write"], stamped
app.widget.ui.inputSelector.setCurrentNode(head)
assert app.widget.parameters.inputVolume is head
app.widget.ui.horizonsEdit.text = "4"
assert app.widget.parameters.horizons == "4" and oldUi.horizonsEdit.text == "3, 7"
app.widget.ui.counterfactualButton.click()
assert new == ["apply"] and "Nothing is to be changed" in app.widget.ui.messageLabel.text
scene.RemoveNode(head)
scene.Clear(0)
app.turn(0.3)
assert new == ["apply", "sceneCloses"] and gone == [[], [], []], (new, gone)
assert scene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode") == 1
app.close()
"""
)

DURING_A_RUN = (
    START
    + """
before, stopped = app.mrml.nodes(), threading.Event()

def task(tell):
    while not cancel.cancelled:
        time.sleep(0.01)
    stopped.set()

from braing3n_core.progress import Cancel
cancel = Cancel()
old.runner.start(task, cancel)
old.timer.start()
app.widget.onReload()
assert stopped.wait(10) and not old.isRunning() and not app.widget.panels.isRunning()
assert app.mrml.nodes() == before and app.widget.ui.probeButton.text == "Encode and read"
app.widget.cleanup()
app.widget.cleanup()  # as when a module is reloaded and then the application closes
app.close()
"""
)


@pytest.mark.parametrize("script", [REPEATED, DURING_A_RUN], ids=["repeated", "during a run"])
def test_after_a_reload_nobody_old_listens(script: str, tmp_path: Path) -> None:
    # A process of its own: the package is read again, and other tests hold its classes.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(MODULE), str(REPOSITORY)]),
                   "XDG_CONFIG_HOME": str(tmp_path)}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
