"""How alike drawn brains and scans are."""

from __future__ import annotations

import numpy as np
import pytest

from training.likeness import apart, likeness

SUBJECTS = np.array([f"s{i}" for i in range(40)])


def test_brains_of_the_same_kind_cannot_be_told_apart_and_others_or_less_various_ones_can() -> None:
    rng = np.random.default_rng(0)
    real, same = rng.normal(size=(40, 6)), rng.normal(size=(40, 6))
    assert apart(same, real, SUBJECTS) < 1
    assert apart(same + 1, real, SUBJECTS) > 3 and apart(0.2 * same, real, SUBJECTS) > 1.5
    assert likeness(5 * same + 3, 5 * real + 3, SUBJECTS) == pytest.approx(likeness(same, real, SUBJECTS))
    assert likeness(same, real, SUBJECTS).frechet_over_floor == pytest.approx(1, abs=0.3)
