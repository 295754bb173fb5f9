"""Pictures for the documentation, made by the module itself: each panel, and the views of its results.

    BRAING3N_PYTHON=... python -m Testing.slicer.harness.pictures docs/pictures [SCAN_ON_THE_ATLAS.nii.gz]
    python -m Testing.slicer.harness.pictures docs/pictures --at-rest

Without a scan the ICBM152 brain is taken. Each picture is written as soon as what it shows is there. ``--at-rest``
photographs the panels as they open, which needs no model.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "BrainG3NSlicer")]

import numpy as np

WIDTH, SECONDS = 470, 3600


class Photographer:
    """A panel with a scan in it. folder: of the pictures."""

    def __init__(self, folder: Path, scan: Path | None) -> None:
        from Testing.slicer.harness.application import Slicer

        self.folder, self.app = folder, Slicer()
        self.ui = self.app.open().ui
        self.head = self._load(scan)
        self.ui.inputSelector.setCurrentNode(self.head)
        self.ui.pythonPath.currentPath = os.environ.get("BRAING3N_PYTHON", sys.executable)
        for box, value in ((self.ui.stageBox, "registered"), (self.ui.brainBox, "none")):
            box.currentIndex = box.findData(value)
        self.ui.correctBiasBox.checked, self.ui.coarseBox.checked = False, False
        self.app._parent.resize(WIDTH, 2400)

    def _load(self, scan: Path | None) -> Any:
        from BrainG3NLib.Volumes import fillNode, slicerOrder

        from braing3n_core.preprocess.template import load_template
        from braing3n_core.volume import Volume
        from Testing.slicer.conftest import addVolume

        volume = Volume.load(scan) if scan else load_template().volume
        name = "T1" if scan else "ICBM152"
        head = addVolume(self.app.mrml.scene, name, slicerOrder(volume.array), volume.affine, fillNode)
        brightest = float(np.percentile(volume.array, 99.5))
        head.GetScalarVolumeDisplayNode().SetWindowLevel(brightest, brightest / 2)
        return head

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
        print(self.ui.messageLabel.text, flush=True)  # noqa: T201
        return self.app.widget.panels.run

    def panel(self, name: str) -> None:
        """One panel as a PNG."""
        self.app.turn(0.2)
        getattr(self.ui, f"{name}Collapsible").grab().save(str(self.folder / f"slicer-panel-{name}.png"))

    def views(self, name: str, layers: list[tuple[Any, Any]]) -> None:
        """Slice views beside each other as a PNG."""
        from Testing.slicer.harness.views import SliceView

        row = []
        for number, (background, foreground) in enumerate(layers):
            view = SliceView(self.app.mrml, f"{name}{number}", (330, 360))
            view.show(background, foreground)
            row.append(view.picture())
        save(row, self.folder / f"slicer-{name}-views.png")


def save(pictures: list[np.ndarray], path: Path) -> None:
    """Pictures beside each other as a PNG of few colours, which is small."""
    from PySide6 import QtGui

    row = np.ascontiguousarray(np.concatenate(pictures, axis=1).astype(np.uint8))
    height, width, _ = row.shape
    picture = QtGui.QImage(row.data, width, height, 3 * width, QtGui.QImage.Format_RGB888)
    picture.convertToFormat(QtGui.QImage.Format_Indexed8).save(str(path))


PANELS = ("compute", "preprocess", "probe", "counterfactual", "forecast", "view")


def atRest(folder: Path) -> None:
    """The panels as they open."""
    camera = Photographer(folder, None)
    camera.ui.pythonPath.currentPath = ""
    for name in PANELS:
        camera.panel(name)
    camera.app.close()


def main(folder: Path, scan: Path | None = None) -> None:
    """All panels and views."""
    camera = Photographer(folder, scan)
    ui, head = camera.ui, camera.head
    camera.panel("preprocess")
    camera.connect()
    ui.targetDiseaseBox.currentIndex = ui.targetDiseaseBox.findData("AD")
    ui.guidanceSlider.value = 2.0
    ui.horizonsEdit.text, ui.samplesBox.value = "2, 5", 4
    camera.panel("forecast")
    camera.run("probeButton")
    camera.panel("probe")
    named = camera.run("counterfactualButton").named
    camera.panel("counterfactual")
    camera.panel("view")
    camera.views("counterfactual", [(head, None), (named["counterfactual"], None), (head, named["difference"])])
    named = camera.run("forecastButton").named
    camera.views("forecast", [(head, None), (named["forecast"], None), (head, named["difference"])])
    camera.app.close()


if __name__ == "__main__":
    if "--at-rest" in sys.argv:
        atRest(Path(sys.argv[1]))
    else:
        main(Path(sys.argv[1]), *map(Path, sys.argv[2:3]))
