"""The repository's Python files as syntax trees, and what each imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CORE = "braing3n_core"
SOURCE_FOLDERS = (CORE, "training", "benchmarks", "Testing", "BrainG3NSlicer")
STANDARD_LIBRARY = frozenset(sys.stdlib_module_names)


@dataclass(frozen=True)
class Module:
    """One file. name: dotted, from the repository's root."""

    path: Path
    name: str
    tree: ast.Module
    lines: int

    @property
    def place(self) -> str:
        return self.path.relative_to(REPOSITORY).as_posix()

    def imports(self) -> Iterator[str]:
        """Absolute dotted names of everything imported, wherever in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from self._from(node)

    def _from(self, node: ast.ImportFrom) -> Iterator[str]:
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        base = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
        yield from (f"{source}.{alias.name}" for alias in node.names)

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call with the written name of what is called."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, ast.unparse(node.func)


def under(name: str, *prefixes: str) -> bool:
    """Whether a dotted name is one of the prefixes or lies in one."""
    return any(name == p or name.startswith(p + ".") for p in prefixes)


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """All modules of these top-level folders."""
    found = []
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            found.append(Module(path, name, ast.parse(text), text.count("\n")))
    return tuple(found)


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Path and text of every text file of the repository that git tracks or would track."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    places = listing.stdout.splitlines() or [m.place for m in modules(*SOURCE_FOLDERS)]
    for place in places:
        path = REPOSITORY / place
        if path.suffix in (".py", ".md", ".toml", ".txt", ".sh", ".cff", ".json", "") and path.is_file():
            yield place, path.read_text(encoding="utf-8", errors="replace")
