"""Write the digital phantom cohort, draw it, or print the ceiling of its brain age.

    python -m training.phantom --subjects 200 --visits 3 --seed 1 --out cohort/
    python -m training.phantom --picture docs/pictures/phantom.png
    python -m training.phantom --ceiling --subjects 400
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from braing3n_core.errors import BrainG3NError
from braing3n_core.progress import Progress
from braing3n_core.schema import MODALITIES

from .anatomy import icbm_anatomy
from .bids import CohortOptions, write_cohort
from .ceiling import Ceiling, age_ceiling, baseline_truth
from .picture import draw_sheet
from .subjects import make_population
from .templates import load_anatomies


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.picture:
            print(draw_sheet(icbm_anatomy(), options.picture))
        elif options.ceiling:
            print(ceiling(options.subjects, options.seed, options.jobs))
        else:
            print(_write(options))
    except BrainG3NError as error:
        print(f"{error.message} {error.hint}", file=sys.stderr)
        return 1
    return 0


def ceiling(subjects: int, seed: int, jobs: int) -> Ceiling:
    """What the true volumes of a new cohort say about age."""
    population = make_population(subjects, 1, seed)
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        rows = list(pool.map(baseline_truth, population, chunksize=8))
    ages = np.array([s.age_years for s in population])
    return age_ceiling(rows, ages, np.array([s.disease == "HC" for s in population]))


def _write(options: argparse.Namespace) -> Path:
    anatomies = list(load_anatomies(options.templates))
    population = make_population(options.subjects, options.visits, options.seed, anatomies)
    cohort = CohortOptions(options.out, tuple(options.modalities), options.templates, options.jobs)
    return write_cohort(population, cohort, time_left())


def time_left() -> Progress:
    """A progress sink that prints a line every few seconds, with the time left."""
    begin, last = time.monotonic(), 0.0

    def report(fraction: float, message: str) -> None:
        nonlocal last
        now = time.monotonic()
        if fraction < 1 and now - last < 5:
            return
        last = now
        left = (now - begin) * (1 - fraction) / fraction
        print(f"{message}, {left / 60:.1f} min left", file=sys.stderr, flush=True)

    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.phantom", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("cohort"))
    parser.add_argument("--modalities", nargs="+", choices=MODALITIES, default=MODALITIES)
    parser.add_argument("--templates", type=Path, help="folder of further stripped T1 scans (any depth)")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--picture", type=Path, help="draw a contact sheet to this PNG instead")
    other.add_argument("--ceiling", action="store_true", help="print how well true volumes tell the age instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
