"""Stand-ins for the ctk and qMRML widgets that the module's ``.ui`` names: their properties, signals and behaviour."""

from __future__ import annotations

import sys
import types
from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from .qtFacade import WIDGETS, Manners, facade, install

Property, Signal, Slot = QtCore.Property, QtCore.Signal, QtCore.Slot


class CollapsibleButton(QtWidgets.QGroupBox):
    """ctkCollapsibleButton: a bar with an arrow; its content is hidden while it is collapsed."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._bar = QtWidgets.QToolButton(self)
        self._bar.setToolButtonStyle(QtCore.Qt.ToolButtonTextBesideIcon)
        self._bar.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._bar.clicked.connect(lambda: self._set(not self._collapsed))
        self.setFlat(True)
        self.setStyleSheet("QGroupBox{border:0;margin-top:26px;padding:0}")

    def resizeEvent(self, event: Any) -> None:
        self._bar.setGeometry(0, 0, self.width, 24)
        super().resizeEvent(event)

    def _set(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget) and child is not self._bar:
                child.setVisible(not collapsed)
        self._draw()
        self.contentsCollapsed.emit(collapsed)

    def settle(self) -> None:
        """Hide what was loaded into a button that is collapsed already."""
        collapsed, self._collapsed = self._collapsed, False
        self._set(collapsed)

    def _draw(self) -> None:
        self._bar.setArrowType(QtCore.Qt.RightArrow if self._collapsed else QtCore.Qt.DownArrow)
        self.setMaximumHeight(26 if self._collapsed else 16777215)

    def _setText(self, text: str) -> None:
        self._bar.setText(text)
        self._draw()

    text = Property(str, lambda self: self._bar.text(), _setText)
    collapsed = Property(bool, lambda self: self._collapsed, _set)


class SliderWidget(QtWidgets.QWidget):
    """ctkSliderWidget: a slider with a spin box."""

    valueChanged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self._box = QtWidgets.QDoubleSpinBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._box)
        self._slider.setRange(0, 1000)
        self._slider.sliderMoved.connect(lambda v: self._box.setValue(self._low + v / 1000 * (self._high - self._low)))
        self._low, self._high = 0.0, 99.0
        self._box.valueChanged.connect(self._changed)

    def _changed(self, value: float) -> None:
        span = self._high - self._low
        self._slider.setValue(round(1000 * (value - self._low) / span) if span else 0)
        self.valueChanged.emit(value)

    def _range(self, low: float | None = None, high: float | None = None) -> None:
        self._low, self._high = self._low if low is None else low, self._high if high is None else high
        self._box.setRange(self._low, self._high)

    value = Property(float, lambda self: self._box.value(), lambda self, v: self._box.setValue(v))
    minimum = Property(float, lambda self: self._low, lambda self, v: self._range(low=v))
    maximum = Property(float, lambda self: self._high, lambda self, v: self._range(high=v))
    singleStep = Property(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    decimals = Property(int, lambda self: self._box.decimals(), lambda self, v: self._box.setDecimals(v))


class PathLineEdit(QtWidgets.QWidget):
    """ctkPathLineEdit: a path with a button that opens a chooser."""

    currentPathChanged = Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._edit, button = QtWidgets.QLineEdit(), QtWidgets.QToolButton()
        button.setText("...")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._edit, 1)
        row.addWidget(button)
        self._edit.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda self: self._edit.text(), lambda self, v: self._edit.setText(v))


class MrmlWidget(QtWidgets.QWidget):
    """qMRMLWidget: hands its scene to the widgets that the ``.ui`` connects. As a module's parent, it reloads."""

    mrmlSceneChanged = Signal(object)
    remake = property(lambda self: self._remake, lambda self, made: setattr(self, "_remake", made))

    def reload(self) -> None:
        """qSlicerScriptedLoadableModuleWidget's: make the module's widget again."""
        self._remake()

    def setMRMLScene(self, scene: Any) -> None:
        for child in self.findChildren(NodeComboBox):
            child.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)

    @Slot(object)
    def mrmlScene(self) -> Any:
        return None


