"""Made-up volumes shared by the preprocessing tests."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.volume import Volume
from Testing.core.preprocess import synthetic_heads


@pytest.fixture(scope="session")
def brain() -> Volume:
    return synthetic_heads.brain()


@pytest.fixture(scope="session")
def head() -> tuple[Volume, np.ndarray]:
    return synthetic_heads.head()


@pytest.fixture(scope="session")
def atlas_brain() -> Volume:
    return synthetic_heads.atlas_brain()
