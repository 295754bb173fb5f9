"""A stand-in for ``slicer.parameterNodeWrapper``: typed fields kept in a vtkMRMLScriptedModuleNode, bound to widgets.

Small on purpose: str, bool, int, float (with WithinRange) and references to nodes. Slicer's own is used instead where
``SLICER_PYTHON_DIR`` names it.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any

import vtk

NAME = "SlicerParameterName"


@dataclass(frozen=True)
class WithinRange:
    """Refuses numbers outside."""

    minimum: float
    maximum: float

    def check(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], got {value}")


class Field:
    """One typed field as a Python property of the wrapper."""

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        annotated = typing.get_origin(hint) is typing.Annotated
        self.name, self.type = name, typing.get_args(hint)[0] if annotated else hint
        self.rules = [a for a in typing.get_args(hint)[1:] if isinstance(a, WithinRange)] if annotated else []
        self.is_node = isinstance(self.type, type) and issubclass(self.type, vtk.vtkObject)
        self.default = None if self.is_node else default

    def __get__(self, owner: Any, cls: type | None = None) -> Any:
        if owner is None:
            return self
        node = owner.parameterNode
        if self.is_node:
            return node.GetNodeReference(self.name)
        if self.name not in node.GetParameterNames():
            return self.default
        text = node.GetParameter(self.name)
        return text == "True" if self.type is bool else self.type(text)

    def __set__(self, owner: Any, value: Any) -> None:
        for rule in self.rules:
            rule.check(value)
        if self.is_node:
            owner.parameterNode.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        elif not isinstance(value, (self.type, int) if self.type is float else self.type):
            raise TypeError(f"{self.name} holds a {self.type.__name__}, got {value!r}")
        else:
            owner.parameterNode.SetParameter(self.name, str(value))


def _init(self: Any, node: Any, prefix: str | None = None) -> None:
    self.parameterNode, self._widgets, self._updating = node, {}, False
    for name, field in self.fields.items():
        if not field.is_node and name not in node.GetParameterNames():
            setattr(self, name, field.default)


def _connect(self: Any, gui: Any) -> int:
    """Widgets with the dynamic property follow the node, and the node follows them."""
    for widget in vars(gui).values():
        name = widget.property(NAME)
        if not name:
            continue
        if name not in self.fields:
            raise ValueError(f"Cannot find a param with the given name: {name}")
        self._widgets[name] = widget
        _watch(self, name, widget)
    self._observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _to_gui(self))
    _to_gui(self)
    return 0


def _disconnect(self: Any, tag: Any) -> None:
    self.parameterNode.RemoveObserver(self._observer)
    self._widgets.clear()


SIGNALS = {
    "qMRMLNodeComboBox": "currentNodeChanged", "QCheckBox": "stateChanged", "QSpinBox": "valueChanged",
    "QDoubleSpinBox": "valueChanged", "ctkSliderWidget": "valueChanged", "QLineEdit": "textChanged",
}  # fmt: skip
ATTRIBUTE = {"QCheckBox": "checked", "QLineEdit": "text"}


def _watch(self: Any, name: str, widget: Any) -> None:
    kind = type(widget).__name__
    if kind not in SIGNALS:
        raise RuntimeError(f"Unable to create GUI connector from {self.fields[name].type} to {kind}")

    def changed(*_: Any) -> None:
        if not self._updating:
            isNode = kind == "qMRMLNodeComboBox"
            setattr(self, name, widget.currentNode() if isNode else getattr(widget, ATTRIBUTE.get(kind, "value")))

    def heard(*arguments: Any) -> None:
        if self._widgets.get(name) is widget:  # not after the gui was disconnected
            changed(*arguments)

    getattr(widget, SIGNALS[kind]).connect(heard)


def _to_gui(self: Any) -> None:
    if self._updating:
        return
    self._updating = True
    try:
        for name, widget in self._widgets.items():
            kind, value = type(widget).__name__, getattr(self, name)
            if kind == "qMRMLNodeComboBox":
                widget.setCurrentNode(value)
            else:
                setattr(widget, ATTRIBUTE.get(kind, "value"), value)
    finally:
        self._updating = False


def parameterNodeWrapper(cls: type) -> type:
    """Turn a class of annotations into a typed view of a parameter node."""
    fields = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        fields[name] = Field(name, hint, getattr(cls, name, None))
        setattr(cls, name, fields[name])
    cls.fields = fields
    cls.__init__ = _init
    cls.connectGui = _connect
    cls.disconnectGui = _disconnect
    cls.AddObserver = lambda self, event, callback: self.parameterNode.AddObserver(event, callback)
    return cls


def module() -> types.ModuleType:
    """The module ``slicer.parameterNodeWrapper``."""
    made = types.ModuleType("slicer.parameterNodeWrapper")
    made.parameterNodeWrapper, made.WithinRange = parameterNodeWrapper, WithinRange
    return made
