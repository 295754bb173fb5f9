"""Controllability: does a generated brain read as what was asked for, beside what is read without asking."""

from __future__ import annotations

import numpy as np

from ..figures import Panel, Series, chart, three_planes
from ..metrics.scores import Estimate, balanced_accuracy, bootstrap, correlation
from ..readers import Reader
from ..study import Study
from ..table import Cell, Picture, Table, rows_of
from .arms import (
    AGES_YEARS,
    CONTRASTS,
    Contrast,
    age_bases,
    age_reader,
    ages_of_scans,
    draw,
    draw_null,
    in_words,
    known,
    mean_ages,
    readable,
    reader_of,
    shipped_ages,
    shipped_names,
)

COLUMNS = (
    "asked", "samples an arm", "condition: held-out probe", "condition: shipped probe", "null", "prior (real scans)",
    "ceiling: held-out probe on real scans", "held-out probe fitted on", "paper (patients)",
)


def compute(study: Study) -> Table:
    """Every contrast, then age, with a same-noise sweep as pictures."""
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    for contrast in CONTRASTS:
        cells.append(_contrast(study, contrast, values))
    ages = _ages(study, values)
    return Table(
        "controllability", "Controllability (paper, Table 2)", study.label, COLUMNS, rows_of(cells + ages),
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
        f"All arms of a row, the null arms too, share their noises and bases: {study.drawn_how}. Age: r of read "
        "against asked age; mean read age at each, and on the straight line through what is read of real scans at "
        "their true ages, which a probe draws towards their mean too.",
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


def _ages(study: Study, values: dict[str, float]) -> list[list[Cell]]:
    """Age asked at three ages, read by both probes."""
    samples = np.concatenate([study.generate(age_bases(study, a)) for a in AGES_YEARS])
    asked = np.repeat(AGES_YEARS, study.settings.samples)
    reader = age_reader(study)
    read, of_scans = {}, {}
    if reader:
        read["held-out"], of_scans["held-out"] = reader.values(samples), ages_of_scans(reader.truth, reader.unseen)
    shipped = shipped_ages(study, samples)
    if shipped is not None:
        read["shipped"], of_scans["shipped"] = shipped, ages_of_scans(*_read_in_scans(study))
    cells: dict[str, str] = {}
    for name, age in read.items():
        means, line = mean_ages(asked, age), of_scans[name]
        values[f"age/{name}/r"] = correlation(asked, age)
        values[f"age/{name}/error"] = float(np.abs(means - AGES_YEARS).mean())
        cells[name] = f"r {values[f'age/{name}/r']:.3g}; {in_words(means)}"
        if line is not None:
            cells[name] += f" (real scans {in_words(line)})"
        values.update({f"age/{name}/{a:g}": float(m) for a, m in zip(AGES_YEARS, means, strict=True)})
    return [["age 30/50/70", study.settings.samples, cells.get("held-out"), cells.get("shipped"), None, None,
             *_ceiling(reader), "r about .95"]]


def _read_in_scans(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """True ages (n,) of the real T1 scans, and what the shipped probe reads there."""
    rows = [i for i in study.where(modality="T1") if study.records[i].get("age_years") is not None]
    truth = np.array([float(study.records[i]["age_years"]) for i in rows])
    read = shipped_ages(study, study.latents[rows]) if rows else None
    return truth, truth if read is None else read


def _pictures(study: Study, values: dict[str, float]) -> tuple[Picture, ...]:
    panels = [
        Panel(f"{title}", study.decode(latents), synthetic=True)
        for title, latents in _sweep(study)
    ]
    three_planes(study.pictures / "control.png", panels)
    series = [
        Series(f"{kind} probe", AGES_YEARS, [values[f"age/{kind}/{a:g}"] for a in AGES_YEARS], line=True)
        for kind in ("held-out", "shipped") if f"age/{kind}/30" in values
    ]
    pictures = [Picture("control.png", "One noise under one changed condition at a time.")]
    if series:
        chart(study.pictures / "control_age.png", series, ("age asked (years)", "mean age read (years)"), diagonal=True)
        pictures.append(Picture("control_age.png", "Mean age that the probes read from generated brains."))
    return tuple(pictures)


def _sweep(study: Study) -> list[tuple[str, np.ndarray]]:
    """The first sample at two ages, of both sexes' arms, two diseases and four contrasts."""
    found = [(f"age {a:g}", study.generate(age_bases(study, a))[0]) for a in (AGES_YEARS[0], AGES_YEARS[-1])]
    for contrast in CONTRASTS:
        if contrast.name in ("HC / AD", "modality") and not known(study, contrast):
            found += [(word, latents[0]) for word, latents in draw(study, contrast).items()]
    return found
