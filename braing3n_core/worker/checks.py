"""Running the parser on a file, with a clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ..errors import VolumeError
from .settings import Limits


def judge_file(folder: Path, name: str, limits: Limits) -> dict[str, str] | None:
    """Why the volume ``folder/name`` is refused, or None. The file is read in a process of its own."""
    command = [
        sys.executable, "-m", "braing3n_core.worker.parser", name, str(limits.parse_bytes),
        str(max(1, int(limits.parse_seconds))),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=folder, env=parser_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=limits.parse_seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _refusal("volume.time", f"reading it takes longer than {limits.parse_seconds:g} s")
    return _verdict(done.returncode, done.stdout)


def parser_environment() -> dict[str, str]:
    """The worker's environment without its secrets, and with this package to be found."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("BRAING3N_")}
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return keep | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class ParserDied(Exception):
    """The parser was ended by somebody else: the file is not to blame, try again."""


def _verdict(exit_code: int, output: bytes) -> dict[str, str] | None:
    if exit_code == -9:
        raise ParserDied
    try:
        error = json.loads(output)["error"]
    except (ValueError, KeyError, TypeError):
        return _refusal("volume.unreadable", "reading it broke the process that read it")
    return error if isinstance(error, dict) else None


def _refusal(code: str, why: str) -> dict[str, str]:
    return VolumeError(code, f"The file is refused: {why}.", "Export the scan again, or convert it.").to_dict()
