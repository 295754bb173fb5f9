"""What the tests of the engine and its faces share: a tiny checkpoint, and a scan that needs no registration."""

from __future__ import annotations

from pathlib import Path

import pytest

from braing3n_core.preprocess.template import load_template

from .tiny_checkpoint import make_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every part real, small, with random weights."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def registered_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stripped T1 on the atlas grid: the template itself, which nobody has to register."""
    folder = tmp_path_factory.mktemp("scan")
    return load_template().volume.save(folder / "sub-01_ses-2_T1w.nii.gz")
