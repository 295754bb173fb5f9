"""The conditions of an edit: which are changed, and how strongly each acts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from braing3n_core.checking import check_request
from braing3n_core.cli import main
from braing3n_core.conditioning import contrasts
from braing3n_core.engine import Engine
from braing3n_core.errors import RequestError
from braing3n_core.generation.counterfactual import Edit, EditOptions, counterfactual
from braing3n_core.generation.guidance import Contrast, Guidance
from braing3n_core.schema import Conditions, CounterfactualRequest, request_from_dict, request_to_dict
from braing3n_core.volume import Volume

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


def moved(scales: dict[str, float], common: float) -> list[float]:
    factors = contrasts(SOURCE, TARGET, scales, common)
    edit = Edit(axes(SOURCE), axes(TARGET), [Contrast(axes(c), Guidance(scale)) for c, scale in factors])
    z = torch.zeros(1, 2, 3)
    return counterfactual(velocity, z, edit, EditOptions(num_steps=3))[0, 0].tolist()


def test_each_changed_condition_moves_the_scan_by_its_own_factor_and_the_others_by_the_common_one() -> None:
    assert moved({}, 1.5) == pytest.approx([1.5, 1.5, 30.0])
    assert moved({"disease": 3.0, "sex": 0.5}, 1.5) == pytest.approx([3.0, 0.5, 30.0])
    assert moved({"age_years": 1.0, "sex": 0.0}, 2.0) == pytest.approx([2.0, 0.0, 20.0])


def test_conditions_of_one_factor_are_put_back_together_and_what_is_not_changed_is_no_contrast() -> None:
    assert contrasts(SOURCE, TARGET, {}, 2.0) == [(SOURCE, 2.0)]
    assert contrasts(SOURCE, TARGET, {"sex": 2.0, "modality": 9.0}, 2.0) == [(SOURCE, 2.0)]
    apart = contrasts(SOURCE, TARGET, {"sex": 4.0}, 2.0)
    assert apart == [(TARGET.replace(disease="HC", age_years=60.0), 2.0), (TARGET.replace(sex="F"), 4.0)]


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
