"""Preprocess every scan of a manifest into a store that training reads.

    python -m training.prepare manifest.tsv -o store/ --jobs 2
    python -m training.prepare manifest.tsv -o store/ --shard $SLURM_ARRAY_TASK_ID/100      # array 1-100

Kill it and start it again at will: a row that has its outcome is not touched. Each row ends with a result or with a
reason in quarantine.tsv; numbers of quality out of range are in outliers.tsv and on the page outliers.png. Shards
count from 1; each takes whole visits, and may run on any machine that sees the store.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from braing3n_core.errors import BrainG3NError, RequestError
from braing3n_core.schema import BRAIN_BACKENDS
from braing3n_core.shard import parse_shard

from ..manifest.table import Row, read_manifest
from .gather import Gathered, current_outcome, gather
from .lock import locked
from .place import describe
from .pool import Visit, run
from .scan import Choices

BRAINS = ("auto", *(backend for backend in BRAIN_BACKENDS if backend != "mask"))
"""A mask of the user's is one scan's, not a cohort's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status: 0 when every row of the shard has its outcome."""
    options = _parser().parse_args(arguments)
    try:
        found = prepare(options)
    except BrainG3NError as error:
        print(f"{error.message} {error.hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error}. Make room or give another folder, then start again: what is done stays.", file=sys.stderr)
        return 1
    print(f"{len(found.done)} results, {len(found.refused)} in quarantine, {len(found.open)} open; "
          f"{len(found.outliers)} outliers to look at in {options.out}")
    return 0


def prepare(options: argparse.Namespace) -> Gathered:
    """Do what the shard still lacks, then write the tables."""
    part, parts = parse_shard(options.shard)
    rows = read_manifest(options.manifest)
    choices = Choices(options.brain, options.template, not options.no_images).settled()
    print(f"brain extraction of whole heads: {choices.brain}", file=sys.stderr)
    for cohort in sorted({r.cohort for r in rows}):
        describe(options.out, cohort)
    with _alone(options.out, part, parts):
        visits = unfinished(rows, (part, parts), options.out, choices, options.retry)
        begin, total = time.monotonic(), len(visits)
        for count, visit in enumerate(run(visits, options.out, choices, options.jobs), 1):
            left = (time.monotonic() - begin) / count * (total - count)
            first = visit.rows[0]
            print(f"{count}/{total} visits, {first.cohort} {first.subject} {first.session}, {left / 60:.1f} min left",
                  file=sys.stderr, flush=True)
    return gather(rows, options.out, choices)


def unfinished(
    rows: Sequence[Row], place: tuple[int, int], store: Path, choices: Choices, retry: bool = False
) -> list[Visit]:
    """The visits of shard ``place`` (i, n), i from 1, that lack an outcome; with ``retry`` a reason counts as none."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.cohort, row.subject, row.session), []).append(row)
    visits = []
    for key, of in groups.items():
        digest = hashlib.sha256("\n".join(key).encode()).digest()
        if int.from_bytes(digest[:8], "big") % place[1] != place[0] - 1:
            continue
        ends = [current_outcome(row, store, choices) for row in of]
        todo = tuple(end is None or (retry and not end.done) for end in ends)
        if any(todo):
            visits.append(Visit(tuple(of), todo))
    return visits


@contextmanager
def _alone(store: Path, part: int, parts: int) -> Iterator[None]:
    """Refuses a second start of the same shard while the first runs."""
    try:
        with locked(store / f".shard-{part}-of-{parts}.lock", wait=False) as held:
            if not held:
                print("This file system has no locks: do not start a shard twice, and when all have ended start one "
                      "again, so that the tables hold them all.", file=sys.stderr)
            yield
    except BlockingIOError as error:
        raise RequestError(
            "prepare.twice", f"Shard {part}/{parts} of {store} is being prepared by another process.",
            "Wait for it, or take another shard.",
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="made by training.manifest")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the store's folder")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="part I of N of the visits, from 1")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--brain", default="auto", choices=BRAINS, help="brain extraction of whole heads")
    parser.add_argument("--template", help="stripped T1 on the SRI24 grid")
    parser.add_argument("--retry", action="store_true", help="try the rows in quarantine again")
    parser.add_argument("--no-images", action="store_true", help="only what training reads, no NIfTI volumes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
