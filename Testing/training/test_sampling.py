"""Orders of samples: independent of the number of processes, resumable, and balanced to the count."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.sampling import (
    Sampler,
    SamplingError,
    balanced,
    horizon_balanced,
    strata_of,
    stratum_shares,
    uniform,
)

STRATA = ["HC"] * 80 + ["AD"] * 15 + ["GBM"] * 5


def walk(sampler: Sampler, steps: int, batch: int, world: int) -> np.ndarray:
    """(steps, batch): the global batches put together from what each process gets."""
    start = sampler.state_dict()
    shares = []
    for rank in range(world):
        sampler.load_state_dict(start)
        shares.append(np.stack([sampler.next_batch(batch, rank, world) for _ in range(steps)]))
    return np.stack(shares, axis=2).reshape(steps, batch)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 60), seed=st.integers(0, 2**31), world=st.sampled_from([1, 2, 3, 4, 6]),
       steps=st.integers(1, 12))
def test_the_global_order_does_not_depend_on_the_number_of_processes(
    count: int, seed: int, world: int, steps: int
) -> None:
    alone = walk(Sampler(uniform(count), seed), steps, 12, 1)
    np.testing.assert_array_equal(walk(Sampler(uniform(count), seed), steps, 12, world), alone)


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 30), world=st.sampled_from([1, 2, 4]))
def test_a_sampler_goes_on_from_its_state_as_if_it_had_never_stopped(cut: int, world: int) -> None:
    plan = balanced(STRATA, 2.0)
    whole = walk(Sampler(plan, 3), 31, 8, 1)
    first = Sampler(plan, 3)
    for _ in range(cut):
        first.next_batch(8)
    second = Sampler(plan, 999)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    if cut < 31:
        np.testing.assert_array_equal(walk(second, 31 - cut, 8, world), whole[cut:])


@settings(deadline=None)
@given(count=st.integers(1, 200), epoch=st.integers(0, 5))
def test_an_epoch_has_every_sample_once(count: int, epoch: int) -> None:
    np.testing.assert_array_equal(np.sort(Sampler(uniform(count), 1).order(epoch)), np.arange(count))


def test_epochs_and_seeds_differ_and_the_same_ones_agree() -> None:
    sampler = Sampler(uniform(50), 1)
    first = sampler.order(0).copy()
    assert not np.array_equal(first, sampler.order(1))
    assert not np.array_equal(first, Sampler(uniform(50), 2).order(0))
    np.testing.assert_array_equal(first, sampler.order(0))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, np.inf])
def test_strata_come_as_often_as_their_temperature_says(temperature: float) -> None:
    shares = stratum_shares(np.array([80, 15, 5]), temperature)
    expected = np.array([80, 15, 5]) ** (1 / temperature)
    np.testing.assert_allclose(shares, expected / expected.sum())
    sampler = Sampler(balanced(STRATA, temperature), 4)
    for epoch in range(5):
        counts = Counter(STRATA[i] for i in sampler.order(epoch))
        assert len(sampler.order(epoch)) == 100
        for share, name in zip(shares, ("HC", "AD", "GBM"), strict=True):
            assert abs(counts[name] - 100 * share) < 1 + 1e-6


def test_no_sample_of_a_stratum_is_drawn_again_before_all_were() -> None:
    order = Sampler(balanced(STRATA, np.inf), 0).order(0)
    rare = Counter(int(i) for i in order if STRATA[i] == "GBM")
    assert len(rare) == 5 and max(rare.values()) - min(rare.values()) <= 1
    common = Counter(int(i) for i in order if STRATA[i] == "HC")
    assert max(common.values()) == 1


def test_over_many_epochs_the_mean_count_is_the_share_itself() -> None:
    sampler = Sampler(balanced(["a"] * 5 + ["b"] * 2, 2.0), 0)
    counts = [sum(i < 5 for i in sampler.order(epoch)) for epoch in range(2000)]
    assert np.mean(counts) == pytest.approx(7 * stratum_shares(np.array([5, 2]), 2.0)[0], abs=0.05)


def test_horizons_come_equally_often_and_people_take_turns() -> None:
    horizons = [0.5] * 60 + [3.0] * 30 + [-0.5] * 9 + [-9.0]
    people = ["busy"] * 50 + [f"p{i}" for i in range(50)]
    order = Sampler(horizon_balanced(horizons, people), 1).order(0)
    assert Counter(horizons[i] for i in order) == {0.5: 25, 3.0: 25, -0.5: 25, -9.0: 25}
    short = Counter(people[i] for i in order if horizons[i] == 0.5)
    assert len(short) == 11 and all(short[f"p{i}"] == 1 for i in range(10))


def test_the_strata_of_records_keep_unknown_apart() -> None:
    records = [{"disease": "GBM", "idh1": None, "modality": "T1"}, {"disease": "GBM", "idh1": "wildtype"}]
    assert strata_of(records) == [("GBM", None, "T1"), ("GBM", "wildtype", None)]


@pytest.mark.parametrize(
    ("act", "said"),
    [(lambda: Sampler(uniform(9), 0).next_batch(6, 0, 4), "cannot be parted"),
     (lambda: Sampler(uniform(9), 0).next_batch(8, 4, 4), "cannot be parted"),
     (lambda: Sampler(uniform(9), 0).load_state_dict({"seed": 1}), "no sampler's state"),
     (lambda: Sampler(uniform(9), 0).load_state_dict({"seed": 1, "epoch": 0, "consumed": 10}), "another data set"),
     (lambda: balanced([], 1.0), "nothing to draw"), (lambda: balanced(STRATA, 0.5), "temperature")],
)
def test_what_cannot_be_is_refused_in_a_sentence(act, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SamplingError, match=said):
        act()
