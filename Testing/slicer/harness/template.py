"""A stripped T1 on the atlas grid for tests, pictures and benchmarks, written by the Python that has its package."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WRITE = "from braing3n_core.preprocess.template import load_template; load_template().volume.save({!r})"


def writeTemplate(python: str, path: Path) -> Path:
    """The ICBM152 brain (or SRI24, where it is named) as a file. Raises CalledProcessError with what went wrong."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([python, "-c", WRITE.format(str(path))], cwd=ROOT, env=environment, check=True)
    return path
