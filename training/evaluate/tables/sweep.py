"""The guidance sweep: what a stronger condition buys, and what it breaks."""

from __future__ import annotations

import numpy as np

from ..figures import Series, chart
from ..metrics.scores import balanced_accuracy, correlation
from ..study import Study
from ..table import HERE, PATIENTS, Cell, Picture, Table, rows_of
from .arms import AGES_YEARS, CONTRASTS, age_bases, draw, known, readable, shipped_names

COLUMNS = ("guidance", "HC / AD", "sex", "IDH1, asked of a glioma", "age r", "age read at 30/50/70", "row of")
PAPER: list[list[Cell]] = [
    ["1.5", "1.00", ".92", ".52", ".95", "30.9/49.4/72.4", PATIENTS],
    ["2.0", ".98", ".92", ".52", ".94", "35.4/54.8/75.7", PATIENTS],
    ["3.0", "1.00", ".97", ".51", ".82", "47.9/58.3/78.5", PATIENTS],
]


def compute(study: Study) -> Table:
    """One row a scale, beside the paper's."""
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    reader = study.reader("age_years", study.where(modality="T1"))
    for scale in study.settings.sweep:
        row: list[Cell] = [f"{scale:g}"]
        for name in COLUMNS[1:4]:
            found = _agreement(study, name, scale)
            row.append(found)
            if isinstance(found, float):
                values[f"{name}/{scale:g}"] = found
        samples = np.concatenate([study.generate(age_bases(study, a), scale) for a in AGES_YEARS])
        asked = np.repeat(AGES_YEARS, study.settings.samples)
        read = reader.values(samples) if reader else np.full(len(samples), np.nan)
        values[f"age/{scale:g}"] = correlation(asked, read)
        means = "/".join(f"{read[asked == a].mean():.1f}" for a in AGES_YEARS) if reader else None
        cells.append([*row, values[f"age/{scale:g}"], means, HERE])
    notes = (("Guidance amplifies the age too, as in the paper." if study.settings.guide_numbers else
              "Guidance amplifies classes and leaves the age as it was asked for; in the paper it amplifies all."),
             "Balanced accuracy by the held-out probe (the shipped one where too few real subjects carry the label), "
             "as in the table of controllability, whose samples at its scale these are.",)
    return Table("guidance", "Guidance sweep (paper, Table 3)", study.label, COLUMNS, rows_of(cells + PAPER), notes,
                 _picture(study, values), values)


def _agreement(study: Study, name: str, scale: float) -> float | str:
    contrast = next(c for c in CONTRASTS if c.name == name)
    refused = known(study, contrast)
    if refused:
        return refused
    reader, unread = readable(study, contrast)
    if unread:
        return unread
    samples = draw(study, contrast, scale)
    asked = np.repeat(contrast.words, study.settings.samples)
    everything = np.concatenate([samples[w] for w in contrast.words])
    named = reader.named(everything) if reader else shipped_names(study, contrast, everything)
    return "-" if named is None else balanced_accuracy(asked, named)


def _picture(study: Study, values: dict[str, float]) -> tuple[Picture, ...]:
    scales = list(study.settings.sweep)
    series = [
        Series(label, scales, [values[f"{name}/{s:g}"] for s in scales], line=True)
        for name, label in (*((n, n) for n in COLUMNS[1:4]), ("age", "age r"))
        if all(np.isfinite(values.get(f"{name}/{s:g}", np.nan)) for s in scales)
    ]
    if not series:
        return ()
    chart(study.pictures / "guidance.png", series, ("guidance scale", "balanced accuracy, or r"), level=0.5)
    return (Picture("guidance.png", "Agreement with what was asked, by guidance; dotted: chance of two words."),)
