"""Truncation: what brains that are more typical of their conditions show more clearly, and what they lack (ADR 30).

The brains of every row are the same, drawn once; of what sets each apart from the mean brain of its conditions a share
is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..figures import Panel, Series, chart, three_planes
from ..metrics.distances import variety
from ..study import Study
from ..table import HERE, Cell, Picture, Table, rows_of
from .ages import AGES_YEARS, bases_at, in_people, judges_of, readings, slashed
from .fidelity import SETS, compared, extractors_of, features, over_floor, sampled_rows

SHARES = (1.0, 0.85, 0.7, 0.5)
JUDGES = ("shipped", "held-out")
FEWEST = 4
"""Scans of which a distance is worth taking."""


def compute(study: Study) -> Table:
    """One row a share, then people."""
    known = study.inference.parts.dit.prior is not None
    rows = sampled_rows(study)
    rows = rows[study.column("modality")[rows] == "T1"]
    names = [extractor.name for extractor in extractors_of(study)]
    values: dict[str, float] = {}
    cells: list[list[Cell]] = []
    shares = SHARES if known else SHARES[:1]
    for share in shares:
        cells.append([f"{share:g}", *_ages(study, share, values), *_likeness(study, rows, share, values), HERE])
    cells.append(["people", *_ages_in_people(study), *[1.0] * 2 * len(names), HERE])
    columns = ("truncation", *(c for judge in JUDGES for c in (f"age r, {judge} probe", "read at 30/50/70")),
               *(c for name in names for c in (f"FD gen-recons over floor, {name}", f"variety, {name}")),
               "row of")
    return Table("truncation", "Truncation", study.label, columns, rows_of(cells), _notes(known),
                 _pictures(study, shares, values), values)


def _notes(known: bool) -> tuple[str, ...]:
    return (
        "Truncation: the share that is kept of what sets a brain apart from the mean brain of its conditions, which "
        "the generator has in closed form; `braing3n generate --truncation`. 1 is the default: nothing is taken away."
        if known else "This generator knows no mean brain, so that nothing can be taken away.",
        "Age as in the table of controllability, of the healthy in T1. People: what the same probe reads in real scans "
        "of healthy people, at these ages on a straight line.",
        "FD: as in the table of fidelity, over all T1. Variety: spread of the features of generated brains over that "
        "of the reconstructions; 1 is as various as people.",
    )


def _ages(study: Study, share: float, values: dict[str, float]) -> list[Cell]:
    found = {reading.judge.kind: reading for reading in readings(study, truncation=_asked(share))}
    cells: list[Cell] = []
    for judge in JUDGES:
        reading = found.get(judge)
        if reading:
            values[f"{judge}/r/{share:g}"] = reading.r
            values[f"{judge}/error/{share:g}"] = float(np.abs(reading.means - AGES_YEARS).mean())
        cells += [reading.r_within(study.settings.bootstrap), slashed(reading.means)] if reading else [None, None]
    return cells


def _ages_in_people(study: Study) -> list[Cell]:
    found = {judge.kind: in_people(judge.truth, judge.unseen) for judge in judges_of(study)}
    people = [found.get(judge) for judge in JUDGES]
    return [cell for each in people for cell in ([each.r, slashed(each.read)] if each else [None, None])]


def _likeness(study: Study, rows: np.ndarray, share: float, values: dict[str, float]) -> list[Cell]:
    """By extractor: the Frechet distance over its floor, and how various."""
    if len(rows) < FEWEST:
        return [None] * 2 * len(extractors_of(study))
    sets = {which: features(study, rows, which, _asked(share) if which == "gen" else None) for which in SETS}
    cells: list[Cell] = []
    for name in sets["gen"]:
        one = {which: of[name] for which, of in sets.items()}
        ratio = over_floor(compared(one, study.subjects[rows], study.settings.halves)[1])
        spread = variety(one["gen"], one["recons"])
        values[f"{name}/over floor/{share:g}"], values[f"{name}/variety/{share:g}"] = ratio, spread
        cells += [ratio, spread]
    return cells


def _asked(share: float) -> float | None:
    """All that sets a brain apart is what is kept where nothing is asked, by every generator."""
    return None if share == 1 else share


def _pictures(study: Study, shares: Sequence[float], values: dict[str, float]) -> tuple[Picture, ...]:
    oldest = bases_at(study, AGES_YEARS[-1])[:1]
    shown = (*shares, 0.0) if len(shares) > 1 else shares
    brains = [study.generate(oldest, truncation=_asked(share))[0] for share in shown]
    three_planes(study.pictures / "truncation.png", [
        Panel(f"truncation {share:g}", study.decode(brain), synthetic=True)
        for share, brain in zip(shown, brains, strict=True)
    ])  # fmt: skip
    asked = f"One brain, asked for at {AGES_YEARS[-1]:g} years; at 0 the mean brain of its conditions."
    drawn = [(f"age r, {judge} probe", f"{judge}/r") for judge in JUDGES]
    drawn += [(f"variety, {e.name}", f"{e.name}/variety") for e in extractors_of(study)]
    series = [
        Series(title, shares, [values[f"{key}/{share:g}"] for share in shares], line=True)
        for title, key in drawn if f"{key}/{shares[0]:g}" in values
    ]
    chart(study.pictures / "truncation_chart.png", series, ("truncation", "r, or share of people's spread"), level=0.0)
    return (Picture("truncation.png", asked),
            Picture("truncation_chart.png", "What truncation shows more clearly, and what it takes."))
