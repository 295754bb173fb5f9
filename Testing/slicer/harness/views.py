"""A slice view off screen: Slicer's own slice logic, colour legend and corner annotation in a real render window."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from BrainG3NLib.Stamp import PLACE, SYNTHETIC, isSynthetic
from vtk.util.numpy_support import vtk_to_numpy

LEGEND = "vtkMRMLColorLegendDisplayableManager"


class SliceView:
    """An axial view. mrml: the harness's scene with its logics. name: of the view. size: pixels."""

    def __init__(self, mrml: Any, name: str, size: tuple[int, int] = (420, 420)) -> None:
        self.size, self.scene, self.text = size, mrml.scene, ""
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(mrml.application)
        self.logic.SetMRMLScene(mrml.scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientationToAxial()
        self.node.SetDimensions(*size, 1)
        logics = mrml.application.GetSliceLogics() or vtk.vtkCollection()
        logics.AddItem(self.logic)
        mrml.application.SetSliceLogics(logics)
        self.mrml, self.window = mrml, None

    def show(self, background: Any, foreground: Any = None, opacity: float = 0.7) -> None:
        """Put volumes into the layers; the view says SYNTHETIC if one of them is."""
        layers = self.logic.GetSliceCompositeNode()
        layers.SetBackgroundVolumeID(background.GetID())
        layers.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        layers.SetForegroundOpacity(opacity)
        self.logic.FitSliceToAll(*self.size)
        self.text = SYNTHETIC if isSynthetic(self.scene, layers) else ""

    def blended(self) -> np.ndarray:
        """The layers alone, which needs no OpenGL. (rows, columns, 3) bytes."""
        self.logic.GetBlend().Update()
        pixels = vtk_to_numpy(self.logic.GetBlend().GetOutput().GetPointData().GetScalars())
        return np.ascontiguousarray(pixels.reshape(self.size[1], self.size[0], -1)[::-1, :, :3])

    def picture(self) -> np.ndarray:
        """The layers with legend and annotation, drawn by OpenGL. (rows, columns, 3) bytes."""
        if self.window is None:
            self._open(self.mrml)
        self.annotation.SetText(PLACE, self.text)
        self.logic.GetBlend().Update()
        self.mapper.SetInputData(self.logic.GetBlend().GetOutput())
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
        return np.ascontiguousarray(pixels.reshape(self.size[1], self.size[0], -1)[::-1, :, :3])

    def _open(self, mrml: Any) -> None:
        self.renderer, self.window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetSize(*self.size)
        self.window.AddRenderer(self.renderer)
        self.mapper = vtk.vtkImageMapper()
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        slice_ = vtk.vtkActor2D()
        slice_.SetMapper(self.mapper)
        self.renderer.AddViewProp(slice_)
        self.annotation = vtk.vtkCornerAnnotation()
        self.annotation.SetMaximumFontSize(18)
        self.renderer.AddViewProp(self.annotation)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(mrml.application)
        if not factory.IsDisplayableManagerRegistered(LEGEND):
            factory.RegisterDisplayableManager(LEGEND)
        self.group = factory.InstantiateDisplayableManagers(self.renderer)
        self.group.SetMRMLDisplayableNode(self.node)
