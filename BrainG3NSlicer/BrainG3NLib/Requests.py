"""From the parameters of the panels to the engine's requests. Pure: no Qt, no MRML."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from braing3n_core.errors import RequestError
from braing3n_core.schema import (
    AnyRequest,
    Conditions,
    CounterfactualRequest,
    ExamineRequest,
    ForecastRequest,
    PreprocessOptions,
    PreprocessRequest,
    ProbeRequest,
    nearest,
)

UNCHANGED = ""
"""A choice that stands for "as it is" (an edit) or "read from the scan" (what is known of it)."""
UNKNOWN_AGE = 0.0
COMMON = 0.0
"""A guidance that stands for the common one; of an age for none."""
GUIDED = {
    "Disease": "disease", "Sex": "sex", "Age": "age_years", "Modality": "modality", "Site": "site", "Idh1": "idh1",
}  # fmt: skip
"""Conditions that can be changed: how the settings ``target...`` and ``guidance...`` end, and the schema's name."""
_EDIT, _AHEAD, _PREPARE = CounterfactualRequest(""), ForecastRequest(""), PreprocessOptions()
DEFAULTS: dict[str, Any] = {
    "inputVolume": None, "maskVolume": None, "modality": _PREPARE.modality, "stage": _PREPARE.stage,
    "brain": _PREPARE.brain, "correctBias": _PREPARE.n4, **{f"target{end}": UNCHANGED for end in GUIDED},
    "targetAge": UNKNOWN_AGE, **{f"guidance{end}": COMMON for end in GUIDED}, "guidance": _EDIT.guidance_scale,
    "strength": _EDIT.strength, "editMethod": _EDIT.method, "editSampler": _EDIT.sampler, "editSteps": _EDIT.num_steps,
    "editRendering": _EDIT.rendering, "editSamples": 1, "coarseFirst": False, "seed": _EDIT.seed,
    "knownAge": UNKNOWN_AGE, "knownSex": UNCHANGED, "knownDisease": UNCHANGED, "knownCdr": UNCHANGED,
    "horizons": ", ".join(f"{years:g}" for years in _AHEAD.horizons_years), "samples": _AHEAD.samples,
    "forecastGuidance": _AHEAD.guidance_scale, "forecastSampler": _AHEAD.sampler, "forecastSteps": _AHEAD.num_steps,
    "forecastRendering": _AHEAD.rendering, "uncertainty": _AHEAD.uncertainty,
}  # fmt: skip
"""The engine's own defaults, under the names of the panels. A script is not shown a coarse answer."""


def settings(**changes: Any) -> SimpleNamespace:
    """The parameters of a run for a script: the defaults with some changed. Raises RequestError for a wrong name."""
    unknown = [name for name in changes if name not in DEFAULTS]
    if unknown:
        raise RequestError(
            "request.settings", f"There is no setting {unknown[0]!r}.",
            f"{nearest(unknown[0], list(DEFAULTS))}Known settings: {', '.join(DEFAULTS)}.",
        )  # fmt: skip
    return SimpleNamespace(**{**DEFAULTS, **changes})


MODALITY_WORDS = (
    ("FLAIR", r"flair"), ("T1C", r"t1(c|ce|gd|post)|ce-?gad|(gad|contrast|post).*t1|t1.*(gad|contrast|post)"),
    ("T2", r"t2"), ("T1", r"t1|mprage|mp2rage|bravo|spgr"),
)  # fmt: skip
"""Modality, and how scans of it are named; the first that fits counts."""


def suggestModality(name: str) -> str | None:
    """What the name of a scan says of its contrast; None if it says nothing."""
    text = name.lower()
    return next((word for word, pattern in MODALITY_WORDS if re.search(pattern, text)), None)


def parseHorizons(text: str) -> tuple[float, ...]:
    """``"1, 2, 5"`` as years. Raises RequestError."""
    try:
        years = tuple(float(word) for word in re.split(r"[\s,;]+", text.strip()) if word)
        if not all(map(math.isfinite, years)):
            raise ValueError(text)
    except ValueError as error:
        raise RequestError(
            "request.horizons_years", f"Horizons must be numbers of years, got {text!r}.", "Type for example: 1, 2, 5"
        ) from error
    if not years:
        raise RequestError("request.horizons_years", "No horizon is given.", "Type for example: 1, 2, 5")
    return tuple(sorted(set(years)))


