"""Style and types are tests like any other, so that one command covers them."""

from __future__ import annotations

import subprocess
import sys

from .source import REPOSITORY


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def test_ruff_has_nothing_to_say() -> None:
    result = run("ruff", "check", "--no-cache", ".")
    assert result.returncode == 0, result.stdout


def test_the_core_type_checks() -> None:
    result = run("mypy")
    assert result.returncode == 0, result.stdout
