"""Pictures for the documentation, made by the module itself.

    BRAING3N_PYTHON=... python -m Testing.slicer.harness.pictures SCAN_ON_THE_ATLAS.nii.gz docs/pictures

A slice is blended by Slicer's own slice logic, colours and opacity included; no OpenGL is needed for that.
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
import slicer
from vtk.util.numpy_support import vtk_to_numpy

SIZE = (420, 420)


def slicePicture(scene: Any, background: Any, foreground: Any = None, opacity: float = 0.7) -> np.ndarray:
    """An axial slice through the middle of a volume as Slicer blends it. (rows, columns, 3) bytes."""
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode(f"Picture{scene.GetNumberOfNodes()}")
    composite = logic.GetSliceCompositeNode()
    composite.SetBackgroundVolumeID(background.GetID())
    composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
    composite.SetForegroundOpacity(opacity)
    node.SetOrientationToAxial()
    node.SetDimensions(*SIZE, 1)
    logic.FitSliceToAll(*SIZE)
    logic.GetBlend().Update()
    image = logic.GetBlend().GetOutput()
    rgba = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(SIZE[1], SIZE[0], -1)[::-1]
    return np.ascontiguousarray(rgba[..., :3])


def save(pictures: list[np.ndarray], path: Path) -> None:
    """Pictures beside each other as a PNG."""
    from PySide6 import QtGui

    row = np.ascontiguousarray(np.concatenate(pictures, axis=1).astype(np.uint8))
    height, width, _ = row.shape
    QtGui.QImage(row.data, width, height, 3 * width, QtGui.QImage.Format_RGB888).save(str(path))


def main(scan: Path, folder: Path) -> None:
    """Run a counterfactual from the panel and photograph panel and slices."""
    from BrainG3NLib.Volumes import fillNode, slicerOrder
    from BrainG3NLib.Worker import summary

    from braing3n_core.volume import Volume
    from Testing.slicer.conftest import addVolume
    from Testing.slicer.harness.application import Slicer

    app, volume = Slicer(), Volume.load(scan)
    ui = app.open().ui
    head = addVolume(app.mrml.scene, "T1", slicerOrder(volume.array), volume.affine, fillNode)
    brightest = float(np.percentile(volume.array, 99.5))
    head.GetScalarVolumeDisplayNode().SetWindowLevel(brightest, brightest / 2)
    ui.inputSelector.setCurrentNode(head)
    ui.pythonPath.currentPath = os.environ.get("BRAING3N_PYTHON", "")
    for box, value in ((ui.stageBox, "registered"), (ui.brainBox, "none"), (ui.targetDiseaseBox, "AD")):
        box.currentIndex = box.findData(value)
    ui.correctBiasBox.checked, ui.guidanceSlider.value = False, 2.0
    ui.testButton.click()
    app.wait(lambda: "Ready" in ui.computeStatus.text, 60)
    ui.counterfactualButton.click()
    app.wait(lambda: not app.widget.panels.isRunning(), 300)
    ui.pythonPath.currentPath = ""
    ui.computeStatus.text = summary(app.widget.panels.capabilities)
    app._parent.resize(460, 1750)
    app.picture(folder / "slicer-panels.png")
    named = app.widget.panels.run.named
    views = [(head, None), (named["counterfactual"], None), (head, named["difference"])]
    save([slicePicture(app.mrml.scene, *view) for view in views], folder / "slicer-counterfactual.png")
    app.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
