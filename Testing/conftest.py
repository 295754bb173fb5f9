"""Shared fixtures: where the real test data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real MRI for tests, or a skip that says how to provide it."""
    folder = Path(os.environ.get("BRAING3N_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("Needs the folder of real test MRI: set BRAING3N_TEST_DATA (see CONTRIBUTING.md).")
    return folder
