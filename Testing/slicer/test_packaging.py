"""What Slicer's build would package: every file of the module is in the lists, and the extension configures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "BrainG3NSlicer"
INDEX = json.loads((MODULE / "Resources" / "ExtensionsIndex" / "BrainG3N.json").read_text(encoding="utf-8"))

STAND_IN = """
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/Use.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "lib")
"""
MACRO = """
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  file(WRITE "${CMAKE_BINARY_DIR}/packaged.txt" "${MODULE_SCRIPTS};${MODULE_RESOURCES}")
endmacro()
"""


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What the extension's CMake hands to Slicer's macro, configured by the real CMake with a stand-in macro."""
    if shutil.which("cmake") is None:
        text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", "BrainG3N")
        return set(re.findall(r"^  ((?:BrainG3NLib|Resources)/\S+|BrainG3N\.py)$", text, re.MULTILINE))
    folder = tmp_path_factory.mktemp("cmake")
    (folder / "SlicerConfig.cmake").write_text(STAND_IN)
    (folder / "Use.cmake").write_text(MACRO)
    (folder / "Nothing.cmake").write_text("")
    command = ["cmake", "-S", str(REPOSITORY), "-B", str(folder / "build"), f"-DSlicer_DIR={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set((folder / "build" / "packaged.txt").read_text().split(";"))


def test_every_file_of_the_module_is_packaged(packaged: set[str]) -> None:
    files = [MODULE / "BrainG3N.py", *MODULE.glob("BrainG3NLib/*.py"), *MODULE.glob("Resources/UI/*"),
             *MODULE.glob("Resources/Icons/*"), *MODULE.glob("Resources/*.txt")]  # fmt: skip
    assert {f.relative_to(MODULE).as_posix() for f in files} == packaged


def test_the_shell_stays_small() -> None:
    assert len((MODULE / "BrainG3N.py").read_text(encoding="utf-8").splitlines()) <= 125


KINDS = {"$schema": str, "category": str, "scm_url": str, "scm_revision": str, "build_dependencies": list,
         "build_subdirectory": str, "tier": int}  # fmt: skip
"""What schema 1.0.1 of the Extensions Index allows and this entry uses; the first three are required."""


def test_the_index_entry_follows_the_schema_of_the_index() -> None:
    assert {"$schema", "category", "scm_url"} <= set(INDEX) <= set(KINDS)
    assert all(isinstance(value, KINDS[name]) for name, value in INDEX.items())
    assert INDEX["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert 1 <= INDEX["tier"] <= 5 and all(isinstance(name, str) for name in INDEX["build_dependencies"])
    assert INDEX["build_subdirectory"] == "." and INDEX["build_dependencies"] == ["PyTorch"]
    assert "project(BrainG3N)" in (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")


def test_the_index_entry_does_not_pretend_to_have_an_address() -> None:
    guide = (REPOSITORY / "docs" / "slicer.md").read_text(encoding="utf-8")
    assert INDEX["scm_url"].startswith("https://") and INDEX["scm_url"].endswith("BrainG3N.git")
    assert (".invalid/" in INDEX["scm_url"]) == ("`scm_url` is a placeholder" in guide)


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a clone")
def test_with_a_history_of_one_commit_the_index_would_take_it(tmp_path: Path) -> None:
    """The index adds up files and .git, in units of 2^20 bytes."""
    subprocess.run(["git", "clone", "-q", "--depth", "1", REPOSITORY.as_uri(), tmp_path / "clone"], check=True)
    taken = sum(file.stat().st_size for file in (tmp_path / "clone").rglob("*") if file.is_file())
    assert taken < 90 * 2**20  # 100 are allowed: a checkpoint on its way out still fits


def test_icon_and_screenshots_of_the_extension_are_files_at_the_address_of_the_index() -> None:
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    (address,) = re.findall(r'set\(BrainG3N_FILES "(.+)/raw/main"\)', text)
    assert f"{address}.git" == INDEX["scm_url"]
    files = re.findall(r"\$\{BrainG3N_FILES\}/([^\s\"]+)", text)
    assert len(files) > 2 and [f for f in files if not (REPOSITORY / f).is_file()] == []


def test_every_bound_widget_names_a_parameter_that_exists() -> None:
    tree = ElementTree.parse(MODULE / "Resources" / "UI" / "BrainG3N.ui")
    bound = {p.findtext("string") for p in tree.iter("property") if p.get("name") == "SlicerParameterName"}
    source = (MODULE / "BrainG3NLib" / "Parameters.py").read_text(encoding="utf-8")
    assert bound and bound <= set(re.findall(r"^    (\w+):", source, re.MULTILINE))


def test_nothing_of_the_module_imports_torch_and_the_logic_knows_no_qt() -> None:
    sources = {p.stem: p.read_text(encoding="utf-8") for p in MODULE.rglob("*.py")}
    assert not [name for name, text in sources.items() if re.search(r"^\s*(import|from) torch", text, re.MULTILINE)]
    with_qt = {name for name, text in sources.items() if re.search(r"^\s*(import|from) (qt|ctk)\b", text, re.MULTILINE)}
    assert with_qt == {"Widget", "ComputePanel", "Settings"}
