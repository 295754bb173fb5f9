"""Conditions as tensors: known, unknown and null are three different things."""

from __future__ import annotations

import pytest
import torch

from braing3n_core.models.conditions import KNOWN, NULL, UNKNOWN, ConditionBatch, ConditionEmbedder, ConditionSpec

SPEC = ConditionSpec(
    categories={"sex": ("F", "M"), "modality": ("T1", "T1C", "T2", "FLAIR")},
    scalars={"age_years": (50.0, 20.0)},
    never_dropped=("modality",),
)
ROWS = [{"sex": "M", "modality": "T2", "age_years": 70.0}, {"sex": None, "modality": "T1"}]


def test_words_are_their_place_in_the_vocabulary_and_numbers_are_standardised() -> None:
    batch = ConditionBatch.from_rows(SPEC, ROWS)
    assert batch.index.tolist() == [[1, 2], [2, 0]]
    assert batch.value.tolist() == [[1.0], [0.0]]
    assert batch.state.tolist() == [[KNOWN], [UNKNOWN]]


def test_a_word_outside_the_vocabulary_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match="sex='X' is not one of F, M"):
        ConditionBatch.from_rows(SPEC, [{"sex": "X"}])


def test_the_guidance_row_nulls_everything_but_what_is_never_dropped() -> None:
    null = ConditionBatch.from_rows(SPEC, ROWS).null()
    assert null.index.tolist() == [[3, 2], [3, 0]]
    assert null.state.tolist() == [[NULL], [NULL]]


def test_guidance_amplifies_the_classes_that_can_be_null_and_no_number() -> None:
    assert SPEC.scalars and "modality" in SPEC.never_dropped
    assert SPEC.amplified == tuple(name for name in SPEC.categories if name != "modality") != ()


def test_named_conditions_can_be_nulled_alone() -> None:
    null = ConditionBatch.from_rows(SPEC, ROWS[:1]).null(["modality"])
    assert null.index.tolist() == [[1, 5]]
    assert null.state.tolist() == [[KNOWN]]


@pytest.mark.parametrize("name", ["sex", "age_years"])
def test_unknown_and_null_have_different_embeddings(name: str) -> None:
    torch.manual_seed(1)
    embed = ConditionEmbedder(SPEC, 16)
    unknown = ConditionBatch.from_rows(SPEC, [{**ROWS[0], name: None}])
    assert (embed(unknown) - embed(unknown.null([name]))).abs().max() > 1e-3


def test_an_unknown_number_ignores_its_value() -> None:
    torch.manual_seed(2)
    embed, batch = ConditionEmbedder(SPEC, 16), ConditionBatch.from_rows(SPEC, ROWS[1:])
    other = ConditionBatch(SPEC, batch.index, batch.value + 3.0, batch.state)
    assert torch.equal(embed(batch), embed(other))


def test_dropout_hits_each_condition_independently_at_its_rate_and_modality_never() -> None:
    batch = ConditionBatch.from_rows(SPEC, ROWS[:1]).expand(20_000)
    dropped = batch.drop(0.1, torch.Generator().manual_seed(3))
    sex, age = dropped.index[:, 0] == 3, dropped.state[:, 0] == NULL
    assert (dropped.index[:, 1] == 2).all()
    assert abs(sex.float().mean() - 0.1) < 0.01
    assert abs(age.float().mean() - 0.1) < 0.01
    assert abs((sex & age).float().mean() - 0.01) < 0.004


def test_dropout_is_repeatable_by_its_generator() -> None:
    batch = ConditionBatch.from_rows(SPEC, ROWS[:1]).expand(100)
    first, second = (batch.drop(0.5, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first.index, second.index)
    assert torch.equal(first.state, second.state)


def test_batches_concatenate_and_split_again() -> None:
    batch = ConditionBatch.from_rows(SPEC, ROWS)
    again = ConditionBatch.cat([batch.rows(slice(0, 1)), batch.rows(torch.tensor([1]))])
    assert len(again) == 2
    assert torch.equal(again.index, batch.index)
    assert torch.equal(again.value, batch.value)
    assert torch.equal(again.state, batch.state)


def test_a_number_beyond_what_training_saw_is_taken_at_the_end_of_it() -> None:
    scalars = {"horizon_years": (0.0, 5.0), "age_years": (50.0, 20.0)}
    spec = ConditionSpec({}, scalars, limits={"horizon_years": (-6.0, 6.0)})
    batch = ConditionBatch.from_rows(spec, [{"horizon_years": h, "age_years": 110.0} for h in (-30.0, 3.0, 10.0)])
    assert batch.value.tolist() == [pytest.approx([-1.2, 3.0]), pytest.approx([0.6, 3.0]), pytest.approx([1.2, 3.0])]
