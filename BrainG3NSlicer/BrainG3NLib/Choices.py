"""The combo boxes of the panels: their words come from the worker's capabilities, their values go to the parameters."""

from __future__ import annotations

from typing import Any

from braing3n_core.schema import (
    BRAIN_BACKENDS,
    CDR_VALUES,
    DISEASES,
    EDIT_METHODS,
    IDH1,
    MODALITIES,
    RENDERINGS,
    SAMPLERS,
    SEXES,
    STAGES,
)

from .Requests import GUIDED, UNKNOWN_AGE

Words = list[tuple[str, str]]
EVERYTHING: dict[str, Any] = {
    "modalities": MODALITIES, "stages": ("auto", *STAGES), "renderings": RENDERINGS, "cdr_values": CDR_VALUES,
    "edit_methods": EDIT_METHODS, "samplers": SAMPLERS,
}  # fmt: skip
"""By name of a capability: what the schema knows, until a worker answered."""
AS_IS, READ = ("as it is", ""), ("read from the scan", "")
NAMES = {
    "HC": "Healthy", "MCI": "Mild cognitive impairment", "AD": "Alzheimer's disease", "PD": "Parkinson's disease",
    "GBM": "Glioblastoma", "glioma": "Glioma", "ASD": "Autism spectrum", "SCZ": "Schizophrenia", "F": "Female",
    "M": "Male", "auto": "Suggested by the scan", "native": "As from the scanner", "stripped": "Brain only",
    "dicom": "A DICOM series", "defaced": "Head without its face", "bias-corrected": "Bias field corrected",
    "registered": "Brain only, on the SRI24 grid", "hd-bet": "HD-BET", "mindgrab": "MindGrab", "template": "Template",
    "none": "Already done", "residual": "The scan's own voxels plus the change", "full": "The decoded brain alone",
    "flowedit": "FlowEdit", "midpoint": "Inversion, midpoint", "fireflow": "Inversion, FireFlow", "sdedit": "SDEdit",
}  # fmt: skip
BOXES = {
    "modalityBox": "modality", "stageBox": "stage", "brainBox": "brain", "targetDiseaseBox": "targetDisease",
    "targetSexBox": "targetSex", "targetModalityBox": "targetModality", "targetSiteBox": "targetSite",
    "targetIdh1Box": "targetIdh1", "editRenderingBox": "editRendering", "knownSexBox": "knownSex",
    "knownDiseaseBox": "knownDisease", "knownCdrBox": "knownCdr", "forecastRenderingBox": "forecastRendering",
    "editMethodBox": "editMethod", "editSamplerBox": "editSampler", "forecastSamplerBox": "forecastSampler",
}  # fmt: skip
SAMPLER_NAMES = {
    "euler": "Euler", "midpoint": "Midpoint", "heun": "Heun", "ab2": "Adams-Bashforth 2", "fireflow": "FireFlow",
    "extrapolated": "Extrapolated midpoint",
}  # fmt: skip
WITHOUT_INVERSION = ("flowedit", "sdedit")
"""Methods that take a sampler; the others are one."""


def words(capabilities: dict[str, Any] | None) -> dict[str, Words]:
    """By parameter: label and value of each choice. Without capabilities: all that the schema knows."""
    edits, forecasts = _vocabulary(capabilities, "dit"), _vocabulary(capabilities, "forecaster")
    known = {**EVERYTHING, **(capabilities or {})}
    samplers = [(SAMPLER_NAMES.get(word, word), word) for word in known["samplers"]]
    return {
        "modality": _named(known["modalities"]), "stage": _named(known["stages"]), "brain": _brains(capabilities),
        "targetDisease": [AS_IS, *_named(edits["disease"])], "targetSex": [AS_IS, *_named(edits["sex"])],
        "targetModality": [AS_IS, *_named(edits["modality"])], "targetSite": [AS_IS, *_named(edits["site"])],
        "targetIdh1": [AS_IS, *_named(edits["idh1"])], "editRendering": _named(known["renderings"]),
        "editMethod": _named(known["edit_methods"]), "editSampler": samplers, "forecastSampler": samplers,
        "knownSex": [READ, *_named(forecasts["sex"])], "knownDisease": [READ, *_named(forecasts["disease"])],
        "knownCdr": [("unknown", ""), *((f"{v:g}", f"{v:g}") for v in known["cdr_values"])],
        "forecastRendering": _named(known["renderings"]),
    }  # fmt: skip


def _vocabulary(capabilities: dict[str, Any] | None, part: str) -> dict[str, Any]:
    everything = {"disease": DISEASES, "sex": SEXES, "modality": MODALITIES, "site": (), "idh1": IDH1}
    if capabilities is None:
        return everything
    found = capabilities.get("vocabularies", {}).get(part, {})
    return {name: found.get(name) or () for name in everything}


def _brains(capabilities: dict[str, Any] | None) -> Words:
    offered = [b for b in ("auto", *BRAIN_BACKENDS) if b != "mask"]  # a mask is chosen by giving one
    backends = (capabilities or {}).get("brain_backends", {})
    usable = [b for b in offered if backends.get(b, {"available": True})["available"]]
    return _named(usable)


def _named(values: Any) -> Words:
    return [(nameOf(value), value) for value in values]


def nameOf(value: str) -> str:
    """A word of the engine as the panels show it."""
    return NAMES.get(value, value)


def fill(ui: Any, parameters: Any, capabilities: dict[str, Any] | None) -> None:
    """Fill every box and choose what the parameters say; a word that is gone becomes the first choice."""
    offered = words(capabilities)
    for box, name in BOXES.items():
        widget, choices = getattr(ui, box), offered[name]
        widget.blockSignals(True)
        widget.clear()
        for text, value in choices:
            widget.addItem(text, value)
        widget.enabled = len(choices) > 1
        widget.blockSignals(False)
    show(ui, parameters)
    fit(ui, parameters, capabilities)


def fit(ui: Any, parameters: Any, capabilities: dict[str, Any] | None) -> None:
    """A sampler is for the methods that take one, a guidance of its own for a condition that is to be changed."""
    ui.editSamplerBox.enabled = parameters.editMethod in WITHOUT_INVERSION
    guided = tuple(GUIDED.values()) if capabilities is None else capabilities.get("guidance_scales", ())
    for end, condition in GUIDED.items():
        # The slider is heard before the parameter that follows it.
        isAge = condition == "age_years"
        isChanged = ui.targetAgeSlider.value != UNKNOWN_AGE if isAge else getattr(parameters, f"target{end}")
        getattr(ui, f"guidance{end}Box").enabled = bool(isChanged) and condition in guided


def show(ui: Any, parameters: Any) -> None:
    """Show the parameters in the boxes."""
    for box, name in BOXES.items():
        widget = getattr(ui, box)
        index = widget.findData(getattr(parameters, name))
        widget.blockSignals(True)
        widget.setCurrentIndex(max(index, 0))
        widget.blockSignals(False)
        if index < 0 and widget.count:
            setattr(parameters, name, widget.itemData(0))


def store(ui: Any, parameters: Any, box: str) -> None:
    """Take over what was chosen in one box."""
    widget = getattr(ui, box)
    setattr(parameters, BOXES[box], widget.itemData(widget.currentIndex))


def missing(capabilities: dict[str, Any] | None) -> dict[str, str]:
    """By verb: why the checkpoint cannot do it. Empty until a worker answered."""
    verbs = (capabilities or {}).get("verbs", {})
    return {verb: facts["why"] for verb, facts in verbs.items() if not facts["available"]}
