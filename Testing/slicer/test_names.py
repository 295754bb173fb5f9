"""The module uses only names that Slicer has, and the harness offers no others."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")

from .conftest import MODULE, REPOSITORY
from .harness.names import WHERE

NODES = {"AddNewNodeByClass", "GetNodesByClass", "GetFirstNodeByClass", "IsA"}
ORIGINALS = os.environ.get("SLICER_PYTHON_DIR", "")


def used() -> Iterator[str]:
    """``slicer.a.b`` for every such chain in the module's sources."""
    for path in MODULE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                chain = dotted(node)
                if chain.startswith("slicer."):
                    yield ".".join(chain.split(".")[:3])


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


def exists(name: str) -> bool:
    """Whether slicer-core has it, or the table of the application's names."""
    _, head, *rest = name.split(".")
    if any(known == name or known.startswith(f"{name}(") or known.startswith(f"{name}.") for known in WHERE):
        return True
    if head == "mrmlScene":
        return not rest or hasattr(slicer.vtkMRMLScene, rest[0])
    found = getattr(slicer, head, None)
    return found is not None and (not rest or hasattr(found, rest[0]))


def test_every_name_that_the_module_takes_from_slicer_exists() -> None:
    names = set(used())
    assert len(names) > 20
    assert [name for name in sorted(names) if not exists(name)] == []


def test_a_name_that_slicer_lacks_would_be_found() -> None:
    assert not exists("slicer.util.arrayFromDream") and not exists("slicer.vtkMRMLDreamNode")
    assert not exists("slicer.app.dream") and not exists("slicer.mrmlScene.Dream")


def test_every_node_class_that_the_module_names_exists() -> None:
    named = set()
    for path in MODULE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("vtkMRML"):
                named.add(node.value)
    classes = {n for n in named if n.isidentifier() and n.endswith("Node")}
    assert len(classes) > 8 and [n for n in sorted(classes) if not hasattr(slicer, n)] == []


def test_the_stand_ins_offer_nothing_that_is_not_listed() -> None:
    pytest.importorskip("PySide6.QtWidgets", reason="pip install PySide6-Essentials", exc_type=ImportError)
    from .harness.application import Application, LayoutManager, SliceView

    own = {"answer"}  # what a test answers
    offered = {
        f"{kind}.{name.split('(')[0]}"
        for kind, cls in (("slicer.app", Application), ("LayoutManager", LayoutManager), ("SliceView", SliceView))
        for name in vars(cls) if not name.startswith("_") and name not in own
    }
    assert offered <= {name.split("(")[0] for name in WHERE}


@pytest.mark.skipif(not ORIGINALS, reason="set SLICER_PYTHON_DIR to the Base/Python of a checkout of Slicer")
@pytest.mark.parametrize("name", sorted(WHERE))
def test_slicers_own_sources_define_it(name: str) -> None:
    file, text = WHERE[name]
    path = Path(ORIGINALS).parents[1] / file
    if not path.is_file():
        pytest.skip(f"{ORIGINALS} is no whole checkout: it has no {file}")
    assert text in path.read_text(encoding="utf-8", errors="replace")


OPENED = """
import types
from Testing.slicer.harness import originals
from Testing.slicer.harness.application import Slicer
app = Slicer()
ui = app.open().ui
import BrainG3N, slicer
module = BrainG3N.BrainG3N(types.SimpleNamespace(path=slicer.modules.braing3n.path))
assert module.parent.icon is not None and len(slicer.app.startup) == 1
ui.horizonsEdit.text, ui.guidanceSlider.value, ui.seedBox.value, ui.uncertaintyBox.checked = "3, 7", 2.5, 4, False
p = app.widget.parameters
assert (p.horizons, p.guidance, p.seed, p.uncertainty) == ("3, 7", 2.5, 4, False)
ui.targetAgeSlider.value, ui.guidanceAgeBox.value = 80, 3.0
assert (p.targetAge, p.guidanceAge, ui.guidanceAgeBox.enabled, ui.guidanceSexBox.enabled) == (80, 3.0, True, False)
node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Head")
ui.inputSelector.setCurrentNode(node)
assert p.inputVolume is node
p.horizons = "1, 4"
assert ui.horizonsEdit.text == "1, 4"
ui.forecastButton.click()
assert "Head has no voxels" in ui.messageLabel.text
slicer.mrmlScene.Clear(0)
app.turn(0.1)
assert app.widget.parameters.horizons == ui.horizonsEdit.text == "1, 2, 5"
BrainG3N.BrainG3NTest().runTest()
assert {"ScriptedLoadableModule", "parameterNodeWrapper"} <= set(originals.used())
app.close()
"""


@pytest.mark.skipif(not ORIGINALS, reason="set SLICER_PYTHON_DIR to the Base/Python of a checkout of Slicer")
def test_the_module_runs_unchanged_on_slicers_own_python_files(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(MODULE), str(REPOSITORY)]),
                   "XDG_CONFIG_HOME": str(tmp_path)}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", OPENED], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
