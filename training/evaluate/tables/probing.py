"""The probing panel: what is linearly readable, by mean token and by flattened latents, beside what confounds tell.

The paper's 23 tasks; a cohort carries some of them, and the others say so. Folds keep a subject together; intervals are
from a bootstrap over subjects. Legend: n scans, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...phantom.ceiling import VOLUMES, age_ceiling
from ..figures import bars
from ..metrics.crossval import FOLDS, Folds, in_span, predict_classes, predict_numbers, site_folds, subject_folds
from ..metrics.scores import Estimate, bootstrap, macro_auc, mean_absolute_error, r2
from ..study import Study, Ticker
from ..table import Cell, Picture, Table, rows_of

NO_DATA = "no data in this cohort"
MODALITIES = ("T1", "T1C", "T2", "FLAIR")
CONFOUNDS = ("age_years", "sex", "brain volume", "site", "mean intensity")


@dataclass(frozen=True)
class Task:
    """One of the paper's tasks. label: of a record; paper: its best slice (AUC or R2)."""

    name: str
    label: str
    kind: str
    paper: str


CLASSES, NUMBER = "classification", "regression"
TASKS = (
    Task("disease", "disease", CLASSES, ".948-.997 (8-way)"), Task("sex", "sex", CLASSES, ".967"),
    Task("modality", "modality", CLASSES, "1.000"), Task("site", "site", CLASSES, ".998 (19-way)"),
    Task("field strength", "field_strength", CLASSES, ".986"), Task("handedness", "handedness", CLASSES, ".640"),
    Task("ethnicity", "ethnicity", CLASSES, ".860"), Task("APOE e4", "apoe4", CLASSES, ".655"),
    Task("APOE genotype", "apoe", CLASSES, ".600 (3-way)"), Task("race", "race", CLASSES, ".913"),
    Task("scanner vendor", "vendor", CLASSES, ".993"), Task("IDH1", "idh1", CLASSES, ".937"),
    Task("MGMT", "mgmt", CLASSES, ".656"), Task("tumour grade", "grade", CLASSES, ".959 (3-way)"),
    Task("CDR staging", "cdr_stage", CLASSES, ".761 (5-way)"),
    Task("age", "age_years", NUMBER, "R2 .954, MAE 4.43 (T1)"),
    Task("MMSE", "mmse", NUMBER, "R2 .427, MAE 1.91"), Task("CDR", "cdr", NUMBER, "R2 .316"),
    Task("MoCA", "moca", NUMBER, "R2 .285"), Task("education", "education_years", NUMBER, "R2 .455"),
    Task("GDS", "gds", NUMBER, "R2 <= 0"), Task("UPDRS-III", "updrs3", NUMBER, "R2 <= 0"),
    Task("SCOPA", "scopa", NUMBER, "R2 .177"),
)
COLUMNS = (
    "task", "slice", "metric", "scans/subjects", "mean token", "flattened latents", "latents, leave site out",
    "confounds alone", "shipped probe", "paper (patients)",
)


def compute(study: Study) -> Table:
    """The table, with a bar chart of both readings."""
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    ticker = Ticker("probing", len(TASKS))
    for done, task in enumerate(TASKS):
        found = list(_task(study, task, values))
        cells += found or [[task.name, "all", *_metric(task), None, NO_DATA, NO_DATA, None, None, None, task.paper]]
        ticker(done + 1)
    cells += _ceiling(study)
    return Table(
        "probing", "Probing panel (paper, Table 1)", study.label, COLUMNS, rows_of(cells), _notes(),
        _picture(study, values), values,
    )


def _notes() -> tuple[str, ...]:
    return (
        f"{FOLDS}-fold cross-validation, stratified, a subject in one fold; the penalty is chosen inside each fold.",
        "Brackets: 95 % intervals by a bootstrap over subjects.",
        f"Confounds alone: the same protocol on {', '.join(CONFOUNDS)} without what is asked. A reading no better "
        "than this says nothing about anatomy.",
        "Leave site out: tested on a scanner that no scan of the fit came from.",
        "Shipped probe: the checkpoint's own, fitted on its training cohort, on these scans, as it is.",
        "Patient-pooled: the mean over a subject's scans.",
    )


