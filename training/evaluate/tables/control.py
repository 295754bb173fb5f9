"""Controllability: does a generated brain read as what was asked for, beside what is read without asking."""

from __future__ import annotations

import numpy as np

from ..figures import Panel, Series, chart, three_planes
from ..metrics.scores import Estimate, balanced_accuracy, bootstrap
from ..readers import Reader
from ..study import Study
from ..table import Cell, Picture, Table, rows_of
from .ages import AGES_YEARS, bases_at, held_out, readings, true_brain_ages
from .arms import CONTRASTS, Contrast, draw, draw_null, known, readable, reader_of, shipped_names

COLUMNS = (
    "asked", "samples an arm", "condition: held-out probe", "condition: shipped probe", "null", "prior (real scans)",
    "ceiling: held-out probe on real scans", "held-out probe fitted on", "paper (patients)",
)
AGE = "age 30/50/70"
TYPICAL_SHARE = 0.7
TYPICAL = f"{AGE}, truncation {TYPICAL_SHARE:g}"


def compute(study: Study) -> Table:
    """Every contrast, then age, with a same-noise sweep as pictures."""
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    for contrast in CONTRASTS:
        cells.append(_contrast(study, contrast, values))
    cells.append(aged(study, AGE, None, values))
    cells.append(aged(study, TYPICAL, TYPICAL_SHARE, values))
    return Table(
        "controllability", "Controllability (paper, Table 2)", study.label, COLUMNS, rows_of(cells),
        _notes(study), _pictures(study, values), values,
    )


def _notes(study: Study) -> tuple[str, ...]:
    return (
        "Balanced accuracy of a linear probe on the samples' latents; chance is one half (a quarter for modality). The "
        "held-out probe was fitted on real scans that the generator never saw, and judges as if every word were as "
        "frequent; the shipped probe was fitted on the generator's own training cohort.",
        "Held-out probe fitted on: so many scans of these (`--store`), or of other people (`--reader-latents`), where "
        "those carry the label; at ages that all words of the row have, so that no disease is told by age.",
        "Null: share read as the first word when that condition is set to null. Prior: share of the first word among "
        "the real scans. Ceiling: the held-out probe's own accuracy on these real scans, those that it had not seen.",
        f"All arms of a row, the null arms too, share their noises and bases: {study.drawn_how}.",
        "Age, of the healthy: r of read against asked age; mean read age at each. In brackets the same of real scans, "
        "on the straight line through what is read at their true ages: a probe draws ages towards their mean, and "
        "people of one age differ, so brains as various as people are read with that r and no larger one. True brain "
        "age: what a probe without any error would read in these people.",
        f"Truncation {TYPICAL_SHARE:g}: of the same brains that share is kept of what sets each apart from the mean "
        "brain of its conditions. They are more alike than people are, and show their age more clearly than people do.",
    )


def _contrast(study: Study, contrast: Contrast, values: dict[str, float]) -> list[Cell]:
    refused = known(study, contrast)
    if refused:
        return [contrast.name, None, refused, *[None] * 5, contrast.paper]
    reader, unread = readable(study, contrast)
    if unread:
        return [contrast.name, None, unread, None, None, _prior(study, contrast), None, None, contrast.paper]
    samples, reason = draw(study, contrast), reader_of(study, contrast)[1]
    asked = np.repeat(contrast.words, study.settings.samples)
    everything = np.concatenate([samples[w] for w in contrast.words])
    base = np.tile(np.arange(study.settings.samples), len(contrast.words))

    def agreement(named: np.ndarray | None) -> Estimate | None:
        if named is None:
            return None
        return bootstrap(lambda i: balanced_accuracy(asked[i], named[i]), base, study.settings.bootstrap)

    held = agreement(reader.named(everything)) if reader else reason
    shipped = agreement(shipped_names(study, contrast, everything))
    for kind, found in (("held-out", held), ("shipped", shipped)):
        if isinstance(found, Estimate):
            values[f"{contrast.name}/{kind}"] = found.value
    return [contrast.name, study.settings.samples, held, shipped, _null(study, contrast, reader),
            _prior(study, contrast), *_ceiling(reader), contrast.paper]


def _ceiling(reader: Reader | None) -> tuple[str | None, str | None]:
    """How well it reads real scans that it has not seen, and how many scans it was fitted on."""
    if reader is None:
        return None, None
    return f"{'' if reader.classes else 'r '}{reader.quality:.3g}", reader.fitted_on


def _null(study: Study, contrast: Contrast, reader: Reader | None) -> str | None:
    samples = draw_null(study, contrast)
    if samples is None:
        return "never dropped"
    first = contrast.words[0]
    named = shipped_names(study, contrast, samples) if reader is None else reader.named(samples)
    return None if named is None else f"{(named == first).mean():.2f} {first}"


def _prior(study: Study, contrast: Contrast) -> str | None:
    labels = study.column(contrast.label)
    labels = labels[[w in contrast.words for w in labels]]
    return f"{(labels == contrast.words[0]).mean():.2f} {contrast.words[0]}" if len(labels) else None


def aged(study: Study, name: str, truncation: float | None, values: dict[str, float]) -> list[Cell]:
    """Age asked at three ages, read by both probes."""
    if truncation is not None and study.inference.parts.dit.prior is None:
        return [name, None, "the checkpoint knows no mean brain", *[None] * 6]
    cells: dict[str, str] = {}
    for reading in readings(study, truncation=truncation):
        kind, means = reading.judge.kind, reading.means
        cells[kind] = reading.in_words(study.settings.bootstrap)
        values[f"{name}/{kind}/r"] = reading.r
        values[f"{name}/{kind}/error"] = float(np.abs(means - AGES_YEARS).mean())
        values.update({f"{name}/{kind}/{a:g}": float(m) for a, m in zip(AGES_YEARS, means, strict=True)})
    truth = true_brain_ages(study.records)
    return [name, study.settings.samples, cells.get("held-out"), cells.get("shipped"), None,
            None if truth is None else f"true brain age: {truth}", *_ceiling(held_out(study)), "r about .95"]


def _pictures(study: Study, values: dict[str, float]) -> tuple[Picture, ...]:
    panels = [
        Panel(f"{title}", study.decode(latents), synthetic=True)
        for title, latents in _sweep(study)
    ]
    three_planes(study.pictures / "control.png", panels)
    series = [
        Series(f"{kind} probe", AGES_YEARS, [values[f"{AGE}/{kind}/{a:g}"] for a in AGES_YEARS], line=True)
        for kind in ("held-out", "shipped") if f"{AGE}/{kind}/30" in values
    ]
    pictures = [Picture("control.png", "One noise under one changed condition at a time.")]
    if series:
        chart(study.pictures / "control_age.png", series, ("age asked (years)", "mean age read (years)"), diagonal=True)
        pictures.append(Picture("control_age.png", "Mean age that the probes read from generated brains."))
    return tuple(pictures)


def _sweep(study: Study) -> list[tuple[str, np.ndarray]]:
    """The first sample at two ages, of both sexes' arms, two diseases and four contrasts."""
    found = [(f"age {a:g}", study.generate(bases_at(study, a))[0]) for a in (AGES_YEARS[0], AGES_YEARS[-1])]
    for contrast in CONTRASTS:
        if contrast.name in ("HC / AD", "modality") and not known(study, contrast):
            found += [(word, latents[0]) for word, latents in draw(study, contrast).items()]
    return found
