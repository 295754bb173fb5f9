"""Calibrate a forecaster on validation subjects: the gain of its change and the width of its intervals.

    python -m training.calibrate_forecaster --forecaster F --probes P --latents SET --first 40 --out RUN

Of SET the side ``val`` of its split is used; without a split, as of phantoms, SET must hold subjects that the
forecaster was not trained on. ``--first`` leaves all but the first so many of them for tests, and what they say raw and
calibrated is reported too. The calibration names its subjects, and :mod:`training.evaluate` leaves these out of its
table of forecasts.

For each pair of visits the ensemble is drawn and read by the probes. The gain is the least-squares factor from the
forecast's change to the real follow-up's, both read by the ventricle probe. A task's spread is the conformal factor
that makes the 5-95 % interval of the ensemble hold what the probe reads in the real follow-up in 90 % of pairs or more:
the interval starts at its reading of the scan, and whether the probe reads rightly is no matter of forecasts. What is
reported as calibrated was fitted on the other half of the subjects to fit on; what is kept was fitted on all of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from braing3n_core.calibration import Calibration
from braing3n_core.checkpoint import Checkpoint, load_checkpoint
from braing3n_core.generation.forecast import ForecastOptions, forecast
from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.models.dit import DiT, DiTConfig
from braing3n_core.probes import LinearProbe, ProbePanel

from .conditions import conditions_of
from .fit_probes import REGRESSIONS
from .latents import LatentSet
from .loop import TrainingError, pick_device
from .stage import command, load_model, save_again
from .store import subject_keys
from .train_forecaster import Pairs, visit_pairs

LEVEL = 0.9
ANCHOR = "ventricle_volume"
"""The task whose change sets the gain: what ageing moves most, and what the paper looks at."""


@dataclass(frozen=True)
class Reads:
    """One task over n pairs. baseline, follow_up (n,): what the probe reads in the real scans; samples (n,S): what it
    reads in the raw forecasts.
    """

    baseline: np.ndarray
    follow_up: np.ndarray
    samples: np.ndarray

    def rows(self, chosen: np.ndarray) -> Reads:
        """Some of the pairs."""
        return Reads(self.baseline[chosen], self.follow_up[chosen], self.samples[chosen])

    def with_gain(self, gain: float) -> np.ndarray:
        """Samples (n,S) under a gain: a probe is linear in the latents, and so in the change."""
        return self.baseline[:, None] + gain * (self.samples - self.baseline[:, None])


def fit_gain(anchor: Reads) -> float:
    """The factor on the forecast's change that is nearest to the real one; raw (1) where no change is forecast."""
    forecast_change = anchor.samples.mean(1) - anchor.baseline
    real = anchor.follow_up - anchor.baseline
    square = float(forecast_change @ forecast_change)
    gain = float(forecast_change @ real) / square if square > 0 else 1.0
    return gain if gain > 0 else 1.0


def fit_spread(samples: np.ndarray, follow_up: np.ndarray, level: float = LEVEL) -> float:
    """The conformal factor on the interval of ``samples`` (n,S) that makes it hold a share ``level`` of readings (n,).

    With too few pairs for that level it is the factor that holds all of them.
    """
    centre, (low, high) = samples.mean(1), _interval(samples, level)
    tiny = np.finfo(float).tiny
    needed = np.where(follow_up > centre, (follow_up - centre) / np.maximum(high - centre, tiny),
                      (centre - follow_up) / np.maximum(centre - low, tiny))
    rank = min(int(np.ceil((len(follow_up) + 1) * level)), len(follow_up))
    return float(np.sort(needed)[rank - 1])


def coverage(samples: np.ndarray, follow_up: np.ndarray, factor: float = 1.0, level: float = LEVEL) -> float:
    """Share of follow-ups (n,) inside the interval of ``samples`` (n,S), widened by ``factor``."""
    centre, (low, high) = samples.mean(1), _interval(samples, level)
    low, high = centre + factor * (low - centre), centre + factor * (high - centre)
    return float(((follow_up >= low) & (follow_up <= high)).mean())


