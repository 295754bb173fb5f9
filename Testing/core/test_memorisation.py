"""The privacy audit finds a copy, and does not call a subject's own second visit a stranger's likeness."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.errors import RequestError
from braing3n_core.memorisation import Reference, audit, nearest, report

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(40, 30)).astype(np.float32)


def reference(latents: np.ndarray, subjects: np.ndarray | None = None) -> Reference:
    return Reference(latents, np.arange(len(latents)).astype(str) if subjects is None else subjects)


def test_the_nearest_scan_is_that_of_the_full_table_of_distances() -> None:
    samples = RNG.normal(size=(7, 30)).astype(np.float32)
    found = nearest(samples, reference(REAL), rows=3)
    table = np.linalg.norm(samples[:, None] - REAL[None], axis=2)
    np.testing.assert_array_equal(found.row, table.argmin(1))
    np.testing.assert_allclose(found.distance, table.min(1), rtol=1e-4)
    np.testing.assert_allclose(found.share, table.min(1) / np.partition(table, 1)[:, 1], rtol=1e-4)


def test_other_scans_of_the_same_subject_count_neither_as_neighbours_nor_as_somebody_else() -> None:
    twice, subjects = np.concatenate([REAL, REAL + 0.01]), np.tile(np.arange(40).astype(str), 2)
    known, strangers = (audit(REAL[:1] + 0.005, reference(twice, who)) for who in (subjects, None))
    assert known.real.distance.min() > 1 and strangers.real.distance.max() < 0.1
    assert known.found.share < 0.1 and strangers.found.share > 0.9


def test_a_copy_is_suspicious_and_fresh_draws_hardly_ever_are() -> None:
    fresh = RNG.normal(size=(200, 30)).astype(np.float32)
    found = report([str(i) for i in range(201)], np.concatenate([fresh, REAL[5:6] + 1e-3]), reference(REAL))
    assert found["nearest"][200] == {
        "participant_id": "200", "distance": pytest.approx(0.0055, abs=2e-3), "share": pytest.approx(0, abs=1e-2),
        "reference_row": 5, "suspicious": True,
    }
    assert found["suspicious"] < 0.1 * 200


def test_the_audit_finds_the_planted_copy_and_only_it() -> None:
    rng = np.random.default_rng(5)
    training = rng.normal(size=(40, 300))
    samples = 1.3 * rng.normal(size=(10, 300))
    samples[7] = training[12] + 0.05 * rng.normal(size=300)
    found = audit(samples, reference(training))
    assert np.flatnonzero(found.copies).tolist() == [7] and found.found.row[7] == 12


def test_two_visits_of_one_subject_do_not_lower_the_limit_of_the_audit() -> None:
    rng = np.random.default_rng(6)
    people = rng.normal(size=(30, 200))
    visits = np.concatenate([people, people + 0.01 * rng.normal(size=people.shape)])
    apart = audit(people[:1], reference(visits, np.tile(np.arange(30), 2)))
    together = audit(people[:1], reference(visits))
    assert apart.limit > 10 > 1 > together.limit


def test_a_brain_like_the_average_is_near_to_everybody_and_no_copy_of_anybody() -> None:
    found = audit(np.concatenate([0.05 * REAL[:9], 0.05 * REAL[9:10] + 0.95 * REAL[12]]), reference(REAL))
    assert found.near.all() and np.flatnonzero(found.copies).tolist() == [9]
    of_two = audit(REAL[:1], reference(REAL[:2]))  # nobody is anybody else's third, so that distance alone decides
    assert of_two.share_limit == 1 and of_two.copies.all()


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
        report(["a"], np.zeros((1, 9), np.float32), reference(REAL))
    with pytest.raises(RequestError, match="not of two subjects"):
        reference(REAL, np.zeros(40).astype(str))
