"""Seconds of each step of preprocessing one T1, and whether two runs give the same bytes.

    taskset -c 0,1 python -m benchmarks.preprocessing [SCAN] [--brain mindgrab] [--runs 2] [--out FILE]

Without SCAN the ICBM152 brain of nilearn is used, which has no skull to find. Wall seconds need an idle machine; CPU
seconds (of this process and of ANTs' own) bear some load. The bars are those of two cores without HD-BET.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from braing3n_core.demo import save_icbm152
from braing3n_core.preprocess import Preprocessed, preprocess
from braing3n_core.schema import BRAIN_BACKENDS, PreprocessOptions
from braing3n_core.volume import Volume

STEPS: tuple[str, ...] = ("stage", "N4 bias field", "brain extraction", "registration", "resampling")
BARS_S: dict[str, float] = {"N4 and registration": 20.0, "everything": 75.0}


@dataclass(frozen=True)
class Row:
    """One step. wall_s and cpu_s: seconds of the fastest run."""

    step: str
    wall_s: float
    cpu_s: float


def cpu_seconds() -> float:
    """User and system seconds of this process and of its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measure(scan: Volume, options: PreprocessOptions) -> tuple[Preprocessed, list[Row]]:
    """One run, step by step."""
    marks: list[tuple[str, float, float]] = []

    def mark(fraction: float, message: str) -> None:
        if message in STEPS or fraction >= 1.0:
            marks.append((message, time.perf_counter(), cpu_seconds()))

    done = preprocess(scan, options, progress=mark)
    return done, [Row(name, end - start, cpu - before) for (name, start, before), (_, end, cpu) in pairwise(marks)]


def fastest(runs: list[list[Row]]) -> list[Row]:
    """Step by step the fastest run, and the sums that the bars are for."""
    rows = [Row(of[0].step, min(r.wall_s for r in of), min(r.cpu_s for r in of)) for of in zip(*runs, strict=True)]
    heavy = [r for r in rows if r.step in ("N4 bias field", "registration")]
    sums = {"N4 and registration": heavy, "everything": rows}
    return rows + [Row(name, sum(r.wall_s for r in of), sum(r.cpu_s for r in of)) for name, of in sums.items()]


def fingerprint(done: Preprocessed) -> str:
    """sha256 of the voxels, the mask and the transform."""
    digest = hashlib.sha256()
    for array in (done.volume.array, done.mask.array, done.record.transform()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def main() -> int:
    """Print the table; exits with 1 when two runs differ."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.scan or save_icbm152(Path(folder))
        scan = Volume.load(path, modality="T1")
    asked = PreprocessOptions(brain=options.brain, stage=options.stage)
    runs = [measure(scan, asked) for _ in range(options.runs)]
    rows, prints = fastest([rows for _, rows in runs]), {fingerprint(done) for done, _ in runs}
    print(f"{'step':<22}{'wall s':>8}{'CPU s':>8}{'bar s':>8}")
    for row in rows:
        bar = f"{BARS_S[row.step]:.0f}" if row.step in BARS_S else ""
        print(f"{row.step:<22}{row.wall_s:>8.1f}{row.cpu_s:>8.1f}{bar:>8}")
    record = runs[0][0].record
    print(f"stage {record.stage}, brain by {record.brain_backend}, {scan.shape} voxels; {options.runs} runs, "
          f"{'identical bytes' if len(prints) == 1 else 'DIFFERENT BYTES'}")
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    return 0 if len(prints) == 1 else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", nargs="?", type=Path, help="a native T1")
    parser.add_argument("--brain", default="auto", choices=("auto", *BRAIN_BACKENDS))
    parser.add_argument("--stage", default="auto")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
