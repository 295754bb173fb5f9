"""PySide6 under the name ``qt``, with PythonQt's manners.

Properties are attributes (``button.text = "Apply"``), signals are connected by their C++ signature
(``button.connect("clicked(bool)", f)``), all classes lie in one flat module. A name that Qt does not have is an error.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

_METHODS = ("parent", "children", "layout", "property", "font", "palette", "style", "window", "model", "geometry",
            "rect", "pos", "sizeHint", "minimumSizeHint", "isVisible", "isEnabled", "itemText",
            "currentWidget")  # fmt: skip
"""What stays a method in PythonQt although C++ has a property or getter of that name."""


class Manners:
    """PythonQt's way of connecting, and its refusal of unknown attributes."""

    def __getattribute__(self, name: str) -> Any:
        if name == "connect":  # PySide6 looks this one name up on its own
            return super().__getattribute__("_connect_by_name")
        return super().__getattribute__(name)

    def _connect_by_name(self, signature: str, callback: Any) -> bool:
        """Connect a signal by its C++ signature, ``clicked(bool)``. Raises for one that the object does not have."""
        if signature in getattr(self, "SIGNALS", ()):  # carries a VTK object, which Qt's types here do not know
            getattr(self, signature.split("(")[0]).connect(callback)
            return True
        normal = signature.replace(" ", "")
        if self.metaObject().indexOfSignal(normal) < 0:
            raise ValueError(f"{self.metaObject().className()} has no signal {signature}")
        QtCore.QObject.connect(self, QtCore.SIGNAL(normal), callback)
        return True

    def __setattr__(self, name: str, value: Any) -> None:
        known = name.startswith("_") or isinstance(getattr(type(self), name, None), (property, QtCore.Property))
        if not known and not isinstance(value, QtCore.QObject):  # the loader hangs children on their parent
            raise AttributeError(f"{type(self).__name__} has no property {name!r} in Slicer")
        super().__setattr__(name, value)


def facade(base: type, name: str | None = None) -> type:
    """A subclass of a Qt class whose Qt properties are Python attributes."""
    made = type(name or base.__name__, (Manners, base), {"__module__": "qt"})
    meta = base.staticMetaObject
    for index in range(meta.propertyCount()):
        key = meta.property(index).name()
        ours = isinstance(getattr(base, key, None), QtCore.Property)  # of a stand-in: an attribute already
        if key not in _METHODS and not ours:
            setattr(made, key, _attribute(meta.property(index)))
    made.name = made.objectName
    return made


def _attribute(of_qt: QtCore.QMetaProperty) -> property:
    """A Qt property as a Python one, read and written by Qt's own description of it."""
    return property(lambda self: of_qt.read(self), lambda self, value: of_qt.write(self, value))


WIDGETS = (
    "QWidget", "QFrame", "QPushButton", "QToolButton", "QLabel", "QLineEdit", "QSpinBox", "QDoubleSpinBox", "QCheckBox",
    "QComboBox", "QProgressBar", "QTableWidget", "QGroupBox", "QRadioButton", "QTextEdit", "QPlainTextEdit", "QSlider",
    "QMenu", "QDialog", "QScrollArea",
)  # fmt: skip
PLAIN = (
    "QVBoxLayout", "QHBoxLayout", "QFormLayout", "QGridLayout", "QSizePolicy", "QTableWidgetItem", "QHeaderView",
    "QAbstractItemView", "QStyle", "QMessageBox",
)  # fmt: skip


class FileDialog(QtWidgets.QFileDialog):
    """PythonQt gives the chosen path alone, where PySide6 gives a pair."""

    chosen = ""
    """What the user of a test chooses; empty is Cancel."""

    @classmethod
    def getSaveFileName(cls, parent: Any = None, caption: str = "", place: str = "", kinds: str = "") -> str:
        return cls.chosen


def build() -> types.ModuleType:
    """The module ``qt``."""
    qt = types.ModuleType("qt")
    for name in WIDGETS:
        setattr(qt, name, facade(getattr(QtWidgets, name)))
    qt.QTimer = facade(QtCore.QTimer)
    qt.QObject = facade(QtCore.QObject)
    for name in PLAIN:
        setattr(qt, name, getattr(QtWidgets, name))
    qt.QFileDialog = FileDialog
    for name in ("QIcon", "QPixmap", "QColor", "QDesktopServices", "QKeySequence", "QAction"):
        setattr(qt, name, getattr(QtGui, name))
    for name in ("Qt", "QUrl", "QSettings", "QSize", "QFile"):
        setattr(qt, name, getattr(QtCore, name))
    qt.QApplication = QtWidgets.QApplication
    return qt


SPARE = [None] * 1_000_000
"""PySide6 gives back a reference of None that it never took, each time a property of ours is set or a signal carries
None. Before Python 3.12 that ends in "deallocating None": these are references to lose."""


def install() -> types.ModuleType:
    """Make ``import qt`` work; an application exists afterwards."""
    if "qt" not in sys.modules:
        QtWidgets.QApplication.instance() or QtWidgets.QApplication(["BrainG3N tests"])
        sys.modules["qt"] = build()
    return sys.modules["qt"]
