"""Fill a training store with phantoms, straight from the generator (no files in between).

    python -m training.build_store --subjects 400 --visits 3 --seed 1 --templates DIR --out STORE --jobs 2

T1 is made at every visit; the other contrasts (without ``--t1-only``) at the first visit of every second subject.
``--disease`` keeps those of the population who have it, ``--each-idh1`` as many with the mutation as without,
``--modalities`` makes these at every visit instead: what a rare question needs, such as ``--subjects 3600 --visits 1
--disease glioma --each-idh1 24 --modalities FLAIR`` for IDH1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from braing3n_core.schema import MODALITIES

from .phantom.render import render_visit
from .phantom.subjects import DISEASES, Subject, make_population
from .phantom.templates import load_anatomies
from .store import Record, Store, write_store

Task = tuple[Subject, int, tuple[str, ...]]


def tasks(population: list[Subject], t1_only: bool = False, modalities: Sequence[str] = ()) -> list[Task]:
    """(subject, visit, modalities) of everything that is rendered. modalities: of every visit, where any are given."""
    def wanted(subject: Subject, visit: int) -> tuple[str, ...]:
        every = visit == 0 and subject.index % 2 == 0 and not t1_only
        return tuple(modalities) or (MODALITIES if every else ("T1",))

    return [
        (subject, visit, wanted(subject, visit))
        for subject in population
        for visit in range(len(subject.visits))
    ]


def chosen(population: list[Subject], diseases: Sequence[str] = (), each_idh1: int | None = None) -> list[Subject]:
    """Those who have one of these diseases; of each IDH1 status the first ``each_idh1``, if it is given."""
    kept = [s for s in population if not diseases or s.disease in diseases]
    if each_idh1 is None:
        return kept
    counts: Counter[str] = Counter()
    few = []
    for subject in kept:
        if subject.idh1 is not None and counts[subject.idh1] < each_idh1:
            counts[subject.idh1] += 1
            few.append(subject)
    return few


def record(subject: Subject, visit: int, modality: str, truth: dict[str, float]) -> Record:
    """The labels of one volume and the truth behind it."""
    return {
        "subject": subject.name, "visit": visit, "modality": modality, "anatomy": subject.anatomy,
        "age_years": subject.visits[visit].age_years, "sex": subject.sex, "disease": subject.disease,
        "idh1": subject.idh1, "site": subject.site.name, "cdr": subject.visits[visit].cdr, "speed": subject.speed,
        "truth": {k: float(v) for k, v in truth.items()},
    }


def render(task: Task, templates: Path | None) -> list[tuple[np.ndarray, Record]]:
    """The volumes of one visit; runs in a worker process, which keeps its anatomies."""
    import torch

    torch.set_num_threads(1)
    subject, visit, modalities = task
    volumes, truth = render_visit(load_anatomies(templates)[subject.anatomy], subject, visit, modalities)
    return [(volumes[m], record(subject, visit, m, truth)) for m in modalities]


def build(work: list[Task], templates: Path | None, out: Path, jobs: int) -> Store:
    """Render everything into a store."""
    count = sum(len(modalities) for *_, modalities in work)

    def volumes() -> Iterator[tuple[np.ndarray, Record]]:
        begin = time.monotonic()
        with ProcessPoolExecutor(jobs) as pool:
            for i, group in enumerate(pool.map(render, work, [templates] * len(work), chunksize=1)):
                yield from group
                if i % 50 == 49:
                    spent = time.monotonic() - begin
                    left = spent / (i + 1) * (len(work) - i - 1)
                    print(f"{i + 1}/{len(work)} visits  {spent:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)

    return write_store(out, volumes(), count)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, required=True)
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--templates", type=Path, help="folder of further stripped T1 scans (any depth)")
    parser.add_argument("--t1-only", action="store_true", help="no other contrast")
    parser.add_argument("--disease", nargs="+", choices=DISEASES, metavar="WORD",
                        help=f"only subjects of the population who have it: {', '.join(DISEASES)}")
    parser.add_argument("--each-idh1", type=int, metavar="N", help="only the first N subjects of each IDH1 status")
    parser.add_argument("--modalities", nargs="+", choices=MODALITIES, default=[], metavar="NAME",
                        help="these contrasts at every visit of every subject")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    anatomies = list(load_anatomies(options.templates))
    population = make_population(options.subjects, options.visits, options.seed, anatomies)
    kept = chosen(population, options.disease or (), options.each_idh1)
    if not kept:
        parser.error(f"none of the {options.subjects} subjects is {' or '.join(options.disease or ['known by IDH1'])}")
    store = build(tasks(kept, options.t1_only, options.modalities), options.templates, options.out, options.jobs)
    print(f"{len(store)} volumes in {options.out}")


if __name__ == "__main__":
    main()
