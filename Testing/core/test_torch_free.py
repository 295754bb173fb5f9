"""What Slicer and scripts import works in an interpreter that has none of the heavy packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "monai", "ants", "SimpleITK", "nibabel", "nilearn", "scipy", "sklearn", "matplotlib", "safetensors")

SCRIPT = """
import importlib, sys
heavy = {heavy!r}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in heavy:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Block())
for name in {names!r}:
    importlib.import_module(name)
loaded = sorted(set(heavy) & set(sys.modules))
sys.exit(f"loaded {{loaded}}" if loaded else 0)
"""


def import_without_heavy(*names: str) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(heavy=HEAVY, names=names)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", [
    "", ".client", ".schema", ".errors", ".progress", ".atlas", ".volume", ".cli", ".remote", ".local_worker",
])
def test_it_imports_without_any_heavy_package(name: str) -> None:
    result = import_without_heavy(f"braing3n_core{name}")
    assert result.returncode == 0, result.stderr


def test_the_block_would_notice_torch() -> None:
    assert "blocked: torch" in import_without_heavy("braing3n_core.models.mae").stderr


def test_the_public_names_that_need_no_torch_resolve_without_it() -> None:
    script = SCRIPT.format(heavy=HEAVY, names=["braing3n_core"]).replace(
        "loaded = ",
        "from braing3n_core import BrainG3NError, Cancel, Conditions, ForecastRequest, ProcessEngine, Result, Volume\n"
        "loaded = ",
    )  # fmt: skip
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
