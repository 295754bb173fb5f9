"""The forecaster's pairs are of one person, in one contrast, with time between them."""

from __future__ import annotations

from training.train_forecaster import visit_pairs


def record(subject: str, visit: str, age_years: float | None, modality: str = "T1") -> dict[str, object]:
    return {"subject": subject, "visit": visit, "age_years": age_years, "modality": modality}


def test_pairs_go_both_ways_within_a_person_and_a_contrast() -> None:
    pairs = visit_pairs([record("a", "1", 60.0), record("a", "2", 62.5), record("b", "1", 50.0),
                         record("a", "2", 62.5, "T2")])  # fmt: skip
    assert list(zip(pairs.baseline.tolist(), pairs.follow_up.tolist(), strict=True)) == [(0, 1), (1, 0)]
    assert pairs.horizon_years.tolist() == [2.5, -2.5]


def test_visits_without_an_age_or_without_time_between_them_make_no_pair() -> None:
    records = [record("a", "1", 60.0), record("a", "1", 60.0), record("a", "2", None), record("b", "1", 50.0),
               record("b", "2", 50.0)]  # fmt: skip
    assert len(visit_pairs(records).horizon_years) == 0
    assert visit_pairs([*records, record("a", "3", 61.0)]).baseline.tolist() == [0, 1, 5, 5]
