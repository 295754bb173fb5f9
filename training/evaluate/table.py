"""One table of the report: rows beside the paper's numbers, the data they were computed on, pictures; as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from braing3n_core.atomic import atomic_file

from .metrics.scores import Estimate

Cell = str | float | int | bool | Estimate | None
NOT_RUN = "not run here"
HERE = "the data above"
PATIENTS = "paper (patients)"


@dataclass(frozen=True)
class Picture:
    """A PNG beside the tables. name: file name; caption: one sentence."""

    name: str
    caption: str


@dataclass(frozen=True)
class Table:
    """columns: of which every row has one text. data: what it was computed on. notes: how to read it, one a sentence.

    values: the bare numbers behind the texts, by a plain name, for programs and tests.
    """

    name: str
    title: str
    data: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    values: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"Table {self.name} has {len(self.columns)} columns, a row {len(wrong[0])}: {wrong[0]}")

    def tsv(self) -> str:
        """Tab-separated, the data it is about as the first column's neighbour, so that a row never travels alone."""
        lines = [("data of the table", *self.columns), *((self.data, *row) for row in self.rows)]
        return "".join("\t".join(" ".join(cell.split()) for cell in line) + "\n" for line in lines)

    def markdown(self) -> str:
        """The table and its notes, without pictures."""
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |\n"

        body = line(self.columns) + line(["---"] * len(self.columns)) + "".join(line(row) for row in self.rows)
        return f"*Data: {self.data}*\n\n{body}\n" + "".join(f"- {note}\n" for note in self.notes)


def rows_of(cells: Sequence[Sequence[Cell]]) -> tuple[tuple[str, ...], ...]:
    """Cells as texts: three significant digits, intervals in brackets, a dash for what is not there."""
    return tuple(tuple(text(cell) for cell in row) for row in cells)


def text(cell: Cell) -> str:
    """One cell."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.3g}"
    if isinstance(cell, Estimate) and cell.value != cell.value:
        return "-"
    return str(cell)


def save_table(folder: Path, table: Table, fingerprint: dict[str, Any]) -> None:
    """Write ``NAME.tsv`` and ``NAME.json``; the JSON comes last and says that the table is finished."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "tables" / f"{table.name}.tsv") as handle:
        handle.write(table.tsv().encode())
    with atomic_file(folder / "tables" / f"{table.name}.json") as handle:
        handle.write(json.dumps({"of": fingerprint, "table": asdict(table)}, indent=1).encode())


def load_table(folder: Path, name: str, fingerprint: dict[str, Any] | None = None) -> Table | None:
    """A finished table, or None when there is none of this checkpoint, data and settings, or a picture is gone."""
    path = folder / "tables" / f"{name}.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if fingerprint is not None and found["of"] != json.loads(json.dumps(fingerprint)):
        return None
    raw = found["table"]
    pictures = tuple(Picture(**p) for p in raw["pictures"])
    if any(not (folder / "pictures" / p.name).is_file() for p in pictures):
        return None
    return Table(**{
        **raw, "columns": tuple(raw["columns"]), "rows": tuple(tuple(r) for r in raw["rows"]),
        "notes": tuple(raw["notes"]), "pictures": pictures,
    })
