"""What is missing in a manifest and what contradicts. A label that contradicts itself is not used."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from .labels import TASKS
from .table import Row


@dataclass(frozen=True)
class Finding:
    """One thing that a person should look at. kind: ``missing`` or ``contradicts``. topic: what it is about."""

    kind: str
    topic: str
    cohort: str
    where: str
    said: str


def check(rows: Sequence[Row], *, files: bool = True) -> tuple[list[Row], list[Finding]]:
    """The rows that can be used, without labels that contradict, and the findings. files: also open every file."""
    findings: list[Finding] = []
    kept = _once(rows, findings)
    kept = _one_sex(kept, findings)
    kept = _age_never_falls(kept, findings)
    _gaps(kept, findings)
    if files:
        for row in kept:
            problem = unreadable(Path(row.path))
            if problem is not None:
                findings.append(Finding("contradicts", "unreadable file", row.cohort, row.path, problem))
        _same_bytes(kept, findings)
    return kept, findings


def unreadable(path: Path) -> str | None:
    """Why a scan's header cannot be read; None when it can. The voxels are read by ``training.prepare``."""
    if path.is_dir():
        return None if any(path.iterdir()) else "The folder is empty."
    if path.name.endswith((".nrrd", ".dcm")):
        return None if path.stat().st_size else "The file is empty."
    import nibabel

    try:
        shape = nibabel.load(path).shape
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        return f"{str(error).splitlines()[0] if str(error) else type(error).__name__}."
    if len([n for n in shape if n > 1]) != 3:
        return f"It has the shape {shape}, not three dimensions."
    return None


def _once(rows: Sequence[Row], findings: list[Finding]) -> list[Row]:
    """Without the second of two scans with one key."""
    kept: dict[tuple[str, ...], Row] = {}
    for row in rows:
        first = kept.setdefault(row.key, row)
        if first is not row:
            said = f"{' '.join(row.key)} is also {first.path}; this one is left out."
            findings.append(Finding("contradicts", "duplicate", row.cohort, row.path, said))
    return list(kept.values())


def _one_sex(rows: list[Row], findings: list[Finding]) -> list[Row]:
    torn = set()
    for person, visits in by_person(rows).items():
        found = sorted({str(r.labels["sex"]) for r in visits if r.labels["sex"] is not None})
        if len(found) > 1:
            torn.add(person)
            said = f"The sex of {person} is {' and '.join(found)}; it is not used."
            findings.append(Finding("contradicts", "sex changes", visits[0].cohort, person, said))
    return _without(rows, torn, "sex")


def _age_never_falls(rows: list[Row], findings: list[Finding]) -> list[Row]:
    """Ages in the order of the sessions' names, within a cohort; repeated scans of a session have one age."""
    torn = set()
    for person, visits in by_person(rows).items():
        for cohort in sorted({r.cohort for r in visits}):
            told = [(natural(r.session), float(a)) for r in visits
                    if r.cohort == cohort and (a := r.labels["age_years"]) is not None]
            ages = [age for _, age in sorted(told)]
            if any(b < a for a, b in pairwise(ages)):
                torn.add(person)
                said = f"The age of {person} goes {', '.join(f'{a:g}' for a in ages)}; it is not used."
                findings.append(Finding("contradicts", "age falls", cohort, person, said))
    return _without(rows, torn, "age_years")


def _without(rows: list[Row], people: set[str], column: str) -> list[Row]:
    return [replace(r, labels={**r.labels, column: None}) if r.person in people else r for r in rows]


def by_person(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each person."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.person].append(row)
    return found


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """A name as a key that sorts M6 before M12."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", text))


def _gaps(rows: Sequence[Row], findings: list[Finding]) -> None:
    """How many scans lack what every scan should have."""
    for cohort in sorted({r.cohort for r in rows}):
        of = [r for r in rows if r.cohort == cohort]
        for column in ("age_years", "sex", "diagnosis", "site"):
            lacking = sum(r.labels[column] is None for r in of)
            if lacking:
                said = f"{lacking} of {len(of)} scans have no {column}."
                findings.append(Finding("missing", column, cohort, cohort, said))


def _same_bytes(rows: Sequence[Row], findings: list[Finding]) -> None:
    """The same scan under two people would sit on both sides of a split."""
    groups: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        path = Path(row.path)
        if path.is_file():
            with path.open("rb") as handle:
                start = hashlib.sha256(handle.read(1 << 16)).hexdigest()
            groups[path.stat().st_size, start].append(row)
    for alike in (group for group in groups.values() if len({r.person for r in group}) > 1):
        wholes: dict[str, Row] = {}
        for row in alike:
            first = wholes.setdefault(_sha256(Path(row.path)), row)
            if first.person != row.person:
                said = f"Byte for byte the scan of {first.person}: {first.path}."
                findings.append(Finding("contradicts", "same scan, two people", row.cohort, row.path, said))


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def summary(findings: Sequence[Finding]) -> str:
    """Findings counted by kind, topic and cohort, with one example each, as a table."""
    if not findings:
        return "Nothing is missing and nothing contradicts."
    counts = Counter((f.kind, f.topic, f.cohort) for f in findings)
    first = {(f.kind, f.topic, f.cohort): f for f in reversed(findings)}
    lines = [f"{'':<12}{'what':<24}{'cohort':<14}{'count':>6}  first"]
    for key in sorted(counts):
        example = first[key]
        where = "" if example.where in (key[2], "") else f"{example.where}: "
        lines.append(f"{key[0]:<12}{key[1]:<24}{key[2]:<14}{counts[key]:>6}  {where}{example.said}")
    return "\n".join(lines)


def coverage(rows: Sequence[Row]) -> str:
    """Scans, people and sessions of each cohort and split, and how many scans carry each task's label."""
    lines = [f"{'cohort':<14}{'scans':>7}{'people':>8}{'visits':>8}{'train':>7}{'val':>6}{'test':>6}"]
    for cohort in sorted({r.cohort for r in rows}):
        of = [r for r in rows if r.cohort == cohort]
        visits = {(r.subject, r.session) for r in of}
        sides = Counter(r.split for r in of)
        lines.append(f"{cohort:<14}{len(of):>7}{len({r.person for r in of}):>8}{len(visits):>8}"
                     f"{sides['train']:>7}{sides['val']:>6}{sides['test']:>6}")
    known = {task: sum(r.labels[column] is not None for r in rows) for task, column in TASKS.items()}
    lines.append("labels: " + ", ".join(f"{task} {count}" for task, count in known.items()))
    return "\n".join(lines)
