"""The manifest as a file: one line a scan, tab-separated, read back strictly."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from braing3n_core.atomic import atomic_file
from braing3n_core.errors import BrainG3NError
from braing3n_core.schema import MODALITIES, STAGES

from .labels import COLUMNS, MISSING, Value, read_label
from .split import SPLITS

PLACE: tuple[str, ...] = ("person", "subject", "session", "run", "cohort", "split", "stage", "path")
HEADER: tuple[str, ...] = (*PLACE, *COLUMNS)


class ManifestError(BrainG3NError):
    """A manifest, a cohort card or a cohort's folder is not what it must be. Correct what is named."""


@dataclass(frozen=True)
class Row:
    """One scan. person: whom it shows, unique over all cohorts. stage: ``auto`` or one of ``schema.STAGES``.

    path: a volume's file or a DICOM series' folder. labels: the columns of ``labels.COLUMNS``, None where unknown.
    """

    person: str
    subject: str
    session: str
    run: str
    cohort: str
    split: str
    stage: str
    path: str
    labels: dict[str, Value] = field(default_factory=dict)

    @property
    def modality(self) -> str:
        return str(self.labels["modality"])

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What must be unique: cohort, subject, session, modality, run."""
        return self.cohort, self.subject, self.session, self.modality, self.run


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """A tab-separated table, whole or not at all; None is ``n/a``."""
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(header)
    table.writerows([[_cell(value) for value in row] for row in rows])
    with atomic_file(path) as handle:
        handle.write(text.getvalue().encode("utf-8"))
    return path


def write_manifest(path: Path, rows: Sequence[Row]) -> Path:
    """Write the manifest."""
    return write_rows(path, HEADER, ([*(getattr(r, n) for n in PLACE), *(r.labels.get(c) for c in COLUMNS)]
                                     for r in rows))


def read_manifest(path: str | Path) -> list[Row]:
    """Read a manifest. Raises :class:`ManifestError` for missing columns, unknown words, a scan that is there twice,
    and a person on two sides of the split."""
    place = Path(path)
    if not place.is_file():
        raise ManifestError("manifest.missing", f"There is no manifest {place}.", "Make one with training.manifest.")
    with place.open(encoding="utf-8", newline="") as handle:
        table = csv.DictReader(handle, delimiter="\t")
        lacking = [name for name in HEADER if name not in (table.fieldnames or ())]
        if lacking:
            raise ManifestError(
                "manifest.columns", f"{place} lacks the columns {', '.join(lacking)}.",
                "Make it with training.manifest.",
            )
        rows = [_row(place, number, line) for number, line in enumerate(table, 2)]
    refuse_both_sides(rows)
    _refuse_twice(rows)
    return rows


def refuse_both_sides(rows: Sequence[Row]) -> None:
    """Raises :class:`ManifestError` when a person is on two sides of the split."""
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        sides[row.person].add(row.split)
    torn = sorted(person for person, found in sides.items() if len(found) > 1)
    if torn:
        raise ManifestError(
            "manifest.split", f"{torn[0]} is in {' and '.join(sorted(sides[torn[0]]))}"
            f"{f', and {len(torn) - 1} more people are on two sides' if len(torn) > 1 else ''}.",
            "A person belongs to one side: make the manifest again, or correct the column split.",
        )


def _refuse_twice(rows: Sequence[Row]) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for row in rows:
        if row.key in seen:
            raise ManifestError(
                "manifest.twice", f"{' '.join(row.key)} is there twice: {seen[row.key]} and {row.path}.",
                "Remove one, or give them different runs.",
            )
        seen[row.key] = row.path


def _row(place: Path, number: int, line: dict[str, str]) -> Row:
    labels: dict[str, Value] = {}
    for column in COLUMNS:
        cell = read_label(column, line[column])
        if cell.problem is not None:
            raise ManifestError("manifest.label", f"{place}, line {number}: {cell.problem}", "Correct the cell.")
        labels[column] = cell.value
    for name, known in (("split", SPLITS), ("stage", ("auto", *STAGES)), ("modality", MODALITIES)):
        if line[name] not in known:
            raise ManifestError(
                f"manifest.{name}", f"{place}, line {number}: {line[name]!r} is no {name}.", f"Use {', '.join(known)}."
            )
    return Row(**{name: line[name] for name in PLACE}, labels=labels)


def _cell(value: object) -> str:
    if value is None:
        return MISSING
    return f"{value:.6g}" if isinstance(value, float) else str(value)
