"""One store of balls for all tests of training and evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.store import write_store

from .balls import ball_volumes


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished training store; read it, do not write to it."""
    made, folder = ball_volumes(), tmp_path_factory.mktemp("balls")
    write_store(folder, iter(made), len(made))
    return folder