class NodeComboBox(QtWidgets.QWidget):
    """qMRMLNodeComboBox: the nodes of some classes in the scene, and ``None`` first where that is allowed."""

    currentNodeChanged = Signal(object)
    SIGNALS = ("currentNodeChanged(vtkMRMLNode*)",)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._types: list[str] = []
        self._none, self._scene, self._tags = False, None, []
        self._ids: list[str] = []
        self._box = QtWidgets.QComboBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._box.currentIndexChanged.connect(lambda _: self.currentNodeChanged.emit(self.currentNode()))

    def setMRMLScene(self, scene: Any) -> None:
        """Follow a scene."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent) if scene is not None else ()
        self._tags = [scene.AddObserver(event, lambda *_: self._fill()) for event in events]
        self._fill()

    def mrmlScene(self) -> Any:
        return self._scene

    def currentNode(self) -> Any:
        """The chosen node, or None."""
        index = self._box.currentIndex()
        known = self._scene is not None and 0 <= index < len(self._ids) and self._ids[index]
        return self._scene.GetNodeByID(self._ids[index]) if known else None

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node; None for none."""
        identity = node.GetID() if node is not None else ""
        if identity in self._ids:
            self._box.setCurrentIndex(self._ids.index(identity))
        elif identity == "":
            self._box.setCurrentIndex(-1)

    def _fill(self) -> None:
        chosen = self.currentNode()
        found = [self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes())] if self._scene else []
        usable = [n for n in found if n.GetClassName() in self._types and not n.GetHideFromEditors()]
        self._box.blockSignals(True)
        self._box.clear()
        self._ids = []
        for identity, name in ([("", "None")] if self._none else []) + [(n.GetID(), n.GetName()) for n in usable]:
            self._ids.append(identity)
            self._box.addItem(name)
        self._box.blockSignals(False)
        if chosen is not None and chosen.GetID() in self._ids:
            self._box.setCurrentIndex(self._ids.index(chosen.GetID()))
        elif not chosen and not self._none and self._ids:
            self.currentNodeChanged.emit(self.currentNode())

    def _setTypes(self, types: list[str]) -> None:
        self._types = list(types)

    nodeTypes = Property("QStringList", lambda self: self._types, _setTypes)
    noneEnabled = Property(bool, lambda self: self._none, lambda self, v: setattr(self, "_none", v))
    addEnabled = Property(bool, lambda self: False, lambda self, v: None)
    removeEnabled = Property(bool, lambda self: False, lambda self, v: None)
    renameEnabled = Property(bool, lambda self: False, lambda self, v: None)
    currentNodeID = Property(str, lambda self: (self.currentNode().GetID() if self.currentNode() else ""))


def _stand_in(base: type, name: str) -> type:
    return facade(base, name)


SCENE_CONNECTION = ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")


class Loader(QtUiTools.QUiLoader):
    """Loads a ``.ui`` with our classes; one that Slicer does not have is an error, as it is there."""

    def __init__(self, classes: dict[str, type]) -> None:
        super().__init__()
        self._classes, self.kept = classes, []

    def read(self, path: str) -> Any:
        """The widget of a file. Its connections are checked, and made by MrmlWidget: they carry a VTK object."""
        tree = ElementTree.parse(path)
        for wire in tree.iter("connection"):
            found = (wire.findtext("signal"), wire.findtext("slot"))
            if found != SCENE_CONNECTION:
                raise ValueError(f"The .ui connects {found}, which this harness does not know.")
        for connections in tree.findall("connections"):
            tree.getroot().remove(connections)
        data = QtCore.QBuffer()
        data.setData(ElementTree.tostring(tree.getroot()))
        data.open(QtCore.QIODevice.ReadOnly)
        made = self.load(data)
        for button in made.findChildren(CollapsibleButton):
            button.settle()
        return made

    def createWidget(self, className: str, parent: Any = None, name: str = "") -> Any:
        if className not in self._classes:
            raise ValueError(f"The .ui uses {className}, which this harness does not know.")
        widget = self._classes[className](parent)
        widget.setObjectName(name)
        self.kept.append(widget)
        return widget


def install_widgets() -> dict[str, type]:
    """Make ``import ctk`` work. Returns the classes that a ``.ui`` may name."""
    qt = install()
    ctk = types.ModuleType("ctk")
    ctk.ctkCollapsibleButton = _stand_in(CollapsibleButton, "ctkCollapsibleButton")
    ctk.ctkSliderWidget = _stand_in(SliderWidget, "ctkSliderWidget")
    ctk.ctkPathLineEdit = _stand_in(PathLineEdit, "ctkPathLineEdit")
    sys.modules["ctk"] = ctk
    ours = {n: getattr(ctk, n) for n in ("ctkCollapsibleButton", "ctkSliderWidget", "ctkPathLineEdit")}
    ours["qMRMLWidget"] = _stand_in(MrmlWidget, "qMRMLWidget")
    ours["qMRMLNodeComboBox"] = _stand_in(NodeComboBox, "qMRMLNodeComboBox")
    return {**{name: getattr(qt, name) for name in WIDGETS}, **ours}


__all__ = ["Loader", "Manners", "install_widgets"]
