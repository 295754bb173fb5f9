"""What the guide for users of 3D Slicer says is there: words on the screen, files, commands, names for scripts."""

from __future__ import annotations

import ast
import importlib
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="pip install slicer-core")

from BrainG3NLib import Choices, Samples, Tables
from BrainG3NLib.Requests import DEFAULTS

from .conftest import MODULE, REPOSITORY

GUIDE = (REPOSITORY / "docs" / "slicer.md").read_text(encoding="utf-8")
PROSE = re.sub(r"```.*?```|`[^`]*`", "", GUIDE, flags=re.DOTALL)
SAID = sorted({phrase.strip() for phrase in re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", PROSE)})
OF_SLICER = {"Edit > Application Settings > Modules > Additional module paths", "Reload"}
"""Words on the screen that are Slicer's own."""
WHILE_RUNNING = {"Cancel"}
"""What the button of a run says meanwhile (test_widget.py looks at it)."""


def onScreen() -> set[str]:
    """Every word that the panels show: of the .ui, of the choices, of the tables, of the sample data."""
    ui = ET.parse(MODULE / "Resources" / "UI" / "BrainG3N.ui")
    texts = {e.text for e in ui.iter("string") if e.text}
    choices = {label for words in Choices.words(None).values() for label, _ in words}
    tables = {*Tables.READING_COLUMNS, *Tables.SHORT_READING_COLUMNS, *Tables.EFFECT_COLUMNS, *Tables.VERDICTS}
    samples = {f"{Samples.CATEGORY} > {Samples.NODE}"}
    return texts | choices | tables | samples


def known(phrase: str) -> bool:
    """Whether it is on the screen; ``Disease: Alzheimer's disease`` is a label and a choice."""
    words = onScreen()
    return phrase in words | OF_SLICER | WHILE_RUNNING or all(part in words for part in phrase.split(": "))


def test_every_word_that_the_guide_sets_in_italics_is_on_the_screen() -> None:
    assert len(SAID) > 20 and [phrase for phrase in SAID if not known(phrase)] == []
    assert not known("Make it so")


CONTROLS = ("QComboBox", "QSpinBox", "QDoubleSpinBox", "QPushButton", "QCheckBox", "QLineEdit", "ctkSliderWidget",
            "ctkPathLineEdit", "qMRMLNodeComboBox")  # fmt: skip


def test_every_control_says_what_it_is_for() -> None:
    ui = ET.parse(MODULE / "Resources" / "UI" / "BrainG3N.ui")
    controls = [widget for widget in ui.iter("widget") if widget.get("class") in CONTROLS]
    silent = [w.get("name") for w in controls if not w.findtext("property[@name='toolTip']/string")]
    assert len(controls) > 50 and silent == []


def test_the_guide_names_every_file_of_the_package_once() -> None:
    table = GUIDE[GUIDE.index("| file of `BrainG3NLib`") :]
    named = re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:] if row.startswith("|")))
    assert sorted(named) == sorted(p.stem for p in (MODULE / "BrainG3NLib").glob("*.py") if p.stem != "__init__")


def test_every_command_of_the_guide_is_there() -> None:
    for module in re.findall(r"python -m ([\w.]+)", GUIDE):
        if module not in ("venv", "pytest"):
            assert (REPOSITORY / Path(*module.split("."))).with_suffix(".py").is_file(), module
    scripts = re.findall(r"--python-script (\S+) (.*)", GUIDE)
    assert len(scripts) == 2
    shared = (MODULE / "Examples" / "batch.py").read_text(encoding="utf-8")
    for script, arguments in scripts:
        source = (REPOSITORY / script).read_text(encoding="utf-8") + shared
        words = re.findall(r"(--\w+)|\b([A-Z]{3,})\b", arguments)
        assert words and all(f'"{option or place.lower()}"' in source for option, place in words)


def test_the_python_of_the_guide_uses_names_that_exist() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert [a.name for a in node.names if not hasattr(module, a.name)] == []
    (call,) = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "settings"]
    assert {keyword.arg for keyword in call.keywords} <= set(DEFAULTS)


def test_every_picture_of_the_guide_is_made_by_the_command_that_it_names() -> None:
    from .harness.pictures import PANELS

    shown = set(re.findall(r"pictures/(slicer-[\w-]+)\.png", GUIDE))
    assert shown == {f"slicer-panel-{name}" for name in PANELS} | {
        "slicer-counterfactual-views", "slicer-forecast-views",
    }
