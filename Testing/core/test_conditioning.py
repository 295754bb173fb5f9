"""What an edit is said to have done to each reading."""

from __future__ import annotations

from braing3n_core.conditioning import away_from, effects
from braing3n_core.schema import Effect, Reading
from braing3n_core.wording import drift_text


def read(task: str, **shares: float) -> Reading:
    return Reading(task, max(shares, key=lambda name: shares[name]), probabilities=shares)


BEFORE = (read("sex", F=0.75, M=0.25), read("disease", HC=0.875, MCI=0.125, AD=0.0), Reading("age", 61.0, "years"))
AFTER = (read("sex", F=0.5, M=0.5), read("disease", HC=0.0, MCI=0.25, AD=0.75), Reading("age", 62.5, "years"))


def found(asked: dict[str, object]) -> dict[str, Effect]:
    return {effect.task: effect for effect in effects(BEFORE, AFTER, asked)}


def test_an_effect_tells_the_probability_of_what_was_asked_for_before_and_after() -> None:
    ill = found({"disease": "AD"})["disease"]
    assert (ill.before, ill.after, ill.word) == ("HC", "AD", "AD")
    assert (ill.chance_before, ill.chance_after, ill.drift) == (0.0, 0.75, 0.75)
    assert drift_text(ill) == "AD 0.000 to 0.750 in probability"


def test_an_edit_that_missed_its_target_still_tells_of_the_target() -> None:
    assert found({"disease": "MCI"})["disease"].drift == 0.125


def test_what_was_not_asked_for_tells_of_the_class_that_gained_most() -> None:
    sex = found({"disease": "AD"})["sex"]
    assert (sex.asked, sex.word, sex.drift) == (False, "M", 0.25)


def test_what_was_asked_for_comes_first() -> None:
    assert [effect.task for effect in effects(BEFORE, AFTER, {"age_years": 63.0})] == ["age", "sex", "disease"]
    assert found({"age_years": 63.0})["age"].drift == 1.5


def test_without_probabilities_there_is_no_drift_of_a_class() -> None:
    bare = Reading("sex", "F")
    assert effects([bare], [bare], {})[0].drift is None


def test_guidance_moves_away_from_the_class_that_was_and_takes_a_number_at_its_word() -> None:
    source = {"disease": "HC", "sex": "F", "age_years": 60.0}
    target = {"disease": "AD", "sex": "F", "age_years": 70.0}
    assert away_from(source, target, ["age_years"]) == {"disease": "HC", "sex": "F", "age_years": 70.0}
    assert away_from(source, {**source, "age_years": 70.0}, ["age_years"]) is None