def calibrate(reads: dict[str, Reads], groups: np.ndarray) -> Calibration:
    """Fitted on all pairs; ``fitted`` reports raw numbers and those of a fit on the other half of the subjects.

    groups: the subject of each pair.
    """
    gain = fit_gain(reads[ANCHOR])
    spread = {task: fit_spread(r.with_gain(gain), r.follow_up) for task, r in reads.items()}
    names = np.unique(groups)
    first = np.isin(groups, names[::2])
    report: dict[str, Any] = {
        "pairs": len(groups), "subjects": len(names), "level": LEVEL, "slope_raw": 1 / gain,
        "coverage_raw": {task: coverage(r.samples, r.follow_up) for task, r in reads.items()},
    }
    if first.any() and not first.all():
        halves = [(np.flatnonzero(first), np.flatnonzero(~first)), (np.flatnonzero(~first), np.flatnonzero(first))]
        report["coverage_calibrated"] = {
            task: float(np.mean([_crossed(reads, task, fit, test) for fit, test in halves])) for task in reads
        }
        report["slope_calibrated"] = float(np.mean([
            fit_gain(reads[ANCHOR].rows(fit)) / fit_gain(reads[ANCHOR].rows(test)) for fit, test in halves
        ]))
    return Calibration(gain, spread, report)


def reported_on(calibration: Calibration, reads: dict[str, Reads], groups: np.ndarray) -> Calibration:
    """The same calibration with what it says of pairs that it was not fitted on, raw and calibrated."""
    gain = calibration.gain
    test = {
        "pairs": len(groups), "subjects": len(np.unique(groups)),
        "slope_raw": 1 / fit_gain(reads[ANCHOR]), "slope_calibrated": gain / fit_gain(reads[ANCHOR]),
        "coverage_raw": {task: coverage(r.samples, r.follow_up) for task, r in reads.items()},
        "coverage_calibrated": {
            task: coverage(r.with_gain(gain), r.follow_up, calibration.spread[task]) for task, r in reads.items()
        },
    }
    return replace(calibration, fitted={**calibration.fitted, "test": test})


