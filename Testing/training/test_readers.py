"""Held-out probes: whom they were fitted on, and what they are worth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.evaluate.__main__ import main
from training.evaluate.readers import Reader, Readers, fit_reader, of_common_ages
from training.fit_linear import LinearFit
from training.latents import LatentSet
from training.store import Store

from ..core.tiny_checkpoint import make_tiny_checkpoint

T1 = {"modality": "T1"}


def people(count: int, seed: int, signal: float, name: str = "s", shown_by: int = 1) -> LatentSet:
    """One T1 each, as old in AD as in health; so many of the latents' 400 numbers, from the first on, are up by
    ``signal`` in AD, the rest is noise.
    """
    rng = np.random.default_rng(seed)
    words = rng.permutation(["HC", "AD"] * (count // 2))
    latents = rng.normal(size=(count, 50, 8)).astype(np.float32)
    latents.reshape(count, -1)[words == "AD", :shown_by] += signal
    records = [
        {"subject": f"{name}{i}", "visit": 0, "modality": "T1", "disease": str(w),
         "age_years": float(20 + (words[:i] == w).sum())}
        for i, w in enumerate(words)
    ]
    return LatentSet(torch.from_numpy(latents), records)


def test_a_held_out_probe_judges_as_if_every_word_were_as_frequent() -> None:
    truth = np.array(["AD"] * 8 + ["HC"] * 32)
    shares = np.where(truth[:, None] == "AD", [[0.4, 0.6]], [[0.1, 0.9]])  # the rare word never passes one half
    fit = LinearFit(np.array([[1.0, 1.0]]), np.array([0.0]), 1.0, shares, ("AD", "HC"))
    reader = Reader("disease", ("AD", "HC"), fit, np.array([0.2, 0.8]), truth, shares)
    assert reader.quality == 1.0
    # Log-odds of the second word: 0.6 to 0.4 is below its four to one among the scans, 0.9 to 0.1 above.
    latents = np.log([[[1.5, 1.0]], [[9.0, 1.0]]])
    assert reader.named(latents).tolist() == ["AD", "HC"]


def test_a_probe_fitted_on_other_people_has_its_quality_from_the_evaluated_scans() -> None:
    evaluated, others = people(20, 1, 0.0), people(200, 2, 8.0, "other")
    reader = Readers(evaluated, others).of("disease", T1, ("HC", "AD"))
    assert reader is not None and reader.fitted_on == "200 others" and len(reader.truth) == 20
    alone = fit_reader("disease", others, ("HC", "AD"))
    assert alone is not None and alone.quality > 0.95  # out of fold, where the word can be seen
    assert reader.quality < 0.75  # in the evaluated scans it cannot


def test_more_people_make_a_better_probe_of_the_same_scans() -> None:
    evaluated = people(60, 1, 0.15, shown_by=400)
    few = Readers(evaluated).of("disease", T1, ("HC", "AD"))
    many = Readers(evaluated, people(600, 2, 0.15, "other", shown_by=400)).of("disease", T1, ("HC", "AD"))
    assert few is not None and many is not None
    assert few.fitted_on == "60 of these" and many.fitted_on == "600 others"
    assert many.quality > few.quality


def test_a_label_that_one_number_shows_is_read_there_and_one_that_many_show_in_all_of_them() -> None:
    one = fit_reader("disease", people(200, 1, 1.5), ("HC", "AD"))
    everywhere = fit_reader("disease", people(200, 2, 0.15, shown_by=400), ("HC", "AD"))
    assert one is not None and everywhere is not None
    assert np.count_nonzero(one.fit.weights) < 10 and one.fit.weights[0, 0] != 0 and one.auc > 0.8
    assert np.count_nonzero(everywhere.fit.weights) == 400 and everywhere.auc > 0.8


def test_a_few_evaluated_scans_are_not_what_a_probe_of_others_is_judged_by() -> None:
    others = people(200, 2, 4.0, "other")
    reader = Readers(people(8, 1, 0.0), others).of("disease", T1, ("HC", "AD"))
    assert reader is not None and len(reader.truth) == 200 and reader.quality > 0.9  # four of each word say nothing
    assert Readers(people(10, 1, 0.0), others).of("disease", T1, ("HC", "AD")).quality < 0.9


def test_a_label_that_other_people_do_not_carry_is_read_by_the_evaluated() -> None:
    evaluated, others = people(40, 1, 6.0), people(100, 2, 6.0, "other")
    for record in evaluated.records:
        record["sex"] = {"HC": "F", "AD": "M"}[record["disease"]]
    readers = Readers(evaluated, others)
    found = readers.of("sex", T1)
    assert found is not None and found.fitted_on == "40 of these"
    assert readers.of("disease", {"modality": "T2"}, ("HC", "AD")) is None
    age = readers.of("age_years", T1)
    assert age is not None and age.fitted_on == "100 others" and not age.classes and len(age.truth) == 40


def test_other_people_are_one_probe_for_every_edited_scan_and_the_evaluated_one_a_fold() -> None:
    evaluated, rows = people(60, 1, 4.0), np.array([3, 8, 20, 41, 55])
    own = Readers(evaluated).apart("disease", T1, rows, ("HC", "AD"))
    assert len(own) > 1 and sorted(np.concatenate([places for places, _ in own])) == [0, 1, 2, 3, 4]
    assert all(len(reader.truth) < 60 for _, reader in own)
    others = Readers(evaluated, people(100, 2, 4.0, "other")).apart("disease", T1, rows, ("HC", "AD"))
    assert [places.tolist() for places, _ in others] == [[0, 1, 2, 3, 4]]


def test_no_disease_is_told_by_age() -> None:
    """The ill are old, and the latents show the age alone: among people of their ages nothing is left to read."""
    rng = np.random.default_rng(0)
    ages = [float(a) for a in (*rng.uniform(20, 90, 300), *rng.uniform(55, 85, 100))]
    words = ["HC"] * 300 + ["AD"] * 100
    latents = torch.from_numpy(rng.normal(size=(400, 50, 8)).astype(np.float32))
    latents[:, 0] += torch.tensor(ages)[:, None] / 5
    records = [
        {"subject": f"s{i}", "visit": 0, "modality": "T1", "disease": w, "age_years": a}
        for i, (w, a) in enumerate(zip(words, ages, strict=True))
    ]
    kept = of_common_ages(records, range(400), "disease")
    assert {records[i]["age_years"] for i in kept} == {a for a in ages if min(ages[300:]) <= a <= max(ages[300:])}
    reader = fit_reader("disease", LatentSet(latents, records), ("HC", "AD"))
    assert reader is not None and reader.fitted_on == str(len(kept)) and reader.auc < 0.65


def test_people_without_an_age_and_numbers_are_all_kept() -> None:
    records = [{"disease": "HC", "age_years": None}, {"disease": "AD", "age_years": 80.0},
               {"disease": "HC", "age_years": 20.0}]
    assert of_common_ages(records, range(3), "disease") == [0]
    assert of_common_ages(records, [1, 2], "age_years") == [1, 2]
    assert of_common_ages(records, [], "disease") == []


def test_people_who_are_evaluated_cannot_be_among_the_others(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = make_tiny_checkpoint(tmp_path / "tiny")
    store = Store.open(balls)
    same = LatentSet(torch.randn(len(store), 1200, 32), [dict(r) for r in store.records])
    same.save(tmp_path / "latents")
    arguments = ["all", "--store", str(balls), "--checkpoint", str(folder), "-o", str(tmp_path / "out"), "--quick",
                 "--only", "controllability", "--reader-latents", str(tmp_path / "latents")]
    assert main(arguments) == 1
    assert "of the people of --reader-latents are evaluated too" in capsys.readouterr().err
    for record in same.records:
        record["age_years"] += 1  # somebody else of the same name
    same.save(tmp_path / "latents")
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "out/tables/controllability.json").read_text())["table"]["rows"]
    assert any(cell.endswith("others") for row in rows for cell in row)
