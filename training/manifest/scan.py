"""Finding a cohort's scans and their labels, as its card says."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from braing3n_core.schema import MODALITIES

from .cards import Card, Images, Table
from .check import Finding
from .labels import COLUMNS, Value, derived, read_label
from .split import SplitOptions, split_of
from .table import ManifestError, Row

_SUFFIXES = {"t1w": "T1", "t1": "T1", "t1c": "T1C", "t1ce": "T1C", "t1gd": "T1C", "t2w": "T2", "t2": "T2",
             "flair": "FLAIR", "t2flair": "FLAIR"}
_CONTRAST = re.compile(r"_ce-[A-Za-z0-9]+")
Labels = dict[str, Value]


@dataclass
class Scanned:
    """The rows of one cohort and what was noticed on the way."""

    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass
class _Book:
    """What the tables say, by (subject, session); the session "" holds for all of them."""

    labels: dict[tuple[str, str], Labels] = field(default_factory=lambda: defaultdict(dict))

    def of(self, subject: str, session: str) -> Labels:
        return {**self.labels.get((subject, ""), {}), **self.labels.get((subject, session), {})}

    def subjects(self) -> set[str]:
        return {subject for subject, _ in self.labels}


def scan(folder: Path, card: Card, options: SplitOptions | None = None) -> Scanned:
    """All scans below ``folder`` that the card describes. Raises :class:`ManifestError` when it is no folder."""
    if not folder.is_dir():
        raise ManifestError("manifest.folder", f"{folder} is no folder.", "Give the cohort's folder.")
    found = Scanned()
    book = _Book()
    for table in card.tables:
        _read_table(folder, card, table, book, found.findings)
    for path, images, groups in _images(folder, card):
        _add(found, folder, card, (path, images, groups), book, options)
    _compare_subjects(card, book, found)
    return found


def label_of(text: str) -> str:
    """An id as a BIDS label: letters and digits alone."""
    return re.sub(r"[^A-Za-z0-9]", "", re.sub(r"^(sub|ses)-", "", str(text).strip()))


def _images(folder: Path, card: Card) -> Iterator[tuple[Path, Images, Mapping[str, str | None]]]:
    start = sorted(folder.glob("sub-*")) if card.bids else [folder]
    for top in start:
        for path in sorted(top.rglob("*")):
            relative = path.relative_to(folder).as_posix()
            for images in card.images:
                match = images.pattern.fullmatch(relative)
                if match:
                    yield path, images, match.groupdict()
                    break


def _add(
    found: Scanned, folder: Path, card: Card, image: tuple[Path, Images, Mapping[str, str | None]], book: _Book,
    options: SplitOptions | None,
) -> None:
    path, images, groups = image
    subject, session = label_of(groups["subject"] or ""), label_of(groups.get("session") or "1")
    modality = _modality(images, groups)
    if modality not in card.modalities:
        said = f"The contrast {groups.get('modality')!r} is not among {', '.join(card.modalities)}."
        found.findings.append(Finding("contradicts", "modality", card.name, str(path), said))
        return
    person = f"{card.people or card.name}:{subject}"
    labels = _labels(path, card, groups, book.of(subject, session), found.findings)
    run = label_of(_CONTRAST.sub("", groups.get("run") or images.run or "")) or "1"
    found.rows.append(Row(
        person=person, subject=subject, session=session, run=run, cohort=card.name, split=split_of(person, options),
        stage=images.stage or card.stage, path=str(path.resolve()), labels={**labels, "modality": modality},
    ))


def _modality(images: Images, groups: Mapping[str, str | None]) -> str:
    raw = groups.get("modality") or ""
    if images.modality is not None:
        return images.modality
    word = str(images.words.get(raw) or _SUFFIXES.get(raw.lower().replace("-", ""), raw))
    contrast = word == "T1" and _CONTRAST.search(groups.get("run") or "")
    return "T1C" if contrast else word if word in MODALITIES else raw


def _labels(
    path: Path, card: Card, groups: Mapping[str, str | None], told: Labels, findings: list[Finding]
) -> Labels:
    """Tables first, then the card's constants, the path, and last what the sidecar says."""
    found: Labels = {**dict.fromkeys(COLUMNS), **told}
    sources = (card.constants, groups, _sidecar_labels(read_sidecar(path)))
    for source in sources:
        for column in COLUMNS:
            raw = source.get(column)
            if found[column] is None and raw is not None and column != "modality":
                found[column] = _read(column, raw, {}, findings, (card.name, str(path)))
    return derived(found)


