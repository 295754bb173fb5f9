"""Brains drawn under the conditions of scans."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.drawing import carry
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from braing3n_core.schema import GUIDANCE_SCALE, GenerateRequest
from training.conditions import conditions_of
from training.drawn import drawn_like, one_a_subject
from training.latents import LatentSet
from training.stage import save_again

from ..core.tiny_checkpoint import make_tiny_checkpoint, with_another_generator

RECORDS = [
    {"subject": f"s{i}", "visit": i % 2, "modality": ("T1", "T2")[i == 3], "disease": ("AD", "HC")[i % 2]}
    for i in range(10)
]


@pytest.fixture(scope="module")
def inference(tmp_path_factory: pytest.TempPathFactory) -> Inference:
    """A generator that draws AD with a guidance of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    old = load_checkpoint(make_tiny_checkpoint(folder / "white") / "dit")
    old.config["disease_guidance"] = {"AD": 3.0}
    new = save_again(old, folder, old.tensors("pt", dtype=None))
    return Inference(Parts(with_another_generator(folder / "white", new.folder, folder / "set"), "cpu"))


def test_each_subject_gives_its_first_scan_with_the_labels_and_the_limit_is_spread_over_them() -> None:
    twice = LatentSet(torch.zeros(20, 1, 1), [*RECORDS, *({**r, "visit": 7} for r in RECORDS)], "t")
    chosen = one_a_subject(twice, 5, modality="T1")
    assert [r["subject"] for r in chosen.records] == ["s0", "s2", "s5", "s7", "s9"]
    assert {r["visit"] for r in chosen.records} == {0, 1} and not one_a_subject(twice, 5, modality="FLAIR").records
    assert [r["subject"] for r in one_a_subject(twice, 5, modality="T1", disease="HC").records] == [
        "s1", "s5", "s7", "s9"
    ]  # fmt: skip


def test_each_brain_is_drawn_with_the_guidance_of_its_disease_whatever_is_drawn_beside_it(inference: Inference) -> None:
    brains = drawn_like(inference, RECORDS)
    by_scale = {scale: drawn_like(inference, RECORDS, guidance_scale=scale) for scale in (3.0, GUIDANCE_SCALE)}
    for brain, record, *asked in zip(brains, RECORDS, by_scale[3.0], by_scale[GUIDANCE_SCALE], strict=True):
        own, other = asked if record["disease"] == "AD" else reversed(asked)
        np.testing.assert_allclose(brain, own, rtol=1e-4, atol=1e-4)
        assert np.abs(brain - other).max() > 0.01


def test_one_row_of_conditions_serves_all_noises(inference: Inference) -> None:
    record = {**RECORDS[0], "modality": "T1"}
    start = inference.source(["T1"] * 3, seed=4)
    one = carry(inference, conditions_of([record], inference.parts.dit.spec), start, GenerateRequest())
    all_three = carry(inference, conditions_of([record] * 3, inference.parts.dit.spec), start, GenerateRequest())
    torch.testing.assert_close(one, all_three)


def test_brains_are_drawn_from_the_noise_of_their_place_in_the_row(inference: Inference) -> None:
    np.testing.assert_allclose(
        drawn_like(inference, RECORDS[:2]), drawn_like(inference, RECORDS[:6])[:2], rtol=1e-4, atol=1e-4
    )
    smaller, own = drawn_like(inference, RECORDS[:2], noise_scale=0.5), drawn_like(inference, RECORDS[:2])
    assert np.abs(smaller - own).max() > 0.01
