"""Slicer's own Python files in place of our stand-ins: ScriptedLoadableModule, parameterNodeWrapper, i18n, packaging.

They come from a checkout's Base/Python that ``SLICER_PYTHON_DIR`` names. Some of them compare a widget's class with
classes that our ``.ui`` never uses; those exist here as empty classes, so that the comparison can be made.
"""

from __future__ import annotations

import sys
from pathlib import Path

import slicer

CTK = (
    "ctkCheckBox", "ctkCheckablePushButton", "ctkColorPickerButton", "ctkComboBox", "ctkDirectoryButton",
    "ctkDoubleRangeSlider", "ctkDoubleSlider", "ctkDoubleSpinBox", "ctkRangeWidget",
)  # fmt: skip
SLICER = ("qMRMLRangeWidget", "qMRMLSliderWidget", "qMRMLSpinBox", "qSlicerWidget")
FILES = ("ScriptedLoadableModule", "parameterNodeWrapper", "i18n", "packaging")


def install(folder: Path) -> None:
    """Let ``slicer.<file>`` be Slicer's own. folder: a checkout's Base/Python."""
    place = str(folder / "slicer")
    if not (folder / "slicer" / "ScriptedLoadableModule.py").is_file():
        raise FileNotFoundError(f"SLICER_PYTHON_DIR={folder} is no Base/Python of a Slicer checkout.")
    for name in CTK:
        setattr(sys.modules["ctk"], name, type(name, (), {}))
    for name in SLICER:
        setattr(slicer, name, type(name, (), {}))
    if place not in slicer.__path__:
        slicer.__path__.append(place)
        for name in FILES:
            sys.modules.pop(f"slicer.{name}", None)


def used() -> dict[str, str]:
    """Which file each of them was imported from."""
    found = {name: getattr(sys.modules.get(f"slicer.{name}"), "__file__", None) for name in FILES}
    return {name: str(path) for name, path in found.items() if path is not None}