def read_sidecar(path: Path) -> dict[str, Any]:
    """What the JSON files of BIDS say about an image, the nearest one over those above it; {} without any."""
    found: dict[str, Any] = {}
    for place in _sidecars(path):
        found.update(_json(place))
    return found


def _sidecars(path: Path) -> Iterator[Path]:
    """Where they may lie, the most general first, by BIDS' principle of inheritance: in the image's folder or above it
    in the data set, under a name of the image's own parts, in their order, and its suffix."""
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    subject = next((i for i, above in enumerate(path.parents) if above.name.startswith("sub-")), None)
    if subject is None:  # no BIDS: the image's own alone
        yield path.with_name(f"{name}.json")
        return
    *parts, suffix = name.split("_")
    for folder in reversed(path.parents[: subject + 2]):
        for count in range(len(parts) + 1):
            for chosen in combinations(parts, count):
                yield folder / f"{'_'.join([*chosen, suffix])}.json"


def _json(path: Path) -> dict[str, Any]:
    """A sidecar's content; {} when it is not there or broken: then the image is judged by itself."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _sidecar_labels(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    vendor = str(sidecar.get("Manufacturer") or "")
    known = read_label("vendor", vendor)
    return {
        "field_strength_t": sidecar.get("MagneticFieldStrength"), "site": sidecar.get("InstitutionName"),
        "vendor": (known.value or "other") if vendor else None,
    }


def _read_table(folder: Path, card: Card, table: Table, book: _Book, findings: list[Finding]) -> None:
    files = sorted(folder.glob(table.file))
    if not files and not card.bids:
        said = f"No file {table.file}: its labels are missing."
        findings.append(Finding("missing", "table", card.name, str(folder / table.file), said))
    for path in files:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
            lines = csv.DictReader(handle, delimiter="\t" if path.suffix == ".tsv" else ",")
            names = list(lines.fieldnames or ())
            columns = {c: n for c, spelt in table.columns.items() if (n := next((s for s in spelt if s in names), ""))}
            _report_columns(card, table, path, (names, columns), findings)
            for line in lines:
                _read_line(card, table, path, line, columns, (book, findings))


def _report_columns(
    card: Card, table: Table, path: Path, has: tuple[list[str], dict[str, str]], findings: list[Finding]
) -> None:
    names, columns = has
    wanted = [] if card.bids else [c for c in table.columns if c not in columns]
    wanted += [c for c in (table.subject, table.session) if c and not c.startswith("{") and c not in names]
    for column in wanted:
        findings.append(Finding("missing", "column", card.name, str(path), f"There is no column for {column}."))


def _read_line(
    card: Card, table: Table, path: Path, line: dict[str, str], columns: dict[str, str],
    into: tuple[_Book, list[Finding]],
) -> None:
    book, findings = into
    raw = path.name.split("_")[0] if table.subject == "{file}" else line.get(table.subject)
    if not raw:
        return
    who = re.search(table.id_pattern, raw.strip()) if table.id_pattern else None
    if table.id_pattern and who is None:
        return
    groups = who.groupdict() if who else {"subject": raw.strip()}
    subject = label_of(table.subject_format.format(groups["subject"]))
    session = label_of((line.get(table.session) or "") if table.session else groups.get("session") or "")
    cells = book.labels[subject, session]
    for column, name in columns.items():
        value = _read(column, line[name], table.words.get(column, {}), findings, (card.name, f"{path} {raw}"))
        if value is None:
            continue
        if cells.get(column, value) != value:
            said = f"{column} of {subject} is {cells[column]} and {value}."
            findings.append(Finding("contradicts", "label", card.name, str(path), said))
        cells[column] = value


def _read(
    column: str, raw: object, words: Mapping[str, str], findings: list[Finding], where: tuple[str, str]
) -> Value:
    cell = read_label(column, raw, words)
    if cell.problem is not None:
        findings.append(Finding("contradicts", f"{column} word", where[0], where[1], cell.problem))
    return cell.value


def _compare_subjects(card: Card, book: _Book, found: Scanned) -> None:
    """People without images, and images of people that no table knows."""
    seen = {row.subject for row in found.rows}
    for subject in sorted(book.subjects() - seen):
        found.findings.append(Finding("missing", "images", card.name, subject, f"{subject} has labels and no image."))
    for subject in sorted(seen - book.subjects() if card.tables else ()):
        found.findings.append(Finding("missing", "labels", card.name, subject, f"No table knows {subject}."))
