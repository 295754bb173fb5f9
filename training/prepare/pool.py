"""Visits in processes that may die: a crash or the system's memory killer costs the visit that caused it, no other."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

from ..manifest.table import Row
from .outcome import Outcome, fingerprint, read_outcome, write_outcome
from .place import Place
from .scan import Choices, prepare_visit


@dataclass(frozen=True)
class Visit:
    """The rows of one visit, and which of them still lack an outcome."""

    rows: tuple[Row, ...]
    todo: tuple[bool, ...]


def run(visits: Sequence[Visit], store: Path, choices: Choices, jobs: int) -> Iterator[Visit]:
    """Prepare the visits in ``jobs`` processes; yields each when it is finished.

    When a process dies, the visits that were under way are tried again alone; who dies alone gets that as its reason.
    """
    left = list(reversed(visits))
    while left:
        suspects: list[Visit] = []
        for visit in _together(left, store, choices, jobs, suspects):
            yield visit
        for visit in suspects:
            if not _survives(visit, store, choices):
                _bury(visit, store, choices)
            yield visit


def _together(
    left: list[Visit], store: Path, choices: Choices, jobs: int, suspects: list[Visit]
) -> Iterator[Visit]:
    """Take visits from ``left``; ends when it is empty, or when a process died with ``suspects`` under way."""
    running: dict[Future[int], Visit] = {}
    with _pool(jobs) as pool:
        while left or running:
            while left and len(running) < jobs:
                visit = left[-1]
                try:
                    running[pool.submit(prepare_visit, visit.rows, visit.todo, store, choices)] = visit
                except BrokenProcessPool:  # died between two visits: this one was not begun
                    break
                left.pop()
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = False
            for future in finished:
                visit = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    suspects.append(visit)
                    broken = True
                    continue
                future.result()
                yield visit
            if broken:
                suspects += running.values()
                return


def _survives(visit: Visit, store: Path, choices: Choices) -> bool:
    with _pool(1) as pool:
        try:
            pool.submit(prepare_visit, visit.rows, visit.todo, store, choices).result()
        except BrokenProcessPool:
            return False
    return True


def _bury(visit: Visit, store: Path, choices: Choices) -> None:
    """The reason of the rows whose process died."""
    for row, wanted in zip(visit.rows, visit.todo, strict=True):
        place, current = Place(store, row), fingerprint(row, asdict(choices))
        before = read_outcome(place.outcome())
        if wanted and (before is None or before.fingerprint != current):
            write_outcome(place.outcome(), Outcome(
                key=row.key, path=row.path, fingerprint=current, code="prepare.died",
                message="The process that prepared this visit died twice, without a word.",
                hint="It was probably out of memory: use fewer --jobs and --retry.",
            ))


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Not fork: threads of the libraries do not survive it.
    return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """A worker computes on one thread, and ends when its parent is gone, however that ended."""
    os.environ["OMP_NUM_THREADS"] = "1"
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
