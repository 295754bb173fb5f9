"""Forecasts against the real follow-ups: slopes over the real slope, error, coverage, beside copying and a regression.

Both the forecast and the real follow-up are read by the same probe, so that what the probe itself misses cancels in the
ratio. Legend: n pairs of visits, S samples, N tokens, C latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from braing3n_core.calibration import Calibration
from braing3n_core.errors import RequestError
from braing3n_core.generation.forecast import BRIDGE, ForecastOptions, change_scale, forecast, forecast_bridge
from braing3n_core.inference import Inference
from braing3n_core.models.conditions import ConditionBatch

from ...store import subject_keys
from ...train_forecaster import visit_pairs
from ..figures import Panel, Series, chart, three_planes
from ..metrics.change import coverage, cross_conformal, delta_rmae, slope
from ..metrics.scores import bootstrap, correlation
from ..study import Study, Ticker, follow, save_arrays
from ..table import HERE, NOT_RUN, PATIENTS, Cell, Picture, Table, rows_of

COLUMNS = (
    "forecast", "reading", "pairs", "slope over horizon, over the real one", "slope on the change, over the real one",
    "r with the change", "delta-RMAE", "coverage: samples' 90 %", "coverage: conformal 90 %", "row of",
)
READINGS = {"ventricle_volume": ("truth.ventricles_ml", "ventricle volume (ml)"), "age": ("", "brain age (years)")}
OURS, CALIBRATED = "flow of change", "flow of change, calibrated"
THE_BRIDGE = "the paper's bridge"
SHARES = (0.25, 0.5, 1.0)
"""Of the real follow-up's horizon, at which the picture has forecasts."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """before, after: rows of the study (n,); horizon_years (n,), positive."""

    before: np.ndarray
    after: np.ndarray
    horizon_years: np.ndarray


@dataclass(frozen=True, eq=False)
class Read:
    """One reading of every pair: truth (n,) of the change (the real follow-up's reading where no truth is known), real
    (n,), the reading of the real follow-up, and forecasts by name (n,S). widened: by name, the calibrated factor on the
    samples' interval where the checkpoint has one."""

    truth: np.ndarray
    real: np.ndarray
    forecasts: dict[str, np.ndarray]
    widened: dict[str, float]


def compute(study: Study) -> Table:
    """The table, with a scatter and one subject's difference maps."""
    pairs = forward_pairs(study)
    if len(pairs.before) < 3:
        return Table("longitudinal", "Longitudinal forecasts (paper, section 3.4)", study.label, COLUMNS,
                     rows_of([["-", "-", len(pairs.before), *[None] * 6, "needs three pairs of visits"]]))
    samples = _forecasts(study, pairs)
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    reads = {}
    for task, (truth, title) in READINGS.items():
        if task in [p.task for p in study.inference.parts.probes.probes]:
            reads[task] = _read(study, pairs, samples, task, truth)
            cells += _rows(study, pairs, reads[task], title, values)
    cells.append(["the paper's bridge, Euler-100", "brain age (years)", 64, "0.27 (over true time)", None,
                  "0.72", None, None, None, PATIENTS])
    cells.append(["delta-LFM / BrLP, published", "regions, ADNI", None, None, None, None, ".436 / .630", None, None,
                  "their papers (patients)"])
    if THE_BRIDGE not in samples:
        cells.append([f"{THE_BRIDGE}, trained here (--bridge)", None, None, NOT_RUN, *[None] * 5, HERE])
    return Table("longitudinal", "Longitudinal forecasts (paper, section 3.4)", study.label, COLUMNS, rows_of(cells),
                 _notes(study), _pictures(study, pairs, reads), values)


def _notes(study: Study) -> tuple[str, ...]:
    left_out = len(calibrated_on(study))
    return (
        "The checkpoint's probe reads the forecast and the real follow-up. Slope over horizon: reading per year, over "
        "that of the real follow-ups (the paper's .27 has no such ceiling). Slope on the change: against the true "
        "change of the phantom (the real follow-up's reading where no truth is known), over that of the real "
        "follow-ups.",
        "delta-RMAE: summed error of the change over the summed size of the true change; copying the baseline scores "
        "1. The truth against itself scores slope 1, r 1, 0 and full coverage.",
        "Coverage: share of true changes inside the 5th to 95th percentile of the samples (of the calibrated forecast: "
        "widened by the checkpoint's factor, which was fitted on validation subjects); conformal: inside the "
        "half-width that the residuals of the other evaluated subjects ask for.",
        f"{study.settings.forecast_samples} samples of {study.settings.forecast_steps} steps; brackets are 95 % "
        "intervals by a bootstrap over subjects.",
        *([f"The calibration was fitted on {left_out} subjects of this data: they are left out here."]
          if left_out else []),
    )


def forward_pairs(study: Study) -> Pairs:
    """At most ``pairs`` T1 pairs, the later visit second, of subjects whom the calibration was not fitted on."""
    found = visit_pairs(study.records)
    known = np.isin(study.subjects, calibrated_on(study))[found.baseline.numpy()]
    keep = np.flatnonzero((found.horizon_years.numpy() > 0) & ~known)
    keep = keep[np.unique(np.linspace(0, len(keep) - 1, min(len(keep), study.settings.pairs)).astype(int))] \
        if len(keep) else keep
    return Pairs(found.baseline.numpy()[keep], found.follow_up.numpy()[keep], found.horizon_years.numpy()[keep])


