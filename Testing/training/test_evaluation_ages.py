"""Ages read in brains, beside what the same probe reads in people."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.tables.ages import AGES_YEARS, AgeJudge, AgeReading, in_people, true_brain_ages

EVERY_AGE = np.linspace(20.0, 90.0, 7001)


def judge() -> AgeJudge:
    return AgeJudge("held-out", lambda latents: latents[:, 0, 0], EVERY_AGE, EVERY_AGE)


def test_what_is_read_of_people_is_drawn_towards_the_mean_as_the_probe_draws_it() -> None:
    off = np.where(np.arange(7001) % 2, 4.0, -4.0)
    found = in_people(EVERY_AGE, 55 + 0.8 * (EVERY_AGE - 55) + off)
    assert found is not None
    np.testing.assert_allclose(found.read, [35.0, 51.0, 67.0], atol=0.01)
    spread = 0.8 * np.std(AGES_YEARS)
    assert found.r == pytest.approx(spread / np.hypot(spread, 4.0), abs=1e-4)


def test_people_drawn_at_the_three_ages_have_the_r_that_was_told() -> None:
    rng = np.random.default_rng(0)
    found = in_people(EVERY_AGE, EVERY_AGE + rng.normal(scale=5.0, size=7001))
    asked = np.repeat(AGES_YEARS, 20000)
    people = AgeReading(judge(), asked, asked + rng.normal(scale=5.0, size=60000), np.arange(60000))
    assert found is not None and people.r == pytest.approx(found.r, abs=0.003)


def test_people_of_one_age_or_none_say_nothing() -> None:
    assert in_people(np.full(3, 70.0), np.array([66.0, 70.0, 71.0])) is None
    assert in_people(np.zeros(0), np.zeros(0)) is None


def test_the_true_brain_age_is_that_of_the_healthy_in_t1_where_it_is_known() -> None:
    def record(age: float, **labels: object) -> dict[str, object]:
        return {"modality": "T1", "disease": "HC", "age_years": age, "truth": {"brain_age_years": age + 3}, **labels}

    people = [record(20.0), record(50.0), record(90.0)]
    others = [record(60.0, disease="AD", truth={"brain_age_years": 99.0}), record(60.0, modality="T2"),
              record(60.0, truth=None), record(60.0, truth={})]
    found = true_brain_ages([*people, *others])
    assert found is not None and str(found) == "r 1; 33.0/53.0/73.0"
    assert true_brain_ages(others) is None


def test_a_reading_says_its_r_with_an_interval_over_noises_and_the_mean_at_each_age() -> None:
    rng = np.random.default_rng(1)
    asked, noise = np.repeat(AGES_YEARS, 40), np.tile(np.arange(40), 3)
    reading = AgeReading(judge(), asked, asked + 1 + 6 * rng.normal(size=40)[noise], noise)
    np.testing.assert_allclose(reading.means, np.array(AGES_YEARS) + 1, atol=2)
    words = reading.in_words(200)
    assert words.startswith(f"r {reading.r:.3g} [0.9") and words.endswith("(real scans r 1; 30.0/50.0/70.0)")
