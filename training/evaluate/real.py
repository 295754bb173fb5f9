"""What can be measured on real scans without any training label: one report, small samples, so with intervals.

    python -m training.evaluate real --data FOLDER -o real/
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from braing3n_core.engine import Engine
from braing3n_core.inference import Inference
from braing3n_core.schema import CounterfactualRequest, ForecastRequest

from ..fit_linear import FOLDS, subject_folds
from .figures import Panel, three_planes
from .metrics.crossval import in_span, predict_classes, predict_numbers
from .metrics.images import volume_metrics
from .metrics.scores import Estimate, auc, bootstrap, correlation, mean_absolute_error
from .page import write_report
from .scans import CC0, HEADS, MS, MS_DAYS, TUMOUR, Scan, find, prepare, preprocess
from .study import QUICK, Settings, Study
from .table import Cell, Picture, Table, load_table, rows_of, save_table
from .tables.longitudinal import predict

LABEL = "real scans of people, none of them used in training unless the checkpoint's card names them"
YEARS = MS_DAYS / 365.25
FAR_YEARS = (YEARS, 5.0, 10.0)


def run(data: Path, out: Path, checkpoint: str, device: str, quick: bool) -> Path:
    """Preprocess what is new, compute what is not finished, write the report; its path."""
    engine = Engine(checkpoint, device)
    scans = find(data, quick)
    prepared, refused = prepare(scans, engine, out / "cache" / "scans")
    settings = replace(QUICK if quick else Settings(), scans=0)
    study = Study(prepared, LABEL, Inference(engine.parts), out, settings)
    tables = []
    made: dict[str, Callable[[], Table]] = {
        "real_probing": lambda: probing(study), "real_reconstruction": lambda: reconstruction(study),
        "real_longitudinal": lambda: longitudinal(study), "real_null_edit": lambda: null_edits(engine, scans),
    }
    for number, (name, compute) in enumerate(made.items()):
        print(f"[{number + 1}/{len(made)}] {name}", file=sys.stderr, flush=True)
        table = load_table(out, name, study.fingerprint)
        if table is None:
            table = compute()
            save_table(out, table, study.fingerprint)
        tables.append(table)
    return write_report(out, "BrainG3N: real scans", _facts(study, refused), tables)


def probing(study: Study) -> Table:
    """Age and sex by cross-validation within these people; the shipped probe, which never saw them, beside it."""
    columns = ("people", "task", "metric", "n", "mean token", "flattened latents", "guessing", "shipped probe")
    cells: list[list[Cell]] = []
    for name, groups in (("CC0 subjects", (CC0,)), ("CC0 subjects and whole heads", (CC0, HEADS))):
        rows = np.array([i for i, r in enumerate(study.records) if r["group"] in groups], int)
        if len(rows) < 2 * FOLDS:
            cells.append([name, "age, sex", None, len(rows), f"needs {2 * FOLDS} subjects", *[None] * 3])
            continue
        cells += [_age(study, name, rows), _sex(study, name, rows)]
    notes = (
        f"{FOLDS}-fold cross-validation by subject inside the group; 95 % intervals by a bootstrap over "
        "subjects. With so "
        "few people an interval that holds what guessing scores says that nothing was shown.",
        "Guessing: the other folds' mean age; for sex .5. The depressed among the CC0 subjects are not told apart.",
    )
    return Table("real_probing", "Age and sex of real people", _of(study, (CC0, HEADS)), columns, rows_of(cells), notes)


def _age(study: Study, name: str, rows: np.ndarray) -> list[Cell]:
    age, subjects = study.column("age_years")[rows].astype(float), study.subjects[rows]
    folds = subject_folds(subjects)

    def error(predicted: np.ndarray) -> Estimate:
        return bootstrap(lambda i: mean_absolute_error(age[i], predicted[i]), subjects, study.settings.bootstrap)

    read = [error(predict_numbers(in_span(f), age, subjects, folds)) for f in _features(study, rows)]
    guess = np.empty(len(age))
    for fit, test in folds:
        guess[test] = age[fit].mean()
    panel = study.inference.parts.probes
    flat = study.latents[rows].reshape(len(rows), -1)
    shipped = error(panel.probe("age").scores(flat)[:, 0]) if "age" in [p.task for p in panel.probes] else None
    return [name, "age", "MAE (years)", len(rows), *read, error(guess), shipped]


def _sex(study: Study, name: str, rows: np.ndarray) -> list[Cell]:
    sex, subjects = study.column("sex")[rows].astype(str), study.subjects[rows]
    male = sex == "M"
    if min(int(male.sum()), int((~male).sum())) < FOLDS:
        return [name, "sex", "AUC", len(rows), "too few of one sex", *[None] * 3]
    folds = subject_folds(subjects, sex)

    def area(score: np.ndarray) -> Estimate:
        return bootstrap(lambda i: auc(male[i], score[i]), subjects, study.settings.bootstrap)

    read = []
    for features in _features(study, rows):
        shares, classes = predict_classes(in_span(features), sex, subjects, folds)
        read.append(area(shares[:, classes.index("M")]))
    panel = study.inference.parts.probes
    shipped = None
    if "sex" in [p.task for p in panel.probes]:
        probe = panel.probe("sex")
        flat = study.latents[rows].reshape(len(rows), -1)
        shipped = area(probe.probabilities(flat)[:, probe.classes.index("M")])
    return [name, "sex", "AUC", len(rows), *read, 0.5, shipped]


def _features(study: Study, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return study.embeddings[rows], study.latents[rows].reshape(len(rows), -1)


def reconstruction(study: Study) -> Table:
    """What the tokenizer keeps of each group, and whether the scans resemble its training data."""
    columns = ("scans", "contrast", "n", "MSE, brain", "PSNR, brain", "SSIM", "out of distribution (limit 1)")
    cells: list[list[Cell]] = []
    panels: list[Panel] = []
    familiarity = study.inference.parts.probes.familiarity
    for group, modality in dict.fromkeys((r["group"], r["modality"]) for r in study.records):
        rows = study.where(group=group, modality=modality)
        pairs = [(study.volume(int(i)), study.decode(study.latents[i])) for i in rows]
        found = [volume_metrics(torch.from_numpy(scan), torch.from_numpy(decoded)) for scan, decoded in pairs]
        means = [float(np.mean([f[m] for f in found])) for m in ("mse_brain", "psnr_brain", "ssim")]
        strange = None if familiarity is None else float(
            familiarity.score(study.latents[rows].reshape(len(rows), -1)).mean())
        cells.append([group, modality, len(rows), *means, strange])
        if group != TUMOUR:  # its face was not removed: no picture of it leaves
            i = int(rows[0])
            panels += [Panel(group, study.volume(i)),
                       Panel("reconstruction", study.decode(study.latents[i]), synthetic=True)]
    three_planes(study.pictures / "real_reconstruction.png", panels)
    picture = Picture("real_reconstruction.png", "The first scan of each group, and what 1200 tokens keep of it.")
    notes = ("The embedded default learnt from digital phantoms: a score above 1 says that a scan does not "
             "resemble them, "
             "and that nothing read from it should be trusted.",)
    return Table("real_reconstruction", "Reconstruction of real scans", _of(study, (CC0, HEADS, MS, TUMOUR)), columns,
                 rows_of(cells), notes, (picture,))


def longitudinal(study: Study) -> Table:
    """The MS patient's real change of 203 days beside the forecast of it."""
    columns = ("reading", "first visit", "second visit", "real change", "forecast change", "5-95 % of samples",
               "forecast at 10 years")
    visits = [study.where(group=MS, visit=v) for v in (0, 1)]
    if not all(len(v) for v in visits):
        return Table("real_longitudinal", "A real change beside its forecast", _of(study, (MS,)), columns,
                     rows_of([["no such patient in this folder", *[None] * 6]]))
    first, second = int(visits[0][0]), int(visits[1][0])
    record = {**study.records[first], "disease": study.records[first]["disease"] or "HC"}
    samples = predict(study, study.latents[first], record, list(FAR_YEARS), study.settings.forecast_samples)
    cells: list[list[Cell]] = []
    for probe in study.inference.parts.probes.probes:
        if probe.kind != "regression" or probe.features != "latents":
            continue
        before, after = (float(probe.scores(study.latents[i].reshape(-1))[0]) for i in (first, second))
        read = probe.scores(samples.reshape(*samples.shape[:2], -1))[..., 0] - before
        low, high = np.quantile(read[0], [0.05, 0.95])
        cells.append([f"{probe.task.replace('_', ' ')} ({probe.unit})", f"{before:.2f}", f"{after:.2f}",
                      f"{after - before:+.2f}", f"{read[0].mean():+.2f}", f"{low:+.2f} to {high:+.2f}",
                      f"{read[-1].mean():+.2f}"])
    likeness = _ms_maps(study, first, second, samples)
    notes = (
        f"One patient, {MS_DAYS} days apart, the second visit on another grid: the readings' difference holds "
        "the noise of "
        "position and of the probes, which is larger than ageing in this time. Disease is given as HC, the "
        "nearest word.",
        f"Correlation of the decoded real change with the forecast at {MS_DAYS} days inside the brain: r = "
        f"{likeness:.2f}. "
        "One pair has no interval: nothing follows from it but that the machinery runs on a real patient.",
    )
    picture = Picture("real_longitudinal.png",
                      "The MS patient: real change of 203 days and forecasts, each decoded, each in its own "
                      "colour scale.")
    return Table("real_longitudinal", "A real change beside its forecast", _of(study, (MS,)), columns, rows_of(cells),
                 notes, (picture,))


