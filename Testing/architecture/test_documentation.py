"""What the README promises can be typed."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess

import pytest

import braing3n_core
from braing3n_core.cli_parser import build_parser

from .source import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for _, block in BLOCKS for line in block.splitlines() if line.startswith("braing3n ")]
TARGETS = sorted(set(re.findall(r"\bmake ([a-z-]+)", " ".join(block for _, block in BLOCKS))))


def test_the_readme_has_commands_to_check() -> None:
    assert len(COMMANDS) >= 4
    assert {"demo", "test"} <= set(TARGETS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_is_understood(command: str) -> None:
    build_parser().parse_args(shlex.split(command, comments=True)[1:])


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    result = subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_python_of_the_readme_compiles_and_uses_public_names() -> None:
    for code in (block for language, block in BLOCKS if language == "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "braing3n_core":
                assert {alias.name for alias in node.names} <= set(braing3n_core.__all__)


def test_every_file_that_the_documents_link_to_is_there() -> None:
    documents = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")]
    links = [(d, link) for d in documents for link in re.findall(r"\]\(([^)#:]+)\)", d.read_text(encoding="utf-8"))]
    assert not [f"{d.name} links to {link}" for d, link in links if not (d.parent / link).exists()]