def split_subjects(groups: np.ndarray, first: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of the first so many subjects, to fit on, and those of the others, to test on; all and none without a
    number. Raises TrainingError when that leaves fewer than two subjects to fit on, or none to test on.
    """
    names = np.unique(groups)
    if first is None:
        return np.arange(len(groups)), np.arange(0)
    if not 2 <= first < len(names):
        raise TrainingError(
            "calibrate.subjects", f"--first {first} does not divide {len(names)} subjects with two visits.",
            f"Give a number from 2 to {len(names) - 1}; the others are for tests.",
        )
    fit = np.isin(groups, names[:first])
    return np.flatnonzero(fit), np.flatnonzero(~fit)


def _crossed(reads: dict[str, Reads], task: str, fit: np.ndarray, test: np.ndarray) -> float:
    gain = fit_gain(reads[ANCHOR].rows(fit))
    known, new = reads[task].rows(fit), reads[task].rows(test)
    return coverage(new.with_gain(gain), new.follow_up, fit_spread(known.with_gain(gain), known.follow_up))


def _interval(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.percentile(samples, [50 * (1 - level), 50 * (1 + level)], axis=1)
    return low, high


@torch.no_grad()
def read_forecasts(
    model: DiT, data: LatentSet, pairs: Pairs, probes: Sequence[LinearProbe], options: ForecastOptions
) -> np.ndarray:
    """What each probe reads in each sample of each pair's raw forecast: (probes, n, S)."""
    device = next(model.parameters()).device
    reads = np.empty((len(probes), len(pairs.baseline), options.samples))
    for i, (row, horizon) in enumerate(zip(pairs.baseline.tolist(), pairs.horizon_years.tolist(), strict=True)):
        baseline, record = data.latents[row].to(device), data.records[row]

        def conditions(horizons: Sequence[float], record: dict[str, Any] = record) -> ConditionBatch:
            rows = conditions_of([record] * len(horizons), model.spec, horizon_years=list(horizons))
            return rows.to(device)

        def velocity(
            x: torch.Tensor, t: torch.Tensor, conds: Sequence[ConditionBatch], beside: torch.Tensor = baseline
        ) -> torch.Tensor:
            answer: torch.Tensor = model(x, t, ConditionBatch.cat(list(conds)), beside.expand(len(x), -1, -1))
            return answer

        ends = forecast(velocity, baseline, [horizon], conditions, options)[0].flatten(1).cpu().numpy()
        reads[:, i] = [probe.scores(ends)[:, 0] for probe in probes]
    return reads


def collect(model: DiT, data: LatentSet, panel: ProbePanel, options: ForecastOptions, limit: int) -> tuple[
    dict[str, Reads], np.ndarray
]:
    """The reads of every number that probes read, over at most ``limit`` pairs, and the pairs' subjects.

    Raises TrainingError where there are no pairs, or no probe of :data:`ANCHOR`.
    """
    pairs = visit_pairs(data.records)
    chosen = torch.linspace(0, len(pairs.baseline) - 1, min(limit, len(pairs.baseline))).long()
    pairs = Pairs(pairs.baseline[chosen], pairs.follow_up[chosen], pairs.horizon_years[chosen])
    tasks = [task for task, _, _ in REGRESSIONS if task in {probe.task for probe in panel.probes}]
    if ANCHOR not in tasks or not len(pairs.baseline):
        raise TrainingError(
            "calibrate.anchor", f"No pair of visits, or no probe of the {ANCHOR}.",
            "Its change sets the gain: give visits at two ages, and probes that read it.",
        )
    samples = read_forecasts(model, data, pairs, [panel.probe(task) for task in tasks], options)
    ends = [data.latents[index].flatten(1).numpy() for index in (pairs.baseline, pairs.follow_up)]
    reads = {}
    for task, ensemble in zip(tasks, samples, strict=True):
        before, after = (panel.probe(task).scores(end)[:, 0] for end in ends)
        reads[task] = Reads(before, after, ensemble)
    return reads, np.array([data.records[i]["subject"] for i in pairs.baseline.tolist()])


def recalibrated(old: Checkpoint, calibration: Calibration, out: Path) -> Checkpoint:
    """The same forecaster with its calibration, written to ``out/forecaster``."""
    return save_again(old, out, old.tensors("pt", dtype=None), calibration=calibration.to_dict())


def main() -> None:
    """Fit, print and write ``RUN/forecaster``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("forecaster", "probes", "out"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--latents", required=True, type=Path, nargs="+")
    parser.add_argument("--first", type=int, metavar="N", help="fit on the first N subjects, test on the others")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=200, help="at most so many pairs of visits")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    model, checkpoint = load_model(options.forecaster, "forecaster", DiTConfig, DiT, pick_device(options.device))
    probes = load_checkpoint(options.probes, "probes")
    panel = ProbePanel.from_arrays(probes.config, probes.tensors(dtype=None))
    tokenizer = checkpoint.parents["tokenizer"]
    if probes.parents["tokenizer"] != tokenizer:
        raise TrainingError(
            "calibrate.other_tokenizer", f"The forecaster learnt the latents of tokenizer {tokenizer}, the probes "
            f"those of {probes.parents['tokenizer']}.", "Give parts of one set.",
        )
    data = LatentSet.open(options.latents, tokenizer).for_validation()
    reads, groups = collect(model, data, panel, ForecastOptions(samples=options.samples), options.pairs)
    fit, test = split_subjects(groups, options.first)
    calibration = calibrate({task: r.rows(fit) for task, r in reads.items()}, groups[fit])
    if len(test):
        calibration = reported_on(calibration, {task: r.rows(test) for task, r in reads.items()}, groups[test])
    keys = subject_keys(data.records)
    named = {**calibration.fitted, "names": sorted(keys[str(subject)] for subject in np.unique(groups[fit]))}
    calibration = replace(calibration, fitted=named)
    print(json.dumps(calibration.to_dict(), indent=1))
    recalibrated(checkpoint, calibration, options.out)


if __name__ == "__main__":
    command(main)
