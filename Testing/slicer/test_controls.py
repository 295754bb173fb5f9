"""How the model works: method, sampler, steps and guidance go from the panel, or a script, into the request."""

from __future__ import annotations

import typing
from types import SimpleNamespace

import pytest

pytest.importorskip("slicer", reason="pip install slicer-core")
pytest.importorskip("PySide6.QtWidgets", reason="pip install PySide6-Essentials", exc_type=ImportError)

from BrainG3NLib import Choices
from BrainG3NLib.Jobs import COARSE_SHARE, COARSE_STEPS, Job, Shares, coarsened
from BrainG3NLib.Logic import MEASURES
from BrainG3NLib.Requests import DEFAULTS, GUIDED, buildRequest, settings, suggestModality
from BrainG3NLib.Tables import SHORT_EFFECT_COLUMNS, offTarget

from braing3n_core.checking import RANGES
from braing3n_core.errors import RequestError
from braing3n_core.preprocess.quality import EXPECTED
from braing3n_core.schema import Conditions, CounterfactualRequest, ForecastRequest, ProbeRequest, Result

from .conftest import addNoise, choose
from .results import EFFECTS, READINGS, counterfactual

CAPABLE = {
    "vocabularies": {"dit": {"disease": ["HC", "AD"], "sex": ["F", "M"]}, "forecaster": {"sex": ["F", "M"]}},
    "guidance_scales": ["disease", "sex"], "edit_methods": ["flowedit", "fireflow"],
    "samplers": ["euler", "heun"], "renderings": ["residual"],
    "modalities": ["T1"], "stages": ["auto", "registered"], "cdr_values": [0.0, 1.0],
    "verbs": {"counterfactual": {"available": True, "why": "all parts are there"},
              "forecast": {"available": False, "why": "the checkpoint has no forecaster"}},
}  # fmt: skip


def values(box) -> list[str]:
    return [box.itemData(i) for i in range(box.count)]


def test_method_sampler_steps_and_guidance_go_into_the_requests(app) -> None:
    ui, p = app.widget.ui, app.widget.parameters
    choose(ui.targetDiseaseBox, "AD")
    choose(ui.editMethodBox, "sdedit")
    choose(ui.editSamplerBox, "heun")
    choose(ui.forecastSamplerBox, "midpoint")
    ui.editStepsBox.value, ui.forecastStepsBox.value = 7, 3
    ui.guidanceSlider.value, ui.forecastGuidanceSlider.value = 2.5, 1.5
    edit, ahead = (buildRequest(kind, p, "scan.nii") for kind in ("counterfactual", "forecast"))
    assert (edit.method, edit.sampler, edit.num_steps, edit.guidance_scale) == ("sdedit", "heun", 7, 2.5)
    assert (ahead.sampler, ahead.num_steps, ahead.guidance_scale) == ("midpoint", 3, 1.5)


def test_a_changed_condition_can_have_a_guidance_of_its_own(app) -> None:
    ui, p = app.widget.ui, app.widget.parameters
    boxes = {end: getattr(ui, f"guidance{end}Box") for end in GUIDED}
    assert not any(box.enabled for box in boxes.values()) and ui.guidanceSexBox.text == "common guidance"
    assert ui.guidanceAgeBox.text == "as asked for"
    choose(ui.targetDiseaseBox, "AD")
    choose(ui.targetSexBox, "M")
    ui.targetAgeSlider.value = 80
    assert [end for end, box in boxes.items() if box.enabled] == ["Disease", "Sex", "Age"]
    ui.guidanceDiseaseBox.value, ui.guidanceAgeBox.value, ui.guidanceSlider.value = 3.0, 0.5, 2.0
    assert buildRequest("counterfactual", p, "scan.nii").guidance_scales == {"disease": 3.0, "age_years": 0.5}
    ui.targetAgeSlider.value = 0
    assert not ui.guidanceAgeBox.enabled  # and what it says is not asked for
    assert buildRequest("counterfactual", p, "scan.nii").guidance_scales == {"disease": 3.0}
    old = {name: value for name, value in CAPABLE.items() if name != "guidance_scales"}
    app.widget.panels.compute.capabilities = old
    app.widget.panels._offer(old)
    assert not any(box.enabled for box in boxes.values())  # that worker would not know what it means


