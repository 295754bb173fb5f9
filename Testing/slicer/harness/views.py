"""A slice view off screen: Slicer's own slice logic, colour legend and corner annotation in a real render window."""

from __future__ import annotations

import ctypes.util
import os
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

LEGEND = "vtkMRMLColorLegendDisplayableManager"
SIZE = (420, 460)
WINDOWS = {"EGL": "vtkEGLRenderWindow", "OSMesa": "vtkOSOpenGLRenderWindow"}
"""By library: the window of VTK that draws off screen with it."""
REMEDY = "apt-get install libegl1 libgl1"


def offScreen() -> str:
    """The kind of window that can be opened here without a screen; empty for none. VTK is told which."""
    found = next((window for library, window in WINDOWS.items() if ctypes.util.find_library(library)), "")
    if found:
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", found)
    return found


class SliceView:
    """An axial view. mrml: the harness's scene with its logics. name: of the view. size: pixels.

    window: also draw, with legend and annotation. A legend is drawn only if its view was there before it, as in Slicer.
    """

    def __init__(self, mrml: Any, name: str, size: tuple[int, int] = SIZE, window: bool = False) -> None:
        self.size, self.scene = size, mrml.scene
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(mrml.application)
        self.logic.SetMRMLScene(mrml.scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientationToAxial()
        self.node.SetDimensions(*size, 1)
        logics = mrml.application.GetSliceLogics() or vtk.vtkCollection()
        logics.AddItem(self.logic)
        mrml.application.SetSliceLogics(logics)
        self.window: Any = None
        if window:
            self._open(mrml)

    def cornerAnnotation(self) -> Any:
        """As qMRMLSliceView's."""
        return self.annotation

    def scheduleRender(self) -> None:
        """Nothing: a picture is drawn when it is asked for."""

    def fit(self) -> None:
        """Show all of the volumes, as Slicer does when one was loaded."""
        self.logic.FitSliceToAll(*self.size)

    def show(self, background: Any, foreground: Any = None, opacity: float = 0.7) -> None:
        """Put volumes into the layers."""
        layers = self.logic.GetSliceCompositeNode()
        layers.SetBackgroundVolumeID(background.GetID())
        layers.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        layers.SetForegroundOpacity(opacity)
        self.fit()

    def blended(self) -> np.ndarray:
        """The layers alone, which needs no OpenGL. (rows, columns, 3) bytes."""
        self.logic.GetBlend().Update()
        return self._pixels(self.logic.GetBlend().GetOutput())

    def picture(self) -> np.ndarray:
        """The layers with legend and annotation, drawn by OpenGL. (rows, columns, 3) bytes."""
        self.logic.GetBlend().Update()
        self.mapper.SetInputData(self.logic.GetBlend().GetOutput())
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        return self._pixels(grab.GetOutput())

    def close(self) -> None:
        """Let go of the window while its OpenGL is still there."""
        if self.window is not None:
            self.group.SetMRMLDisplayableNode(None)
            self.window.Finalize()
            self.window = None

    def _pixels(self, image: Any) -> np.ndarray:
        pixels = vtk_to_numpy(image.GetPointData().GetScalars())
        return np.ascontiguousarray(pixels.reshape(self.size[1], self.size[0], -1)[::-1, :, :3])

    def _open(self, mrml: Any) -> None:
        self.renderer, self.window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetSize(*self.size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()  # displayable managers ask for one
        self.interactor.SetRenderWindow(self.window)
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
