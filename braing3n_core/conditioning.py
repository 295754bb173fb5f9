"""The conditions that a scan is edited or forecast under: what the user gave, and what the probes read elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .checking import RANGES, Vocabularies
from .probes import ProbePanel
from .schema import Conditions, Effect, ForecastRequest, Reading

PROBE_OF: dict[str, str] = {"disease": "disease", "sex": "sex", "age_years": "age"}
"""By condition: the task of the probe that can stand in for it."""
Contrasts = list[tuple[dict[str, Any], float]]
"""Conditions to amplify away from, each with its factor."""


def fill_unknown(
    given: Mapping[str, Any], readings: Sequence[Reading], vocabularies: Vocabularies
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """``given`` with unknown (None) conditions taken from the probes, and the names of those that were.

    A word outside the checkpoint's vocabulary stays unknown; an age is clipped to the range that can be asked for.
    """
    by_task = {r.task: r.value for r in readings}
    filled, read = dict(given), []
    for name, task in PROBE_OF.items():
        if name in filled and filled[name] is None and name in vocabularies and task in by_task:
            value = _acceptable(name, by_task[task], vocabularies[name])
            if value is not None:
                filled[name] = value
                read.append(name)
    return filled, tuple(read)


def source_conditions(
    source: Conditions, modality: str, readings: Sequence[Reading], vocabularies: Vocabularies
) -> tuple[Conditions, tuple[str, ...]]:
    """All that is known of a scan: given, else read; the modality is that of the scan."""
    given = {name: getattr(source, name) for name in vocabularies if hasattr(source, name)}
    if "modality" in given:
        given["modality"] = given["modality"] or modality
    filled, read = fill_unknown(given, readings, vocabularies)
    return Conditions(**filled), read


def contrasts(
    source: Mapping[str, Any], target: Mapping[str, Any], scales: Mapping[str, float], common: float,
    numbers: Collection[str],
) -> Contrasts:
    """What an edit's guidance moves away from: only what is changed, each condition by its own factor.

    scales: factors by name. Of the others a class takes ``common``, and ``numbers`` 1: a number is what was asked for,
    and ten years amplified would be fifteen (ADR 21). Conditions of one factor are put back to the source together;
    a factor of 1 amplifies nothing and is no contrast.
    """
    groups: dict[float, dict[str, Any]] = {}
    for name, before in source.items():
        if target[name] != before:
            groups.setdefault(scales.get(name, 1.0 if name in numbers else common), {})[name] = before
    return [({**target, **back}, scale) for scale, back in groups.items() if scale != 1]


def forecast_conditions(
    request: ForecastRequest, readings: Sequence[Reading], vocabularies: Vocabularies
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The baseline's conditions of a forecast: given, else read. CDR stays unknown when it is not given."""
    names = ("disease", "sex", "age_years", "cdr")
    return fill_unknown({n: getattr(request, n) for n in names if n in vocabularies}, readings, vocabularies)


def effects(before: Sequence[Reading], after: Sequence[Reading], asked: Mapping[str, Any]) -> tuple[Effect, ...]:
    """Every probe's reading before and after an edit, what was asked for first. asked: conditions that were to change,
    with their new values.
    """
    wanted = {PROBE_OF.get(name, name): value for name, value in asked.items()}
    later = {r.task: r for r in after}
    found = [_effect(r, later[r.task], r.task in wanted, wanted.get(r.task)) for r in before if r.task in later]
    return tuple(sorted(found, key=lambda effect: not effect.asked))


def _effect(before: Reading, after: Reading, asked: bool, wanted: Any) -> Effect:
    plain = Effect(before.task, before.value, after.value, before.unit, asked)
    if isinstance(before.value, float) and isinstance(after.value, float):
        return dataclasses.replace(plain, drift=after.value - before.value)
    was, now = before.probabilities, after.probabilities
    if was is None or now is None:
        return plain
    word = wanted if wanted in was else max(was, key=lambda name: now[name] - was[name])
    return dataclasses.replace(
        plain, drift=now[word] - was[word], word=word, chance_before=was[word], chance_after=now[word]
    )


def latent_probes(panel: ProbePanel) -> ProbePanel:
    """The probes that read latents: those that can also read edited latents, which have no tokens."""
    familiarity = panel.familiarity
    if familiarity is not None and familiarity.features != "latents":
        familiarity = None
    return ProbePanel(tuple(p for p in panel.probes if p.features == "latents"), familiarity)


def _acceptable(name: str, value: float | str, words: Sequence[str] | None) -> float | str | None:
    if words is not None:
        return value if value in words else None
    low, high = RANGES[name]
    return min(max(float(value), low), high)