def test_the_form_offers_what_the_worker_says_and_not_more(app) -> None:
    ui, panels = app.widget.ui, app.widget.panels
    assert values(ui.editMethodBox) == ["flowedit", "midpoint", "fireflow", "sdedit"]
    panels.compute.capabilities = CAPABLE
    panels._offer(CAPABLE)
    assert values(ui.editMethodBox) == CAPABLE["edit_methods"]
    assert values(ui.editSamplerBox) == values(ui.forecastSamplerBox) == CAPABLE["samplers"]
    assert values(ui.targetDiseaseBox) == ["", "HC", "AD"] and values(ui.knownCdrBox) == ["", "0", "1"]
    assert values(ui.stageBox) == CAPABLE["stages"] and not ui.modalityBox.enabled
    assert app.widget.parameters.forecastSampler == "euler"  # what was chosen is not offered any more
    assert ui.counterfactualButton.enabled and not ui.forecastButton.enabled
    assert "has no forecaster" in ui.forecastButton.toolTip and "same scan" in ui.counterfactualButton.toolTip


def test_an_inversion_takes_no_sampler(app) -> None:
    ui = app.widget.ui
    assert ui.editSamplerBox.enabled
    for method, takesOne in (("midpoint", False), ("sdedit", True), ("fireflow", False), ("flowedit", True)):
        choose(ui.editMethodBox, method)
        assert ui.editSamplerBox.enabled is takesOne


def test_scripts_have_the_panels_defaults_and_hear_of_a_wrong_name(app) -> None:
    from BrainG3NLib.Parameters import BrainG3NParameters

    p = app.widget.parameters
    onScreen = {"opacity", "coarseFirst"}
    shown = {name: getattr(p, name) for name in typing.get_type_hints(BrainG3NParameters)}
    differ = {name for name, value in shown.items() if name not in onScreen and value != DEFAULTS[name]}
    assert differ == set() and set(DEFAULTS) == set(shown) - {"opacity"}
    plain = CounterfactualRequest("x", target=Conditions(disease="AD"), source=Conditions(modality="T1"))
    assert buildRequest("counterfactual", settings(targetDisease="AD"), "x") == plain
    assert buildRequest("forecast", settings(), "x") == ForecastRequest("x")
    assert settings(targetDisease="AD").targetDisease == "AD" and settings().targetDisease == ""
    with pytest.raises(RequestError, match="targetDisaese"):
        settings(targetDisaese="AD")


@pytest.mark.parametrize(("name", "range_"), [
    ("editSteps", "num_steps"), ("forecastSteps", "num_steps"), ("guidance", "guidance_scale"),
    ("forecastGuidance", "guidance_scale"), ("strength", "strength"), ("samples", "samples"),
])  # fmt: skip
def test_a_field_of_the_panel_has_the_range_that_the_engine_allows(app, name: str, range_: str) -> None:
    p, (low, high) = app.widget.parameters, RANGES[range_]
    for value in (low, high):
        setattr(p, name, value)
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match="within"):
            setattr(p, name, value)


def test_the_panel_shows_how_far_each_reading_drifted_and_names_what_was_not_asked_for(app) -> None:
    panels, ui = app.widget.panels, app.widget.ui
    head = addNoise(app.mrml.scene, "Head")
    panels._show(counterfactual(app.mrml.scene, head))
    table = ui.effectsTable
    shown = [[table.item(r, c).text() for c in range(table.columnCount)] for r in range(table.rowCount)]
    assert len(SHORT_EFFECT_COLUMNS) == table.columnCount
    assert shown[0] == ["Disease", "asked for", "HC", "AD", "+0.600 in probability"]
    assert shown[1] == ["Ventricle volume", "off target", "31.0", "39.0", "+8.00 mL"]
    assert "Not asked for, but changed too: ventricle volume (+8.00 mL)." in ui.messageLabel.text


