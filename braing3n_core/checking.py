"""Requests judged before anything heavy is imported: words against vocabularies, numbers against ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import RequestError
from .schema import (
    AGE_RANGE_YEARS,
    BRAIN_BACKENDS,
    CDR_VALUES,
    EDIT_METHODS,
    MODALITIES,
    RENDERINGS,
    SAMPLERS,
    STAGES,
    AnyRequest,
    Conditions,
    CounterfactualRequest,
    ForecastRequest,
    GenerateRequest,
    PreprocessOptions,
    Request,
    nearest,
)

RANGES: dict[str, tuple[float, float]] = {
    "age_years": AGE_RANGE_YEARS, "cdr": (CDR_VALUES[0], CDR_VALUES[-1]), "horizons_years": (-20.0, 20.0),
    "guidance_scale": (0.0, 10.0), "strength": (0.0, 1.0), "num_steps": (1, 200), "samples": (1, 64), "count": (1, 64),
    "noise_scale": (0.0, 2.0), "truncation": (0.0, 1.0), "reweighting": (0.0, 3.0), "seed": (0, 2**63 - 1),
}
"""Smallest and largest number of each field, both allowed."""

Vocabularies = Mapping[str, Sequence[str] | None]
"""By condition: its words, or None for a number. A condition that is missing is one the checkpoint does not know."""


def check_request(request: AnyRequest, vocabularies: Vocabularies) -> None:
    """Raise RequestError for anything that cannot be done. vocabularies: of the part that the request needs."""
    if isinstance(request, Request):
        _check_input(request.input)
        check_options(request.preprocess)
    _check_number("seed", request.seed)
    if isinstance(request, CounterfactualRequest):
        check_conditions(request.target, vocabularies)
        check_conditions(request.source, vocabularies)
        _check_numbers(request, "guidance_scale", "strength", "num_steps")
        _check_scales(request.guidance_scales, tuple(request.target.known()))
        _check_word("method", request.method, EDIT_METHODS)
    elif isinstance(request, GenerateRequest):
        check_conditions(request.conditions, vocabularies)
        _check_numbers(request, "num_steps", "count")
        _check_word("sampler", request.sampler, SAMPLERS)
        _check_interval(request.guidance_interval)
        own = ("guidance_scale", "noise_scale", "truncation")
        _check_numbers(request, *(name for name in own if getattr(request, name) is not None))
        _check_reweighting(request.reweighting)
    elif isinstance(request, ForecastRequest):
        _check_forecast(request, vocabularies)
    if isinstance(request, CounterfactualRequest | ForecastRequest):
        _check_word("rendering", request.rendering, RENDERINGS)
        _check_word("sampler", request.sampler, SAMPLERS)


def check_options(options: PreprocessOptions) -> None:
    """Refuse preprocessing words that do not exist and files that are not there."""
    _check_word("modality", options.modality, MODALITIES)
    _check_word("stage", options.stage, ("auto", *STAGES))
    _check_word("brain", options.brain, ("auto", *BRAIN_BACKENDS))
    if options.brain == "mask" and options.mask is None:
        raise RequestError("request.mask", "brain='mask' needs the path of a brain mask.", "Give --mask FILE.")
    for what, path in (("mask", options.mask), ("template", options.template)):
        if path is not None and not Path(path).is_file():
            raise RequestError(f"request.{what}", f"There is no {what} file {path}.", "Check the path.")


def check_conditions(conditions: Conditions, vocabularies: Vocabularies) -> None:
    """Refuse conditions that the checkpoint does not know, naming the nearest that it does."""
    for name, value in conditions.known().items():
        check_condition(name, value, vocabularies)


def check_condition(name: str, value: Any, vocabularies: Vocabularies) -> None:
    """Refuse one condition. Codes ``condition.unknown``, ``condition.word``, ``request.<name>``."""
    if name not in vocabularies:
        raise RequestError(
            "condition.unknown", f"This checkpoint has no condition {name!r}.",
            f"{nearest(name, list(vocabularies))}Known conditions: {', '.join(vocabularies)}.",
        )
    words = vocabularies[name]
    if words is None:
        _check_number(name, value)
    elif value not in words:
        raise RequestError(
            "condition.word", f"{name} has no value {value!r}.",
            f"{_nearest_word(str(value), words)}Known values: {', '.join(words)}.",
        )


def _check_forecast(request: ForecastRequest, vocabularies: Vocabularies) -> None:
    if not request.horizons_years:
        raise RequestError("request.horizons_years", "A forecast needs at least one horizon.", "Give --years 1 2 5.")
    for horizon in request.horizons_years:
        _check_number("horizons_years", horizon)
    if len(set(request.horizons_years)) != len(request.horizons_years):
        raise RequestError("request.horizons_years", "A horizon is given twice.", "Give each horizon once.")
    for name in ("age_years", "sex", "disease", "cdr"):
        if getattr(request, name) is not None:
            check_condition(name, getattr(request, name), vocabularies)
    _check_numbers(request, "guidance_scale", "num_steps", "samples")


def _check_scales(scales: object, changed: Sequence[str]) -> None:
    """A factor of its own is for a condition that is to be changed: elsewhere it would do nothing, unnoticed."""
    if not isinstance(scales, dict):
        raise RequestError(
            "request.guidance_scales", f"guidance_scales must be factors by condition, got {scales!r}.",
            "Give for example {'disease': 2.0}.",
        )
    for name, scale in scales.items():
        if name not in changed:
            raise RequestError(
                "request.guidance_scales", f"A guidance is given for {name!r}, which is not to be changed.",
                f"{nearest(str(name), list(changed))}To be changed: {', '.join(changed) or 'nothing'}.",
            )
        _check_number("guidance_scale", scale)


def _check_reweighting(weights: object) -> None:
    if weights is None:
        return
    if not isinstance(weights, tuple) or len(weights) != 2:
        raise RequestError(
            "request.reweighting", f"Reweighting must be two weights, got {weights!r}.",
            "Give (common, specific); (1, 1) leaves brains as they were drawn.",
        )
    for weight in weights:
        _check_number("reweighting", weight)


def _check_interval(interval: object) -> None:
    times = interval if isinstance(interval, tuple) else ()
    are_numbers = all(isinstance(t, int | float) and not isinstance(t, bool) for t in times)
    if len(times) != 2 or not are_numbers or not 0 <= times[0] <= times[1] <= 1:
        raise RequestError(
            "request.guidance_interval", f"The guidance interval must be two times in 0..1, got {interval!r}.",
            "Give (lo, hi) with 0 <= lo <= hi <= 1; (0, 1) is always.",
        )


def _check_input(path: object) -> None:
    if not isinstance(path, str) or not path:
        raise RequestError("request.input", f"A request needs the path of a scan, got {path!r}.", "Give a file.")


def _check_word(what: str, word: object, known: Sequence[str]) -> None:
    if word not in known:
        raise RequestError(
            f"request.{what}", f"Unknown {what} {word!r}.",
            f"{_nearest_word(str(word), known)}Known: {', '.join(known)}.",
        )


def _check_numbers(request: AnyRequest, *names: str) -> None:
    for name in names:
        _check_number(name, getattr(request, name))


def _check_number(name: str, value: object) -> None:
    low, high = RANGES[name]
    whole = isinstance(low, int)
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type,operator]
        span = f"a whole number from {low} to {high}" if whole else f"a number from {low:g} to {high:g}"
        raise RequestError(f"request.{name}", f"{name} must be {span}, got {value!r}.", "Correct the value.")


_ALSO: dict[str, str] = {
    "alzheimer": "AD", "alzheimers": "AD", "alzheimer's": "AD", "dementia": "AD", "healthy": "HC", "control": "HC",
    "cn": "HC", "normal": "HC", "parkinson": "PD", "parkinsons": "PD", "parkinson's": "PD", "glioblastoma": "GBM",
    "autism": "ASD", "schizophrenia": "SCZ", "female": "F", "woman": "F", "male": "M", "man": "M", "t1w": "T1",
    "t2w": "T2", "t1gd": "T1C", "t1ce": "T1C",
}
"""Words that people type for the short ones; only ever suggested, never silently taken."""


def _nearest_word(word: str, known: Sequence[str]) -> str:
    meant = _ALSO.get(word.lower())
    same = next((k for k in known if k.lower() == word.lower()), None)
    suggestion = same or (meant if meant in known else None)
    return f"Did you mean {suggestion!r}? " if suggestion else nearest(word, list(known))
