"""The privacy audit finds a copy, and does not call a subject's own second visit a stranger's likeness."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.errors import RequestError
from braing3n_core.memorisation import Reference, nearest, real_to_real, report

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(40, 30)).astype(np.float32)


def test_the_nearest_scan_is_that_of_the_full_table_of_distances() -> None:
    samples = RNG.normal(size=(7, 30)).astype(np.float32)
    index, distance = nearest(samples, REAL, rows=3)
    table = np.linalg.norm(samples[:, None] - REAL[None], axis=2)
    np.testing.assert_array_equal(index, table.argmin(1))
    np.testing.assert_allclose(distance, table.min(1), rtol=1e-4)


def test_other_scans_of_the_same_subject_do_not_count_as_neighbours() -> None:
    twice = np.concatenate([REAL, REAL + 0.01])
    subjects = np.tile(np.arange(40).astype(str), 2)
    assert real_to_real(Reference(twice, subjects)).min() > 1
    assert real_to_real(Reference(twice, np.arange(80).astype(str))).max() < 0.1


def test_a_copy_is_suspicious_and_fresh_draws_hardly_ever_are() -> None:
    reference = Reference(REAL, np.arange(40).astype(str))
    fresh = RNG.normal(size=(200, 30)).astype(np.float32)
    found = report([str(i) for i in range(201)], np.concatenate([fresh, REAL[5:6] + 1e-3]), reference)
    assert found["nearest"][200] == {
        "participant_id": "200", "distance": pytest.approx(0.0055, abs=2e-3), "reference_row": 5, "suspicious": True,
    }
    assert found["suspicious"] < 0.2 * 200


def test_a_reference_is_read_from_a_folder_with_its_subjects(tmp_path: Path) -> None:
    np.save(tmp_path / "latents.npy", REAL.reshape(40, 10, 3).astype(np.float16))
    (tmp_path / "records.json").write_text(json.dumps([{"subject": f"s{i // 2}"} for i in range(40)]))
    opened = Reference.open(tmp_path)
    assert opened.latents.shape == (40, 30) and len(np.unique(opened.subjects)) == 20


def test_what_is_no_reference_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="Cannot read"):
        Reference.open(tmp_path)
    np.save(tmp_path / "latents.npy", REAL[:1])
    with pytest.raises(RequestError, match="Two or more"):
        Reference.open(tmp_path)
    with pytest.raises(RequestError, match="the reference 30"):
        report(["a"], np.zeros((1, 9), np.float32), Reference(REAL, np.arange(40).astype(str)))