def _metric(task: Task) -> list[Cell]:
    return ["AUC" if task.kind == CLASSES else "R2"]


def _task(study: Study, task: Task, values: dict[str, float]) -> Iterator[list[Cell]]:
    """The rows of one task, one a slice that carries it."""
    labels = study.column(task.label)
    for name, rows, pooled in _slices(study, labels):
        chosen = labels[rows]
        if task.kind == CLASSES:
            rows = rows[_frequent(chosen.astype(str), study.subjects[rows])]
            chosen = labels[rows].astype(str)
        else:
            chosen = chosen.astype(float)
        subjects = study.subjects[rows]
        if len(np.unique(subjects)) < 2 * FOLDS or len(np.unique(chosen)) < 2:
            continue
        yield _row(study, task, (name, rows, pooled), chosen, values)


def _slices(study: Study, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray, bool]]:
    known = np.array([label is not None for label in labels])
    yield "all", np.flatnonzero(known), False
    for modality in MODALITIES:
        rows = study.where(modality=modality)
        yield modality, rows[known[rows]], False
    yield "patient-pooled", np.flatnonzero(known), True


def _frequent(labels: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Rows whose class has a subject for every fold."""
    enough = [c for c in np.unique(labels) if len(np.unique(subjects[labels == c])) >= FOLDS]
    return np.isin(labels, enough)


def _row(
    study: Study, task: Task, part: tuple[str, np.ndarray, bool], labels: np.ndarray, values: dict[str, float]
) -> list[Cell]:
    name, rows, pooled = part
    features = {
        "mean token": study.embeddings[rows],
        "flattened latents": study.latents[rows].reshape(len(rows), -1),
        "confounds": _confounds(study, rows, task.label),
    }
    subjects, sites = study.subjects[rows], study.column("site")[rows].astype(str)
    if pooled:
        features, labels, subjects, sites = _pool(features, labels, subjects, sites)
        if len(labels) == len(rows):
            return [task.name, name, *_metric(task), f"{len(rows)}/{len(rows)}", "as all", "as all", None, None, None,
                    task.paper]
    folds = subject_folds(subjects, labels if task.kind == CLASSES else None)
    spans = {k: in_span(f) for k, f in features.items()}
    scored = {k: _score(study, task, s, labels, subjects, folds) for k, s in spans.items()}
    for k, estimate in scored.items():
        values[f"{task.name}/{name}/{k}"] = estimate.value
    left_out: Estimate | None = None
    if task.label != "site" and len(np.unique(sites)) > 1 and not pooled:
        left_out = _score(study, task, spans["flattened latents"], labels, subjects, site_folds(sites, subjects))
    shipped = None if pooled else _shipped(study, task, rows, labels)
    return [task.name, name, *_metric(task), f"{len(labels)}/{len(np.unique(subjects))}", scored["mean token"],
            scored["flattened latents"], left_out, scored["confounds"], shipped, task.paper]


def _score(
    study: Study, task: Task, features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, folds: Folds
) -> Estimate:
    if task.kind == CLASSES:
        shares, classes = predict_classes(features, labels, subjects, folds)
        keep = np.isfinite(shares).all(1)
        labels, shares, subjects = labels[keep], shares[keep], subjects[keep]
        if len(labels) < 2:
            return Estimate(float("nan"))
        return bootstrap(lambda i: macro_auc(labels[i], shares[i], classes), subjects, study.settings.bootstrap)
    predicted = predict_numbers(features, labels, subjects, folds)
    keep = np.isfinite(predicted)
    labels, predicted, subjects = labels[keep], predicted[keep], subjects[keep]
    return bootstrap(lambda i: r2(labels[i], predicted[i]), subjects, study.settings.bootstrap)


def _pool(
    features: dict[str, np.ndarray], labels: np.ndarray, subjects: np.ndarray, sites: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """One row a subject and label: features are averaged, so that a number is that of the subject's first scan."""
    words = np.array([f"{s}\t{y}" for s, y in zip(subjects, labels, strict=True)])
    _, first, place = np.unique(words if labels.dtype.kind != "f" else subjects, return_index=True, return_inverse=True)

    def mean(x: np.ndarray) -> np.ndarray:
        return np.stack([x[place == k].mean(0) for k in range(len(first))])

    labels = mean(labels) if labels.dtype.kind == "f" else labels[first]
    return {k: mean(f) for k, f in features.items()}, labels, subjects[first], sites[first]


def _confounds(study: Study, rows: np.ndarray, without: str) -> np.ndarray:
    """Standardised (n,F): what a scan's labels and size tell without looking at its anatomy."""
    columns = []
    for name in CONFOUNDS:
        if name == without:
            continue
        if name == "brain volume":
            column = _brain_volumes(study)[rows][:, None]
        elif name == "mean intensity":
            column = np.array([[float(study.records[i].get("mean", 0.0))] for i in rows])
        else:
            column = _encoded(study.column(name)[rows])
        columns.append((column - column.mean(0)) / np.maximum(column.std(0), 1e-9))
    return np.concatenate(columns, 1)


def _encoded(labels: np.ndarray) -> np.ndarray:
    """Numbers as they are (the mean where missing), words as one column each."""
    if any(isinstance(v, str) for v in labels):
        return (labels.astype(str)[:, None] == np.unique(labels.astype(str))[None]).astype(float)
    known = [float(v) for v in labels if v is not None]
    return np.array([[float(v) if v is not None else float(np.mean(known or [0.0]))] for v in labels])


def _brain_volumes(study: Study) -> np.ndarray:
    """Voxels above 0 of every scan, in ml: what anybody can measure."""
    return np.array([np.count_nonzero(study.store.voxels[int(i)]) / 1000 for i in study.chosen])


def _shipped(study: Study, task: Task, rows: np.ndarray, labels: np.ndarray) -> str | None:
    name = {"age_years": "age"}.get(task.label, task.label)
    panel = study.inference.parts.probes if study.inference.parts.has("probes") else None
    if panel is None or name not in [p.task for p in panel.probes]:
        return None
    probe = panel.probe(name)
    fits = [not probe.modalities or study.records[i]["modality"] in probe.modalities for i in rows]
    rows, labels = rows[fits], labels[fits]
    if probe.features != "latents" or len(rows) < 2:
        return None
    flat = study.latents[rows].reshape(len(rows), -1)
    if task.kind == NUMBER:
        read = probe.scores(flat)[:, 0]
        return f"{r2(labels, read):.3g} (MAE {mean_absolute_error(labels, read):.2f}, n {len(rows)})"
    kept = np.isin(labels, probe.classes)
    if not kept.any():
        return None
    return f"{macro_auc(labels[kept], probe.probabilities(flat[kept]), probe.classes):.3g} (n {int(kept.sum())})"


def _ceiling(study: Study) -> list[list[Cell]]:
    """Age from the phantom's own true volumes: what nobody could beat from anatomy alone."""
    rows = [i for i in study.first_visits() if all(k in (study.records[i].get("truth") or {}) for k in VOLUMES)]
    if len(rows) < 4 * FOLDS:
        return []
    age = study.column("age_years")[rows].astype(float)
    healthy = study.column("disease")[rows] == "HC"
    found = age_ceiling([study.records[i]["truth"] for i in rows], age, healthy)
    return [["age, ceiling", "T1", "MAE (y)", f"{len(rows)}/{len(rows)}", None,
             f"{found.mae_years:.2f} from the true volumes", None, None, None, None]]


def _picture(study: Study, values: dict[str, float]) -> tuple[Picture, ...]:
    tasks = [t.name for t in TASKS if f"{t.name}/T1/mean token" in values]
    if not tasks:
        return ()
    groups = [(k, [values[f"{t}/T1/{k}"] for t in tasks]) for k in ("mean token", "flattened latents", "confounds")]
    bars(study.pictures / "probing.png", tasks, groups, "AUC, or R2 of numbers, T1")
    return (Picture("probing.png", "What is read from T1 by each reading, and by the confounds alone."),)