def calibrated_on(study: Study) -> list[str]:
    """Subjects of this data whom the checkpoint's calibration was fitted on: nothing can be shown by them."""
    names = _calibration(study).fitted.get("names", [])
    return [subject for subject, key in subject_keys(study.records).items() if key in names]


def _calibration(study: Study) -> Calibration:
    return Calibration.of(study.inference.parts.checkpoint("forecaster").metrics)


def predict(
    study: Study, baseline: np.ndarray, record: dict[str, object], horizons_years: list[float], samples: int,
    run: Inference | None = None,
) -> np.ndarray:
    """Latents (H,S,N,C) of one scan at each horizon, raw, as the product makes them. run: another forecaster's.

    The paper's bridge is told by its lack of context; it takes its own steps and has one sample.
    """
    run = run or study.inference
    spec = run.parts.forecaster.spec
    given = {k: record.get(k) for k in spec.names}
    start = run.latents_tensor(np.asarray(baseline, np.float32))

    def at(years: Sequence[float]) -> ConditionBatch:
        return run.conditions("forecaster", [{**given, "horizon_years": h} for h in years])

    with torch.inference_mode():
        if not run.reads_baseline("forecaster"):
            options = replace(BRIDGE, num_steps=study.settings.bridge_steps)
            return forecast_bridge(run.velocity("forecaster"), start, horizons_years, at, options).cpu().numpy()
        options = ForecastOptions(samples, study.settings.forecast_steps, study.settings.seed)
        return forecast(run.velocity("forecaster", start), start, horizons_years, at, options).cpu().numpy()


def _linear(study: Study, baseline: np.ndarray, record: dict[str, object], horizon_years: float) -> np.ndarray | None:
    """The forecaster's own linear regression (1,N,C), the baseline to beat; None where it has none."""
    model = study.inference.parts.forecaster
    if model.prior is None:
        return None
    given = {k: record.get(k) for k in model.spec.names}
    row = study.inference.conditions("forecaster", [{**given, "horizon_years": horizon_years}])
    start = study.inference.latents_tensor(np.asarray(baseline, np.float32))
    with torch.inference_mode():
        change = model.prior.mean(row, start[None])
    return (start + change_scale(horizon_years) * change).cpu().numpy()


def _forecasts(study: Study, pairs: Pairs) -> dict[str, np.ndarray]:
    """Latents (n,S,N,C) float16 by kind of forecast, kept between runs."""
    key = [study.ids["forecaster"], study.fingerprint["records"], pairs.before.tolist(), pairs.after.tolist(),
           study.settings.forecast_samples, study.settings.forecast_steps, study.settings.seed]
    bridge = bridge_of(study)
    if bridge is not None:
        key += [bridge.parts.checkpoint("forecaster").id, study.settings.bridge_steps]
    path = study.cache_path("forecasts", key)
    own = OURS if study.inference.reads_baseline("forecaster") else THE_BRIDGE
    if not path.is_file():
        ticker = Ticker("forecasting", len(pairs.before))
        made: dict[str, list[np.ndarray]] = {own: [], "linear regression": [], THE_BRIDGE: []}
        for done, (i, h) in enumerate(zip(pairs.before, pairs.horizon_years, strict=True)):
            scan, record = study.latents[i], study.records[i]
            flow = predict(study, scan, record, [float(h)], study.settings.forecast_samples)[0]
            made[own].append(flow.astype(np.float16))
            if bridge is not None:
                made[THE_BRIDGE].append(predict(study, scan, record, [float(h)], 1, bridge)[0].astype(np.float16))
            line = _linear(study, scan, record, float(h))
            if line is not None:
                made["linear regression"].append(line.astype(np.float16))
            ticker(done + 1)
        save_arrays(path, **{name: np.stack(part) for name, part in made.items() if part})
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def _read(study: Study, pairs: Pairs, samples: dict[str, np.ndarray], task: str, truth: str) -> Read:
    probe = study.inference.parts.probes.probe(task)

    def score(latents: np.ndarray) -> np.ndarray:
        flat = latents.reshape(-1, study.latents[0].size).astype(np.float32)
        return probe.scores(flat)[:, 0].reshape(latents.shape[:-2])

    before = score(study.latents[pairs.before])
    real = score(study.latents[pairs.after]) - before
    known = [[follow(study.records[i], truth) for i in side] for side in (pairs.before, pairs.after)] if truth else []
    has_truth = bool(known) and all(v is not None for side in known for v in side)
    change = np.array(known[1], float) - np.array(known[0], float) if has_truth else real
    found = {name: score(latents) - before[:, None] for name, latents in samples.items()}
    calibration = _calibration(study)
    widened: dict[str, float] = {}
    if not calibration.is_raw and OURS in found:
        found[CALIBRATED] = calibration.gain * found[OURS]
        widened[CALIBRATED] = calibration.spread.get(task, 1.0)
    return Read(change, real, {**found, "copy of the baseline": np.zeros((len(before), 1))}, widened)