def _ms_maps(study: Study, first: int, second: int, samples: np.ndarray) -> float:
    """Draw the maps; the correlation of the real with the forecast change in the brain."""
    scan, now = study.volume(first), study.decode(study.latents[first])
    real = study.decode(study.latents[second]) - now
    ahead = [study.decode(z.mean(0)) - now for z in samples]
    panels = [Panel("first visit", scan), Panel("second visit", study.volume(second))]
    titles = [f"real change, {MS_DAYS} days", *(f"forecast, {h:.2g} y" for h in FAR_YEARS)]
    for k, (title, change) in enumerate(zip(titles, [real, *ahead], strict=True)):
        limit = max(float(np.percentile(np.abs(change), 99.8)), 1e-6)
        panels.append(Panel(f"{title}, limit {limit:.2g} sd", scan, k > 0, change, limit))
    three_planes(study.pictures / "real_longitudinal.png", panels)
    brain = scan > scan.min() + 1e-4
    return correlation(real[brain], ahead[0][brain])


def null_edits(engine: Engine, scans: list[Scan]) -> Table:
    """The edit that asks for nothing, through the whole product: the same voxels on the scan's own grid."""
    columns = ("scan", "own grid kept", "voxels that differ", "forecast at 0 years: voxels that differ")
    cells: list[list[Cell]] = []
    seen: set[str] = set()
    for scan in scans:
        if scan.group in seen or scan.modality != "T1":
            continue
        seen.add(scan.group)
        encoded = engine.encode(preprocess(scan, engine))
        native = encoded.preprocessed.native
        edited = engine.counterfactual(encoded, CounterfactualRequest(scan.name)).rendered.native
        still = engine.forecast(encoded, _now(scan)).points[0].rendered.native
        cells.append([f"{scan.group}, {scan.subject}", edited.same_grid(native),
                      int((edited.array != native.array).sum()), int((still.array != native.array).sum())])
    return Table("real_null_edit", "Null edit of real scans", "real scans: one of each group", columns, rows_of(cells),
                 ("The first T1 of each group through preprocessing, encoder, editor and back to its own grid.",))


def _now(scan: Scan) -> ForecastRequest:
    return ForecastRequest(
        scan.name, horizons_years=(0.0,), samples=1, disease="HC", age_years=40.0, sex="F", uncertainty=False
    )


def _of(study: Study, groups: tuple[str, ...]) -> str:
    counts = [f"{g} ({len(study.where(group=g))} scans)" for g in groups if len(study.where(group=g))]
    return "real scans: " + ", ".join(counts)


def _facts(study: Study, refused: list[str]) -> dict[str, str]:
    return {
        "checkpoint": ", ".join(f"{k} {v}" for k, v in study.ids.items()),
        "data": f"{study.label}: {len(study.records)} scans",
        "computed by": "python -m training.evaluate real",
        "refused by preprocessing": "; ".join(refused) or "none",
    }

