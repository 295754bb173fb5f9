"""Pictures for the documentation, made by the module itself: each panel, and the views of its results.

    BRAING3N_PYTHON=... python -m Testing.slicer.harness.pictures docs/pictures [SCAN]
    python -m Testing.slicer.harness.pictures docs/pictures --at-rest

SCAN is any T1 (preprocessed on the way); without one the ICBM152 brain is taken. Each picture is written as soon as
what it shows is there. ``--at-rest`` photographs the panels as they open, which needs no model.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "BrainG3NSlicer")]

import numpy as np

WIDTH, SECONDS = 560, 3600
SLICE_MM = 14.0
"""Height of the axial slice above the middle of the scan's brain: the ventricles."""


class Photographer:
    """A panel with a scan in it. folder: of the pictures."""

    def __init__(self, folder: Path, scan: Path | None, drawn: bool = True) -> None:
        from Testing.slicer.harness.application import Slicer

        self.folder, self.app = folder, Slicer(drawn)
        self.ui = self.app.open().ui
        self.ui.pythonPath.currentPath = os.environ.get("BRAING3N_PYTHON", sys.executable)
        self.ui.coarseBox.checked = False
        self.app._parent.resize(WIDTH, 2600)

    def load(self, scan: Path | None) -> None:
        """A scan, or the brain that is on the atlas already."""
        from BrainG3NLib.Volumes import fillNode, slicerOrder

        from braing3n_core.volume import Volume
        from Testing.slicer.conftest import addVolume

        volume = Volume.load(scan or self._template())
        head = addVolume(
            self.app.mrml.scene, "T1" if scan else "ICBM152", slicerOrder(volume.array), volume.affine, fillNode
        )
        brightest = float(np.percentile(volume.array[volume.array > 0], 99))
        head.GetScalarVolumeDisplayNode().SetWindowLevel(brightest, brightest / 2)
        self.ui.inputSelector.setCurrentNode(head)
        if not scan:
            for box, value in ((self.ui.stageBox, "registered"), (self.ui.brainBox, "none")):
                box.currentIndex = box.findData(value)
            self.ui.correctBiasBox.checked = False
        self._look(head, volume)

    def _template(self) -> Path:
        """Written by the Python of the worker, which has the package that carries it."""
        from Testing.slicer.harness.template import writeTemplate

        folder = Path(tempfile.mkdtemp(prefix="BrainG3N-pictures-"))
        return writeTemplate(os.environ.get("BRAING3N_PYTHON", sys.executable), folder / "template.nrrd")

    def _look(self, head: Any, volume: Any) -> None:
        """Turn the first view to the ventricles, as a user would; the module makes the others follow."""
        voxels = np.argwhere(volume.array > 0).mean(axis=0)
        middle = volume.affine @ [*voxels, 1.0]
        first = self.app.views["Red"]
        first.show(head)
        first.logic.SetSliceOffset(float(middle[2]) + SLICE_MM)

    def connect(self) -> None:
        """Ask the worker; the path of this computer is not for a picture."""
        self.ui.testButton.click()
        self.app.wait(lambda: "Asking" not in self.ui.computeStatus.text, SECONDS)
        shown, self.ui.pythonPath.currentPath = self.ui.pythonPath.currentPath, ""
        self.panel("compute")
        self.ui.pythonPath.currentPath = shown

    def run(self, button: str) -> Any:
        """Press a button, wait, and return the run."""
        getattr(self.ui, button).click()
        self.app.wait(lambda: not self.app.widget.panels.isRunning(), SECONDS)
        print(button, self.ui.messageLabel.text, flush=True)  # noqa: T201
        return self.app.widget.panels.run

    def panel(self, name: str) -> None:
        """One panel as a PNG."""
        self.app.turn(0.2)
        getattr(self.ui, f"{name}Collapsible").grab().save(str(self.folder / f"slicer-panel-{name}.png"))

    def views(self, name: str) -> None:
        """The three views as they stand, as a PNG."""
        row = [view.picture() for view in self.app.views.values()]
        save(row, self.folder / f"slicer-{name}-views.png")


def save(pictures: list[np.ndarray], path: Path) -> None:
    """Pictures beside each other as a PNG."""
    from PySide6 import QtGui

    row = np.ascontiguousarray(np.concatenate(pictures, axis=1).astype(np.uint8))
    height, width, _ = row.shape
    QtGui.QImage(row.data, width, height, 3 * width, QtGui.QImage.Format_RGB888).save(str(path))


PANELS = ("compute", "preprocess", "probe", "counterfactual", "forecast", "view")


def atRest(folder: Path) -> None:
    """The panels as they open."""
    camera = Photographer(folder, None, drawn=False)
    camera.ui.pythonPath.currentPath = ""
    for name in PANELS:
        camera.panel(name)
    camera.app.close()


def main(folder: Path, scan: Path | None = None) -> None:
    """All panels and views."""
    from Testing.slicer.harness.views import REMEDY, offScreen

    if not offScreen():
        raise SystemExit(f"There is nothing here to draw off screen with: {REMEDY}, or photograph --at-rest.")
    camera = Photographer(folder, scan)
    ui = camera.ui
    camera.connect()
    camera.load(scan)
    camera.run("preprocessButton")
    camera.panel("preprocess")
    camera.run("probeButton")
    camera.panel("probe")
    ui.targetDiseaseBox.currentIndex = ui.targetDiseaseBox.findData("AD")
    ui.guidanceDiseaseBox.value, ui.editAdvanced.collapsed = 2.0, False
    camera.run("counterfactualButton")
    camera.panel("counterfactual")
    camera.panel("view")
    camera.views("counterfactual")
    ui.horizonsEdit.text, ui.samplesBox.value, ui.forecastAdvanced.collapsed = "2, 5", 4, False
    camera.run("forecastButton")
    camera.panel("forecast")
    camera.views("forecast")
    camera.app.close()


if __name__ == "__main__":
    if "--at-rest" in sys.argv:
        atRest(Path(sys.argv[1]))
    else:
        main(Path(sys.argv[1]), *map(Path, sys.argv[2:3]))
