"""The guidance sweep: what a stronger condition buys, and what it breaks."""

from __future__ import annotations

import numpy as np

from ..figures import Series, chart
from ..metrics.scores import balanced_accuracy
from ..study import Study
from ..table import HERE, PATIENTS, Cell, Picture, Table, rows_of
from .ages import AGES_YEARS, readings, slashed
from .arms import CONTRASTS, draw, known, readable, shipped_names

COLUMNS = ("guidance", "HC / AD", "HC / PD, asked in FLAIR", "sex", "IDH1, asked of a glioma", "age r",
           "age read at 30/50/70", "age read, shipped probe", "row of")
NAMED = 5
"""Up to here columns are contrasts."""
BEYOND = 4.0
"""What the paper's guidance could not be turned up to: it moves the age with it."""
PAPER: list[list[Cell]] = [
    ["1.5", "1.00", None, ".92", ".52", ".95", "30.9/49.4/72.4", None, PATIENTS],
    ["2.0", ".98", None, ".92", ".52", ".94", "35.4/54.8/75.7", None, PATIENTS],
    ["3.0", "1.00", None, ".97", ".51", ".82", "47.9/58.3/78.5", None, PATIENTS],
]


def compute(study: Study) -> Table:
    """One row a scale, beside the paper's."""
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    by_disease = study.inference.parts.dit.config.disease_guidance
    for scale in (*scales_of(study), *([None] if by_disease else [])):
        cells.append(_row(study, scale, values))
    notes = (("Guidance amplifies the age too, as in the paper." if study.settings.guide_numbers else
              "Guidance amplifies classes and leaves the age as it was asked for; in the paper it amplifies all."),
             "Balanced accuracy by the held-out probe (the shipped one where too few real subjects carry the label), "
             "as in the table of controllability, whose samples at its scale these are. A held-out probe of few "
             "subjects draws ages towards the mean; the shipped one, of many, less.")
    return Table("guidance", "Guidance sweep (paper, Table 3)", study.label, COLUMNS, rows_of(cells + PAPER), notes,
                 _picture(study, values), values)


def _row(study: Study, scale: float | None, values: dict[str, float]) -> list[Cell]:
    """At one scale; None is the checkpoint's own, by disease."""
    name = "by disease" if scale is None else f"{scale:g}"
    row: list[Cell] = [name]
    for contrast in COLUMNS[1:NAMED]:
        found = _agreement(study, contrast, scale)
        row.append(found)
        if isinstance(found, float):
            values[f"{contrast}/{name}"] = found
    read = {reading.judge.kind: reading for reading in readings(study, scale)}
    held, shipped = read.get("held-out"), read.get("shipped")
    values[f"age/{name}"] = held.r if held else np.nan
    if shipped:
        values[f"age error/{name}"] = float(np.abs(shipped.means - AGES_YEARS).mean())
    return [*row, values[f"age/{name}"], slashed(held.means) if held else None,
            slashed(shipped.means) if shipped else None, HERE]


def scales_of(study: Study) -> tuple[float, ...]:
    """Of the paper's sweep, and beyond."""
    return (*study.settings.sweep, BEYOND)


def _agreement(study: Study, name: str, scale: float | None) -> float | str:
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
    scales = list(scales_of(study))
    series = [
        Series(label, scales, [values[f"{name}/{s:g}"] for s in scales], line=True)
        for name, label in (*((n, n) for n in COLUMNS[1:NAMED]), ("age", "age r"))
        if all(np.isfinite(values.get(f"{name}/{s:g}", np.nan)) for s in scales)
    ]
    if not series:
        return ()
    chart(study.pictures / "guidance.png", series, ("guidance scale", "balanced accuracy, or r"), level=0.5)
    return (Picture("guidance.png", "Agreement with what was asked, by guidance; dotted: chance of two words."),)