def test_the_readings_are_short_in_the_panel_and_whole_under_the_pointer(app) -> None:
    app.widget.panels._show(SimpleNamespace(result=Result("probe", readings=READINGS), named={}))
    table = app.widget.ui.readingsTable
    (age,) = [r for r in range(table.rowCount) if table.item(r, 0).text() == "Age"]
    assert [table.item(age, c).text() for c in (1, 3, 4)] == ["61.5 years", "yes", "mae 7.5"]
    assert table.item(age, 4).toolTip() == "mae 7.5 (held-out phantoms)" and "limit 1" in table.item(age, 3).toolTip()


def test_nothing_is_said_of_an_edit_that_changed_only_what_it_should() -> None:
    assert offTarget(EFFECTS[:2], READINGS) == ""


def test_every_measure_of_preprocessing_has_words() -> None:
    assert set(MEASURES) == set(EXPECTED)


def test_quality_numbers_and_warnings_are_shown_under_preprocess(app) -> None:
    facts = {"preprocess": {"stage": "stripped", "declared_stage": "auto", "quality": {"template_dice": 0.93}}}
    result = Result("preprocess", provenance=facts, warnings=("The brain reaches the edge of the scan.",))
    app.widget.panels._show(SimpleNamespace(result=result, named={}))
    table = app.widget.ui.qualityTable
    shown = {table.item(r, 0).text(): table.item(r, 1).text() for r in range(table.rowCount)}
    assert shown["Worked from stage"] == "Brain only (suggested by the scan)"
    assert shown["Overlap with the template (Dice)"] == "0.93"
    assert shown["Note"] == "The brain reaches the edge of the scan."


@pytest.mark.parametrize(("name", "modality"), [
    ("sub-01_T1w", "T1"), ("sub-01_FLAIR", "FLAIR"), ("T2_FLAIR axial", "FLAIR"), ("sub-01_ce-GAD_T1w", "T1C"),
    ("t1_mprage_post contrast", "T1C"), ("4: MPRAGE", "T1"), ("AX T2 TSE", "T2"), ("UPENN-GBM-1_T1GD", "T1C"),
    ("MRHead", None),
])  # fmt: skip
def test_the_modality_is_suggested_by_the_name_of_the_scan(name: str, modality: str | None) -> None:
    assert suggestModality(name) == modality


def test_a_suggested_modality_is_chosen_and_said_and_can_be_changed(app) -> None:
    ui = app.widget.ui
    for name in ("Head", "sub-01_FLAIR"):
        ui.inputSelector.setCurrentNode(app.mrml.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name))
    assert app.widget.parameters.modality == "FLAIR" and ui.modalityBox.itemData(ui.modalityBox.currentIndex) == "FLAIR"
    assert "Modality FLAIR" in ui.messageLabel.text
    choose(ui.modalityBox, "T2")
    assert app.widget.parameters.modality == "T2"


def test_a_coarse_forecast_is_one_sample_of_few_steps_at_the_furthest_horizon() -> None:
    coarse = coarsened(ForecastRequest("scan.nrrd", horizons_years=(1.0, -4.0, 3.0), samples=8, num_steps=25))
    assert isinstance(coarse, ForecastRequest)
    assert (coarse.horizons_years, coarse.samples, coarse.num_steps) == ((-4.0,), 1, COARSE_STEPS)
    assert coarsened(ProbeRequest("scan.nrrd")) is None
    assert coarsened(CounterfactualRequest("scan.nrrd", num_steps=COARSE_STEPS)) is None


def test_progress_never_goes_back_when_a_coarse_answer_comes_first() -> None:
    told: list[float] = []
    share = Shares(lambda fraction, message: told.append(fraction), 2, COARSE_SHARE)
    for progress in (share.ofCoarse, share.of(0), share.of(1)):
        for fraction in (0.0, 0.5, 1.0):
            progress(fraction, "Working")
    assert told == sorted(told) and told[0] == 0.0 and told[-1] == pytest.approx(1.0)
    assert Job.coarseFirst is False and Choices.missing(None) == {}
