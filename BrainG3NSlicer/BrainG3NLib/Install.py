"""What the local worker's Python lacks, and its installation by Slicer's own means. Knows no Qt.

A Python of the user's own is only judged: what it lacks is named with the command to type. Slicer's own Python gets
PyTorch from the PyTorch extension and the rest from ``slicer.packaging``, or ``slicer.util.pip_install`` without it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from braing3n_core.errors import BrainG3NError, DependencyError

REQUIREMENTS = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"
DISK_MB = 620
"""Of the requirements with all that they need, without PyTorch: ``python -m benchmarks.install_size``."""
IMPORTS = {"antspyx": "ants", "simpleitk": "SimpleITK"}
"""Import names that differ from the package's."""
ABSENT = "absent"
_SECONDS = 120.0
_JUDGE = """
import importlib.metadata, importlib.util, json, sys
broken = {}
for package, name in json.loads(sys.argv[1]).items():
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        broken[package] = "absent"
        continue
    gone = [str(f) for f in files if f.suffix != ".pyc" and not f.locate().exists()]
    if gone:
        broken[package] = f"{len(gone)} of its files are missing, for example {gone[0]}"
    elif importlib.util.find_spec(name) is None:
        broken[package] = f"it has no module {name}"
print(json.dumps(broken))
"""


@dataclass(frozen=True)
class State:
    """Of one Python. broken: by package, ``absent`` or what is missing of it."""

    python: str
    isSlicers: bool
    broken: dict[str, str]

    @property
    def complete(self) -> bool:
        return not self.broken

    def text(self) -> str:
        """In a sentence, with what to do."""
        if self.complete:
            return f"{self.python} has all that is needed."
        lacking = f"{self.python} lacks {', '.join(sorted(self.broken))}."
        return lacking if self.isSlicers else f"{lacking} Type there: {command(self)}"


def packages() -> list[str]:
    """The requirements, without PyTorch."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def importName(package: str) -> str:
    """The name that a package is imported by."""
    return IMPORTS.get(package.lower(), package)


def judge(python: str, environment: dict[str, str] | None = None) -> State:
    """Compare what is installed there with what is on its disk; nothing heavy is imported. Raises DependencyError."""
    wanted = {package: importName(package) for package in ["torch", *packages()]}
    try:
        done = subprocess.run(
            [python, "-c", _JUDGE, json.dumps(wanted)], capture_output=True, text=True, env=environment,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
        broken = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise DependencyError(
            "slicer.python", f"{python} could not be asked what it has ({type(error).__name__}).",
            "Point 'Python' in the Compute panel to a working Python 3.11 or newer.",
        ) from error  # fmt: skip
    return State(python, python == sys.executable, broken)


def command(state: State) -> str:
    """What a user types to complete a Python of his own."""
    absent, halfDone = partition(state)
    orders = [f"install {' '.join(absent)}"] if absent else []
    orders += [f"install --force-reinstall --no-deps {' '.join(halfDone)}"] if halfDone else []
    return " && ".join(f'"{state.python}" -m pip {order}' for order in orders)


def partition(state: State) -> tuple[list[str], list[str]]:
    """The packages that are not there at all, and those of which a part is missing."""
    absent = sorted(package for package, why in state.broken.items() if why == ABSENT)
    return absent, sorted(set(state.broken) - set(absent))


def question(state: State) -> str:
    """The one dialog before anything is installed."""
    lines = ["BrainG3N runs its model in Slicer's own Python. It will install there:", ""]
    if "torch" in state.broken:
        lines.append("- PyTorch, through the PyTorch extension (up to several GB, it asks itself)")
    others = sorted(set(state.broken) - {"torch"})
    if others:
        lines.append(f"- {', '.join(others)}, and what they need (about {DISK_MB} MB at most)")
    return "\n".join([*lines, "", "A remote worker needs none of this. Install now?"])


def install(state: State) -> None:
    """Complete Slicer's own Python, after the user agreed. Main thread. Raises DependencyError."""
    if not state.isSlicers:
        raise DependencyError("slicer.install", "This Python is not Slicer's own.", f"Type: {command(state)}")
    if "torch" in state.broken:
        _installTorch("torch" in partition(state)[1])
    absent, halfDone = ([p for p in part if p != "torch"] for part in partition(state))
    try:
        if halfDone:  # to pip they look installed
            slicer.util.pip_install(["--force-reinstall", "--no-deps", *halfDone])
        if absent:
            _pip(absent)
    except (subprocess.CalledProcessError, RuntimeError) as error:
        raise DependencyError(
            "slicer.install", f"{', '.join([*absent, *halfDone])} could not be installed: {error}.",
            "Press Install again; what is there already is kept. Slicer's Python console has the details.",
        ) from error  # fmt: skip


def _pip(names: list[str]) -> None:
    try:
        from slicer import packaging
    except ImportError:  # an older Slicer
        slicer.util.pip_install(names)
    else:
        packaging.pip_ensure(names, prompt_install=False, requester="BrainG3N")


def _installTorch(halfDone: bool) -> None:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise DependencyError(
            "slicer.pytorch", "PyTorch comes from the PyTorch extension, which is not installed.",
            "Install 'PyTorch' in the Extensions Manager and restart Slicer, or name another Python.",
        ) from error  # fmt: skip
    logic: Any = PyTorchUtils.PyTorchUtilsLogic()
    if halfDone:
        logic.uninstallTorch()
    if logic.installTorch(askConfirmation=True) is None:
        raise BrainG3NError("slicer.pytorch", "PyTorch was not installed.", "Press Install again when you like.")
