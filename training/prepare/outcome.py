"""What is left of a row: a result with its numbers, or a reason. Written last and in one move, so that it is true."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from braing3n_core.outputs import write_json

from ..manifest.table import Row

FORMAT = 1
"""Raised when what is made of a scan changes; older outcomes are then made again."""


@dataclass(frozen=True)
class Outcome:
    """One row's end. fingerprint: of what went in. record: the labels and statistics for training, {} on refusal.

    code, message, hint: the reason, "" for a result. quality: the numbers of ``preprocess.quality``; warnings: those
    out of their range, in words.
    """

    key: tuple[str, ...]
    path: str
    fingerprint: str
    code: str = ""
    message: str = ""
    hint: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        return not self.code


def fingerprint(row: Row, options: dict[str, Any]) -> str:
    """What would change the result: the file (by size and time), the stage, the contrast, the options, the format."""
    path = Path(row.path)
    file = (path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None
    facts = [FORMAT, row.path, file, row.stage, row.modality, row.labels, row.split, options]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read_outcome(path: Path) -> Outcome | None:
    """The outcome in a file; None when there is none, or none of this format."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Outcome(**{**data, "key": tuple(data["key"]), "warnings": tuple(data["warnings"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write it whole or not at all."""
    write_json(path, asdict(outcome))
