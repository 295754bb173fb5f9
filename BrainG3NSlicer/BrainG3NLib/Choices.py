"""The combo boxes of the panels: their words come from the worker's capabilities, their values go to the parameters."""

from __future__ import annotations

from typing import Any

from braing3n_core.schema import BRAIN_BACKENDS, CDR_VALUES, DISEASES, IDH1, MODALITIES, RENDERINGS, SEXES, STAGES

Words = list[tuple[str, str]]
AS_IS, READ = ("as it is", ""), ("read from the scan", "")
NAMES = {
    "HC": "Healthy", "MCI": "Mild cognitive impairment", "AD": "Alzheimer's disease", "PD": "Parkinson's disease",
    "GBM": "Glioblastoma", "glioma": "Glioma", "ASD": "Autism spectrum", "SCZ": "Schizophrenia", "F": "Female",
    "M": "Male", "auto": "Suggested by the scan", "native": "As from the scanner", "stripped": "Brain only",
    "registered": "Brain only, on the SRI24 grid", "hd-bet": "HD-BET", "mindgrab": "MindGrab", "template": "Template",
    "none": "Already done", "residual": "The scan's own voxels plus the change", "full": "The decoded brain alone",
}  # fmt: skip
BOXES = {
    "modalityBox": "modality", "stageBox": "stage", "brainBox": "brain", "targetDiseaseBox": "targetDisease",
    "targetSexBox": "targetSex", "targetModalityBox": "targetModality", "targetSiteBox": "targetSite",
    "targetIdh1Box": "targetIdh1", "editRenderingBox": "editRendering", "knownSexBox": "knownSex",
    "knownDiseaseBox": "knownDisease", "knownCdrBox": "knownCdr", "forecastRenderingBox": "forecastRendering",
}  # fmt: skip


def words(capabilities: dict[str, Any] | None) -> dict[str, Words]:
    """By parameter: label and value of each choice. Without capabilities: all that the schema knows."""
    edits, forecasts = _vocabulary(capabilities, "dit"), _vocabulary(capabilities, "forecaster")
    return {
        "modality": _named(MODALITIES), "stage": _named(("auto", *STAGES)), "brain": _brains(capabilities),
        "targetDisease": [AS_IS, *_named(edits["disease"])], "targetSex": [AS_IS, *_named(edits["sex"])],
        "targetModality": [AS_IS, *_named(edits["modality"])], "targetSite": [AS_IS, *_named(edits["site"])],
        "targetIdh1": [AS_IS, *_named(edits["idh1"])], "editRendering": _named(RENDERINGS),
        "knownSex": [READ, *_named(forecasts["sex"])], "knownDisease": [READ, *_named(forecasts["disease"])],
        "knownCdr": [("unknown", ""), *((f"{v:g}", f"{v:g}") for v in CDR_VALUES)],
        "forecastRendering": _named(RENDERINGS),
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
    return [(NAMES.get(value, value), value) for value in values]


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
