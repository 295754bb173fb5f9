"""The conditions of an edit: which are changed, how strongly each acts, and what it did to each reading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from braing3n_core.checking import check_request
from braing3n_core.cli import main
from braing3n_core.conditioning import contrasts, effects
from braing3n_core.engine import Engine
from braing3n_core.errors import RequestError
from braing3n_core.generation.counterfactual import Edit, EditOptions, counterfactual
from braing3n_core.generation.guidance import Contrast, Guidance
from braing3n_core.schema import (
    Conditions,
    CounterfactualRequest,
    Effect,
    Reading,
    request_from_dict,
    request_to_dict,
)
from braing3n_core.volume import Volume
from braing3n_core.wording import drift_text

SOURCE = Conditions("HC", "F", 60.0, "T1")
TARGET = SOURCE.replace(disease="AD", sex="M", age_years=80.0)
WORDS = {"disease": ("HC", "AD"), "sex": ("F", "M"), "age_years": None}


def asked(**changes: object) -> CounterfactualRequest:
    return CounterfactualRequest("scan.nii", target=Conditions(disease="AD", age_years=80.0), **changes)  # type: ignore[arg-type]


def velocity(x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
    """Everywhere the condition itself, so that an edit moves a scan by the difference of the guided conditions."""
    return torch.cat([c.expand(len(x) // len(conds), x.shape[1], -1) for c in conds])


def axes(conditions: Conditions) -> Tensor:
    """Disease, sex and age along a channel each: (1,1,3)."""
    return torch.tensor([[[float(conditions.disease == "AD"), float(conditions.sex == "M"), conditions.age_years]]])


def away(scales: dict[str, float], common: float) -> list[tuple[Conditions, float]]:
    found = contrasts(asdict(SOURCE), asdict(TARGET), scales, common, ["age_years"])
    return [(Conditions(**row), scale) for row, scale in found]


def moved(scales: dict[str, float], common: float) -> list[float]:
    edit = Edit(axes(SOURCE), axes(TARGET), [Contrast(axes(c), Guidance(scale)) for c, scale in away(scales, common)])
    z = torch.zeros(1, 2, 3)
    return counterfactual(velocity, z, edit, EditOptions(num_steps=3))[0, 0].tolist()


def test_each_changed_class_moves_the_scan_by_its_own_factor_or_the_common_one_and_an_age_by_what_was_asked() -> None:
    assert moved({}, 1.5) == pytest.approx([1.5, 1.5, 20.0])
    assert moved({"disease": 3.0, "sex": 0.5}, 1.5) == pytest.approx([3.0, 0.5, 20.0])
    assert moved({"age_years": 1.5, "sex": 0.0}, 2.0) == pytest.approx([2.0, 0.0, 30.0])


def test_conditions_of_one_factor_are_put_back_together_and_what_is_not_changed_is_no_contrast() -> None:
    both = TARGET.replace(disease="HC", sex="F")
    assert away({}, 2.0) == away({"sex": 2.0, "modality": 9.0}, 2.0) == [(both, 2.0)]
    assert away({"age_years": 2.0}, 2.0) == [(SOURCE, 2.0)]
    assert away({"sex": 4.0}, 2.0) == [(TARGET.replace(disease="HC"), 2.0), (TARGET.replace(sex="F"), 4.0)]
    assert away({}, 1.0) == []


@pytest.mark.parametrize("scales", [{"sex": 2.0}, {"diseas": 2.0}, {"disease": 11.0}, {"disease": float("nan")},
                                    {"disease": "2"}, [2.0], None])  # fmt: skip
def test_a_factor_of_nothing_that_is_changed_or_out_of_range_is_refused(scales: object) -> None:
    check_request(asked(guidance_scales={"disease": 2.0, "age_years": 0.0}), WORDS)
    with pytest.raises(RequestError) as caught:
        check_request(asked(guidance_scales=scales), WORDS)
    assert caught.value.hint


def test_factors_survive_the_wire_and_a_request_without_them_is_read_too() -> None:
    request = asked(guidance_scales={"disease": 2.0})
    wire = json.loads(json.dumps(request_to_dict(request)))
    assert request_from_dict({**wire, "guidance_scales": {"disease": 2}}) == request == request_from_dict(wire)
    wire.pop("guidance_scales")
    assert request_from_dict(wire) == asked()


def test_the_engine_takes_a_factor_of_one_condition_as_it_takes_the_common_one(
    tiny_checkpoint: Path, registered_scan: Path
) -> None:
    engine = Engine(tiny_checkpoint, "cpu")
    scan = engine.encode(engine.preprocess(Volume.load(registered_scan, modality="T1")))

    def edited(common: float, target: Conditions, **scales: float) -> np.ndarray:
        return engine.counterfactual(scan, CounterfactualRequest(
            "-", target=target, source=SOURCE, num_steps=2, guidance_scale=common, guidance_scales=scales
        )).latents  # fmt: skip

    one, two = Conditions(disease="AD"), Conditions(disease="AD", sex="M")
    assert np.array_equal(edited(3.0, one), edited(1.5, one, disease=3.0))
    assert np.array_equal(edited(3.0, two), edited(3.0, two, disease=3.0, sex=3.0))
    assert not np.allclose(edited(3.0, two), edited(3.0, two, sex=1.0))
    assert set(engine.capabilities()["guidance_scales"]) >= {"disease", "sex", "age_years"}


def test_the_command_line_takes_a_common_factor_and_those_of_conditions(
    tiny_checkpoint: Path, registered_scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["counterfactual", str(registered_scan), "--checkpoint", str(tiny_checkpoint), "--steps", "1",
             "-o", str(tmp_path / "out"), "--set", "disease=AD", "--set", "age=80"]  # fmt: skip
    assert main([*start, "--guidance", "sex=2"]) == 1
    assert "To be changed: disease, age_years." in capsys.readouterr().err
    assert main([*start, "--guidance", "disease=3", "--guidance", "2", "--guidance", "age=1.5"]) == 0
    request = json.loads((tmp_path / "out" / "provenance.json").read_text())["request"]
    assert (request["guidance_scale"], request["guidance_scales"]) == (2.0, {"disease": 3.0, "age_years": 1.5})
    for wrong in ("disease=lots", "=2", "much"):
        with pytest.raises(SystemExit) as caught:
            main([*start, "--guidance", wrong])
        assert caught.value.code == 2


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
