"""A panel has the probes that the labels at hand allow, and says which it has not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from braing3n_core.errors import RequestError
from training.fit_probes import complete_visits, fit_panel
from training.latents import LatentSet

pytest.importorskip("sklearn")


def cohort(*, sexes: str = "FM", truth: bool = False) -> LatentSet:
    """Ten subjects in T1 and T2 of one visit, named as a prepared cohort names them; every second has another T1."""
    chance, rows, latents = np.random.default_rng(1), [], []
    for i in range(10):
        for visit, modality in (("1", "T1"), ("1", "T2"), ("2", "T1")):
            if visit == "2" and i % 2:
                continue
            record = {"subject": f"c:{i}", "visit": visit, "modality": modality, "age_years": 40.0 + 3 * i}
            record |= {"sex": sexes[i % len(sexes)], "disease": "AD" if i == 3 else "HC" if i % 2 else "MCI"}
            if truth:
                record["truth"] = {"ventricles_ml": 10.0 + i, "gm_ml": 600.0, "wm_ml": 500.0}
            rows.append({**record, "age_years": None if i == 9 else record["age_years"]})
            signal = np.array([i / 10, i % 2, modality == "T2", visit == "2"])
            latents.append(signal + chance.normal(0, 0.05, (16, 4)))
    return LatentSet(torch.tensor(np.stack(latents), dtype=torch.float32), rows)


def test_a_cohort_without_the_truth_of_phantoms_gets_the_probes_of_its_labels() -> None:
    told: list[str] = []
    panel = fit_panel(cohort(), told.append)
    assert [probe.task for probe in panel.probes] == ["age", "sex", "modality"]
    assert panel.probes[0].quality["n"] == 14, "the subject without an age is left out"
    said = "; ".join(told)
    assert "no probe of ventricle_volume: 0 subjects" in said and "no probe of brain_volume" in said
    assert "disease is not learnt for AD: 1 of the 5 subjects" in said and "no probe of disease" in said


def test_a_label_that_everybody_shares_makes_no_probe_and_the_truth_makes_two_more() -> None:
    told: list[str] = []
    panel = fit_panel(cohort(sexes="F", truth=True), told.append)
    assert [probe.task for probe in panel.probes] == ["age", "ventricle_volume", "modality"]
    assert "no probe of sex: all have the label F" in told
    assert "no probe of brain_volume: all have the label 1100.0" in told


def test_contrasts_are_learnt_from_visits_that_have_them_all() -> None:
    records = cohort().records
    assert {(records[i]["visit"], records[i]["modality"]) for i in complete_visits(records)} == {
        ("1", "T1"), ("1", "T2"),
    }  # fmt: skip


def test_without_labels_there_is_no_panel() -> None:
    data = cohort()
    bare = [{"subject": r["subject"], "visit": r["visit"], "modality": "T1"} for r in data.records]
    with pytest.raises(RequestError, match="No task has labels"):
        fit_panel(LatentSet(data.latents, bare))
