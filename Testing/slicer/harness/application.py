"""``slicer.app``, ``slicer.mrmlScene``, ``slicer.util``'s windows and the bases of scripted modules.

With ``SLICER_PYTHON_DIR`` (a checkout's Base/Python) Slicer's own ScriptedLoadableModule and parameterNodeWrapper run.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import shiboken6
import slicer
import slicer.util
import vtk

from . import originals, parameters
from .mrml import Mrml
from .qtFacade import install
from .widgets import Loader, install_widgets

MODULE = Path(__file__).resolve().parents[3] / "BrainG3NSlicer"


class SliceView:
    """qMRMLSliceView: the text over a slice, a real vtkCornerAnnotation."""

    def __init__(self) -> None:
        self._annotation, self.renders = vtk.vtkCornerAnnotation(), 0

    def cornerAnnotation(self) -> Any:
        return self._annotation

    def scheduleRender(self) -> None:
        self.renders += 1


VIEWS = ("Red", "Yellow", "Green")


class LayoutManager:
    """qSlicerLayoutManager with the three views of Slicer's usual layout. views: by name; else with no window."""

    def __init__(self, views: dict[str, Any] | None = None) -> None:
        self._views = views or {name: SliceView() for name in VIEWS}

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._views)

    def sliceWidget(self, name: str) -> Any:
        return types.SimpleNamespace(sliceView=lambda: self._views[name])


class Application:
    """slicer.app, as far as the module and its bases ask it."""

    def __init__(self) -> None:
        self.answers: list[bool] = []
        self.questions: list[str] = []
        self.errors: list[str] = []
        self.startup: list[Any] = []
        self._layoutManager = LayoutManager()

    def connect(self, signature: str, callback: Any) -> bool:
        """Only the one signal that modules wait for."""
        if signature != "startupCompleted()":
            raise ValueError(f"qSlicerApplication has no signal {signature} in this harness")
        self.startup.append(callback)
        return True

    def layoutManager(self) -> LayoutManager:
        return self._layoutManager

    def moduleManager(self) -> Any:
        return types.SimpleNamespace(connect=lambda *_: True, disconnect=lambda *_: True)

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"https://slicer.readthedocs.io/{name}"

    def userSettings(self) -> Any:
        import qt

        return qt.QSettings()

    def settings(self) -> Any:
        return self.userSettings()

    def translate(self, context: str, text: str) -> str:
        return text

    def answer(self, text: str, *_: Any, **__: Any) -> bool:
        """What a user answers to a question; an unexpected question is an error."""
        self.questions.append(text)
        return self.answers.pop(0)


class ScriptedLoadableModule:
    """Base of the class that describes a module."""

    def __init__(self, parent: Any) -> None:
        self.parent, self.moduleName = parent, type(self).__name__


class ScriptedLoadableModuleWidget:
    """Base of the class that shows a module. parent: a qMRMLWidget with a layout."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent, self.layout = parent, parent.layout()

    def resourcePath(self, name: str) -> str:
        return str(MODULE / "Resources" / name)

    def setup(self) -> None:
        """The developer section of the real one is not shown."""

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)  # Slicer's own


class ScriptedLoadableModuleLogic:
    """Base of the logic; owns the parameter node."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest:
    """Base of a module's own test."""

    def delayDisplay(self, text: str, msec: int = 0) -> None:
        """Nothing waits in a test."""


