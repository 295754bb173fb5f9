"""What all outcomes say together: the store's records, the quarantine, the outliers and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from braing3n_core.preprocess.quality import EXPECTED

from ..manifest.table import Row, write_rows
from ..store import write_records
from .lock import locked
from .outcome import Outcome, fingerprint, read_outcome
from .place import Place
from .scan import Choices

OUTLIERS_DRAWN = 24


@dataclass(frozen=True)
class Gathered:
    """The rows of a manifest by what became of them. open: rows without a current outcome."""

    done: list[tuple[Row, Outcome]]
    refused: list[tuple[Row, Outcome]]
    open: list[Row]

    @property
    def outliers(self) -> list[tuple[Row, Outcome]]:
        """Results with a number out of its range, the one with most of them first."""
        odd = [(row, outcome) for row, outcome in self.done if outcome.warnings]
        return sorted(odd, key=lambda pair: (-len(pair[1].warnings), pair[0].key))


def look(rows: Sequence[Row], store: Path, choices: Choices) -> Gathered:
    """What became of each row so far."""
    found = Gathered([], [], [])
    for row in rows:
        outcome = current_outcome(row, store, choices)
        if outcome is None:
            found.open.append(row)
        else:
            (found.done if outcome.done else found.refused).append((row, outcome))
    return found


def current_outcome(row: Row, store: Path, choices: Choices) -> Outcome | None:
    """The row's outcome, when it is that of this file with these options."""
    outcome = read_outcome(Place(store, row).outcome())
    if outcome is None or outcome.fingerprint != fingerprint(row, asdict(choices)):
        return None
    return outcome


def gather(rows: Sequence[Row], store: Path, choices: Choices) -> Gathered:
    """Write ``records.json``, ``quarantine.tsv``, ``quality.tsv``, ``outliers.tsv`` and ``outliers.png``.

    Every shard does this at its end; the lock makes the last one see the outcomes of all.
    """
    with locked(store / ".gather.lock"):
        found = look(rows, store, choices)
        write_records(store, [outcome.record for _, outcome in found.done])
        _tables(found, store)
        draw_outliers(found.outliers[:OUTLIERS_DRAWN], store)
    return found


def _tables(found: Gathered, store: Path) -> None:
    names = ("cohort", "subject", "session", "modality", "run")
    write_rows(store / "quarantine.tsv", (*names, "code", "message", "hint", "path"),
               ([*row.key, o.code, o.message, o.hint, row.path] for row, o in found.refused))
    write_rows(store / "quality.tsv", (*names, *EXPECTED, "path"),
               ([*row.key, *(o.quality[n] for n in EXPECTED), row.path] for row, o in found.done))
    write_rows(store / "outliers.tsv", (*names, "warnings", "path"),
               ([*row.key, " ".join(o.warnings), row.path] for row, o in found.outliers))


def draw_outliers(outliers: Sequence[tuple[Row, Outcome]], store: Path) -> Path | None:
    """A page with three planes of each outlier, as training will see it; None without any. Never shows a face."""
    path = store / "outliers.png"
    if not outliers:
        path.unlink(missing_ok=True)
        return None
    import numpy as np

    from braing3n_core.atlas import model_affine
    from braing3n_core.pictures import Canvas, montage
    from braing3n_core.pictures import Row as Line
    from braing3n_core.volume import Volume

    lines = []
    for row, outcome in outliers:
        array = np.load(Place(store, row).voxels(), allow_pickle=False).astype(np.float32)
        array /= max(float(np.percentile(array[array > 0], 99)), 1e-6)
        short = [warning.split(",")[0] for warning in outcome.warnings]  # "similarity is 1, expected ..."
        title = "\n".join([f"{row.cohort} {row.subject} {row.session} {row.modality}", *short])
        lines.append(Line(title, Volume.from_array(array, model_affine())))
    whole = lines[0].volume.with_array(np.ones_like(lines[0].volume.array))
    canvas = Canvas(np.zeros(3, int), np.array(whole.shape), (0.0, 1.05), 0.01)
    return montage(path, canvas, lines)