def bridge_of(study: Study) -> Inference | None:
    """The paper's forecaster beside ours, when one was given. Raises RequestError when it reads other latents."""
    if study.bridge is None:
        return None
    parent = study.bridge.parts.checkpoint("forecaster").parents.get("tokenizer")
    if parent != study.ids["tokenizer"]:
        raise RequestError(
            "evaluate.bridge",
            f"The bridge was trained on latents of the tokenizer {parent}, not {study.ids['tokenizer']}.",
            "Train it on the latents of this checkpoint (docs/training.md, preset).",
        )
    return study.bridge


def _rows(study: Study, pairs: Pairs, read: Read, title: str, values: dict[str, float]) -> list[list[Cell]]:
    subjects, horizon = study.subjects[pairs.before], pairs.horizon_years
    rounds = study.settings.bootstrap
    cells: list[list[Cell]] = []
    for name, found in {**read.forecasts, "real follow-up (ceiling)": read.real[:, None]}.items():
        mean = found.mean(1)

        def over_time(i: np.ndarray, mean: np.ndarray = mean) -> float:
            return slope(horizon[i], mean[i]) / slope(horizon[i], read.real[i])

        def over_change(i: np.ndarray, mean: np.ndarray = mean) -> float:
            return slope(read.truth[i], mean[i]) / slope(read.truth[i], read.real[i])

        def r(i: np.ndarray, mean: np.ndarray = mean) -> float:
            return correlation(read.truth[i], mean[i])

        def error(i: np.ndarray, mean: np.ndarray = mean) -> float:
            return delta_rmae(read.truth[i], mean[i])

        width = cross_conformal(read.truth, mean, subjects)
        spread = _coverage(read.truth, found, read.widened.get(name, 1.0)) if found.shape[1] > 1 else None
        calibrated = coverage(read.truth, mean - width, mean + width)
        estimates = [bootstrap(f, subjects, rounds) for f in (over_time, over_change, r, error)]
        for key, e in zip(("over time", "over change", "r", "delta-RMAE"), estimates, strict=True):
            values[f"{name}/{title}/{key}"] = e.value
        values[f"{name}/{title}/calibrated coverage"] = calibrated
        if spread is not None:
            values[f"{name}/{title}/coverage"] = spread
        cells.append([name, title, len(mean), *estimates, spread, calibrated, HERE])
    return cells


def _coverage(truth: np.ndarray, samples: np.ndarray, factor: float) -> float:
    """Of the 5th to 95th percentile of samples (n,S), its ends moved from the mean by ``factor``."""
    centre = samples.mean(1)
    low, high = (centre + factor * (end - centre) for end in np.quantile(samples, [0.05, 0.95], axis=1))
    return coverage(truth, low, high)


def _pictures(study: Study, pairs: Pairs, reads: dict[str, Read]) -> tuple[Picture, ...]:
    pictures = []
    for task, read in reads.items():
        series = [Series(n, read.truth, f.mean(1)) for n, f in read.forecasts.items() if n != "copy of the baseline"]
        path = study.pictures / f"longitudinal_{task}.png"
        chart(path, [Series("real follow-up", read.truth, read.real), *series],
              ("true change" if READINGS[task][0] else "change read in the real follow-up",
               f"change read, {READINGS[task][1]}"), diagonal=True)
        pictures.append(Picture(path.name, f"Change of {READINGS[task][1]} in forecasts and real follow-ups."))
    truth = next(iter(reads.values())).truth if reads else pairs.horizon_years
    horizon_maps(study, pairs, int(np.argmax(np.abs(truth))))
    return (*pictures, Picture("longitudinal.png",
            "The pair that changed most: decoded change of forecasts and of the real follow-up, one colour scale."))


def horizon_maps(study: Study, pairs: Pairs, chosen: int) -> None:
    """Difference maps of one pair's forecasts, up to the horizon of its real follow-up, and of that, all decoded."""
    i, after, years = int(pairs.before[chosen]), int(pairs.after[chosen]), float(pairs.horizon_years[chosen])
    scan, now = study.volume(i), study.decode(study.latents[i])
    horizons = [share * years for share in SHARES]
    found = predict(study, study.latents[i], study.records[i], horizons, study.settings.forecast_samples)
    changes = [study.decode(z.mean(0)) - now for z in found]
    real = study.decode(study.latents[after]) - now
    limit = max(float(np.percentile(np.abs(changes[-1]), 99.8)), float(np.percentile(np.abs(real), 99.5)), 1e-6)
    panels = [
        Panel(f"forecast {h:.1f} y: change", scan, True, change, limit)
        for h, change in zip(horizons, changes, strict=True)
    ]
    three_planes(study.pictures / "longitudinal.png", [
        Panel("scan", scan), Panel(f"real follow-up, {years:.1f} y later", study.volume(after)), *panels,
        Panel(f"real follow-up {years:.1f} y: change", scan, False, real, limit)])