def buildRequest(kind: str, parameters: Any, inputPath: str, maskPath: str | None = None) -> AnyRequest:
    """The request of a panel. kind: ``preprocess``, ``examine``, ``probe``, ``counterfactual``, ``forecast``."""
    shared = {"input": inputPath, "preprocess": options(parameters, maskPath), "seed": int(parameters.seed)}
    if kind == "preprocess":
        return PreprocessRequest(**shared)
    if kind == "examine":  # what the scan itself shows, whatever stage was chosen
        return ExamineRequest(inputPath, replace(shared["preprocess"], stage="auto"))
    if kind == "probe":
        return ProbeRequest(**shared)
    if kind == "counterfactual":
        return CounterfactualRequest(**shared, **_edit(parameters))
    if kind == "forecast":
        return ForecastRequest(**shared, **_forecast(parameters))
    raise RequestError("request.kind", f"There is no panel for {kind!r}.", "Use preprocess, probe, counterfactual ...")


def options(p: Any, maskPath: str | None) -> PreprocessOptions:
    """How the scan is brought onto the atlas grid. A mask of the user's own decides the brain."""
    brain = "mask" if maskPath else p.brain
    return PreprocessOptions(p.modality, p.stage, brain, maskPath, None, bool(p.correctBias))


def _edit(p: Any) -> dict[str, Any]:
    target = Conditions(
        _word(p.targetDisease), _word(p.targetSex), _age(p.targetAge), _word(p.targetModality), _word(p.targetSite),
        _word(p.targetIdh1),
    )  # fmt: skip
    if not target.known():
        raise RequestError(
            "request.target", "Nothing is to be changed.", "Choose at least one condition under Counterfactual."
        )
    return {
        "target": target, "guidance_scale": float(p.guidance), "strength": float(p.strength),
        "rendering": p.editRendering, "source": known(p).replace(modality=p.modality), "method": p.editMethod,
        "sampler": p.editSampler, "num_steps": int(p.editSteps), "guidance_scales": _scales(p, target),
    }


def _scales(p: Any, target: Conditions) -> dict[str, float]:
    """The guidance of each changed condition that has one of its own."""
    own = {name: float(getattr(p, f"guidance{end}")) for end, name in GUIDED.items() if name in target.known()}
    return {name: scale for name, scale in own.items() if scale != COMMON}


def _forecast(p: Any) -> dict[str, Any]:
    return {
        "horizons_years": parseHorizons(p.horizons), "age_years": _age(p.knownAge), "sex": _word(p.knownSex),
        "disease": _word(p.knownDisease), "cdr": None if p.knownCdr == UNCHANGED else float(p.knownCdr),
        "samples": int(p.samples), "rendering": p.forecastRendering, "uncertainty": bool(p.uncertainty),
        "guidance_scale": float(p.forecastGuidance), "sampler": p.forecastSampler, "num_steps": int(p.forecastSteps),
    }


def known(p: Any) -> Conditions:
    """What the user knows of the person; the rest is read from the scan by the probes."""
    return Conditions(disease=_word(p.knownDisease), sex=_word(p.knownSex), age_years=_age(p.knownAge))


def _word(word: str) -> str | None:
    return None if word == UNCHANGED else word


def _age(years: float) -> float | None:
    return None if years == UNKNOWN_AGE else float(years)


def describeEdit(target: Conditions) -> str:
    """The edit in a few words, for names of nodes: ``AD, 80 years``."""
    words = {"age_years": "{:g} years", "sex": "sex {}", "site": "site {}", "idh1": "IDH1 {}"}
    return ", ".join(words.get(name, "{}").format(value) for name, value in target.known().items())


def label(request: AnyRequest) -> str:
    """The run in a few words."""
    if isinstance(request, CounterfactualRequest):
        return describeEdit(request.target)
    if isinstance(request, ForecastRequest):
        years = ", ".join(f"{h:+g}" for h in request.horizons_years)
        return f"forecast {years} years"
    return "probes" if isinstance(request, ProbeRequest) else "preprocessed"