class Slicer:
    """One application for a test: its scene, its answers, and the module's panel. drawn: views with real windows."""

    def __init__(self, drawn: bool = False) -> None:
        qt = install()
        qt.QApplication.setOrganizationName("BrainG3NTests")
        qt.QApplication.setApplicationName("BrainG3NTests")
        self.mrml = Mrml()
        slicer.mrmlScene = self.mrml.scene
        slicer.app = Application()
        self._install()
        self.widget: Any = None
        self._parent: Any = None
        self.views: dict[str, Any] = {}
        if drawn:
            self._draw()

    def _draw(self) -> None:
        """Open the slice views before there are volumes, as the application does."""
        from .views import SliceView as Drawn

        self.views = {name: Drawn(self.mrml, name, window=True) for name in VIEWS}
        slicer.app._layoutManager = LayoutManager(self.views)

    def _install(self) -> None:
        self.classes = install_widgets()
        for name in ("qMRMLWidget", "qMRMLNodeComboBox"):
            setattr(slicer, name, self.classes[name])
        path = str(MODULE / "BrainG3N.py")
        own = types.SimpleNamespace(path=path, widgetRepresentation=lambda: self._parent)
        slicer.modules = types.SimpleNamespace(braing3n=own)
        slicer.util.loadUI = self.loadUI
        slicer.util.childWidgetVariables = named
        slicer.util.startupEnvironment = lambda: dict(os.environ)
        slicer.util.confirmYesNoDisplay = slicer.app.answer
        slicer.util.delayDisplay = lambda *_, **__: None
        slicer.util.errorDisplay = lambda text, *_, **__: slicer.app.errors.append(text)
        if not os.environ.get("SLICER_PYTHON_DIR"):
            base = types.ModuleType("slicer.ScriptedLoadableModule")
            for cls in (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic,
                        ScriptedLoadableModuleTest):  # fmt: skip
                setattr(base, cls.__name__, cls)
            sys.modules["slicer.ScriptedLoadableModule"] = base
            sys.modules["slicer.parameterNodeWrapper"] = parameters.module()
        else:
            originals.install(Path(os.environ["SLICER_PYTHON_DIR"]))

    def loadUI(self, path: str) -> Any:
        """Slicer's own .ui loading: PySide6's loader with our classes."""
        self.loader = Loader(self.classes)
        return self.loader.read(path)

    def open(self) -> Any:
        """Open the module's panel; returns the module's widget."""
        import qt

        importlib.import_module("BrainG3N")
        self._parent = self.classes["qMRMLWidget"]()
        self._parent.setLayout(qt.QVBoxLayout())
        self._parent.remake = self._make
        self._make()
        self._parent.resize(430, 900)
        self._parent.show()
        return self.widget

    def _make(self) -> None:
        """A widget of the module as it is loaded now, where Slicer's reload looks for it."""
        self.widget = slicer.modules.BrainG3NWidget = sys.modules["BrainG3N"].BrainG3NWidget(self._parent)
        self.widget.setup()

    def turn(self, seconds: float = 0.0) -> None:
        """Let the event loop run."""
        import time

        import qt

        end = time.monotonic() + seconds
        while True:
            qt.QApplication.processEvents()
            if time.monotonic() >= end:
                return
            time.sleep(0.01)

    def wait(self, done: Any, seconds: float) -> bool:
        """Let the event loop run until ``done()``; False when it never was."""
        import time

        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            self.turn(0.02)
        return True

    def picture(self, path: Path) -> Path:
        """The panel as a PNG."""
        self.turn(0.1)
        self._parent.grab().save(str(path))
        return path

    def close(self) -> None:
        """Close the module, then the scene."""
        if self.widget is not None:
            self.widget.cleanup()
        if self._parent is not None:
            self._parent.close()
            self.turn()
            shiboken6.delete(self._parent)  # now, and not when Python's collector happens to come by
            self._parent = self.widget = self.loader = None
        for view in self.views.values():
            view.close()
        self.mrml.close()


def named(widget: Any) -> Any:
    """The named widgets of a loaded .ui as attributes, as ``slicer.util.childWidgetVariables`` gives them."""
    from PySide6 import QtWidgets

    found = type("Widgets", (), {})()
    for child in widget.findChildren(QtWidgets.QWidget):
        if child.objectName and isinstance(child.objectName, str):
            setattr(found, child.objectName, child)
    return found
