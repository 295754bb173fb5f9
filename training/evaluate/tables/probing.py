"""The probing panel: what is linearly readable, by mean token and by flattened latents, beside what confounds tell.

The paper's 23 tasks; a cohort carries some of them, and the others say so. Folds keep a subject together; intervals are
from a bootstrap over subjects. Legend: n scans, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...fit_linear import FOLDS, Design, Folds, centred_gram, subject_folds
from ...manifest.labels import REGRESSION
from ...manifest.labels import TASKS as COLUMN_OF
from ..figures import bars
from ..metrics.crossval import in_span, predict_classes, predict_numbers, site_folds, span_of
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


@dataclass(frozen=True, eq=False)
class Part:
    """A slice of one task: rows of the study (n,) with their labels (n,), and the readings' Gram matrices (n,n)."""

    name: str
    rows: np.ndarray
    pooled: bool
    labels: np.ndarray
    grams: dict[str, np.ndarray]


CLASSES, NUMBER = "classification", "regression"
PAPER = (
    ("disease", "disease", ".948-.997 (8-way)"), ("sex", "sex", ".967"), ("modality", "modality", "1.000"),
    ("site", "site", ".998 (19-way)"), ("field strength", "field_strength", ".986"),
    ("handedness", "handedness", ".640"), ("ethnicity", "ethnicity", ".860"), ("APOE e4", "apoe_e4", ".655"),
    ("APOE genotype", "apoe_genotype", ".600 (3-way)"), ("race", "race", ".913"), ("scanner vendor", "vendor", ".993"),
    ("IDH1", "idh1", ".937"), ("MGMT", "mgmt", ".656"), ("tumour grade", "grade", ".959 (3-way)"),
    ("CDR staging", "cdr_stage", ".761 (5-way)"), ("age", "age", "R2 .954, MAE 4.43 (T1)"),
    ("MMSE", "mmse", "R2 .427, MAE 1.91"), ("CDR", "cdr", "R2 .316"), ("MoCA", "moca", "R2 .285"),
    ("education", "education", "R2 .455"), ("GDS", "gds", "R2 <= 0"), ("UPDRS-III", "updrs3", "R2 <= 0"),
    ("SCOPA", "scopa", "R2 .177"),
)
TASKS = tuple(Task(name, COLUMN_OF[key], NUMBER if key in REGRESSION else CLASSES, paper) for name, key, paper in PAPER)
COLUMNS = (
    "task", "slice", "metric", "scans/subjects", "mean token", "flattened latents", "latents, leave site out",
    "confounds alone", "shipped probe", "paper (patients)",
)


def compute(study: Study) -> Table:
    """The table, with a bar chart of both readings."""
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    ticker = Ticker("probing", len(TASKS))
    grams = {"mean token": Design.of(study.embeddings).gram,
             "flattened latents": Design.of(study.latents.reshape(len(study.latents), -1)).gram}
    for done, task in enumerate(TASKS):
        found = list(_task(study, grams, task, values))
        cells += found or [[task.name, "all", *_metric(task), None, NO_DATA, NO_DATA, None, None, None, task.paper]]
        ticker(done + 1)
    return Table(
        "probing", "Probing panel (paper, Table 1)", study.label, COLUMNS, rows_of(cells), _notes(),
        _picture(study, values), values,
    )


def _notes() -> tuple[str, ...]:
    return (
        f"{FOLDS}-fold cross-validation, stratified, a subject in one fold; the penalty is chosen inside each fold.",
        "Brackets: 95 % intervals by a bootstrap over subjects.",
        f"Confounds alone: the same protocol on {', '.join(CONFOUNDS).replace('_years', '')} without what is asked. A "
        "reading no better than this says nothing about anatomy.",
        "Leave site out: tested on a scanner that no scan of the fit came from.",
        "Shipped probe: the checkpoint's own, fitted on its training cohort, on these scans, as it is.",
        "Patient-pooled: the mean over a subject's scans.",
    )


def _metric(task: Task) -> list[Cell]:
    return ["AUC" if task.kind == CLASSES else "R2"]


def _task(
    study: Study, grams: dict[str, np.ndarray], task: Task, values: dict[str, float]
) -> Iterator[list[Cell]]:
    """The rows of one task, one a slice that carries it."""
    labels = study.column(task.label)
    for name, rows, pooled in _slices(study, labels):
        chosen = labels[rows]
        if task.kind == CLASSES:
            rows = rows[frequent(chosen.astype(str), study.subjects[rows])]
            chosen = labels[rows].astype(str)
        else:
            chosen = chosen.astype(float)
        subjects = study.subjects[rows]
        if len(np.unique(subjects)) < 2 * FOLDS or len(np.unique(chosen)) < 2:
            continue
        part = Part(name, rows, pooled, chosen, {k: g[np.ix_(rows, rows)] for k, g in grams.items()})
        yield _row(study, task, part, values)


def _slices(study: Study, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray, bool]]:
    known = np.array([label is not None for label in labels])
    yield "all", np.flatnonzero(known), False
    for modality in MODALITIES:
        rows = study.where(modality=modality)
        yield modality, rows[known[rows]], False
    yield "patient-pooled", np.flatnonzero(known), True


def frequent(labels: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Rows whose class has a subject for every fold."""
    enough = [c for c in np.unique(labels) if len(np.unique(subjects[labels == c])) >= FOLDS]
    return np.isin(labels, enough)


def _row(study: Study, task: Task, part: Part, values: dict[str, float]) -> list[Cell]:
    rows, labels, subjects = part.rows, part.labels, study.subjects[part.rows]
    confounds, sites = _confounds(study, rows, task.label), study.column("site")[rows].astype(str)
    grams = part.grams
    if part.pooled:
        mean, first = _pooling(labels, subjects)
        if len(first) == len(rows):
            return [task.name, part.name, *_metric(task), f"{len(rows)}/{len(rows)}", "as all", "as all", None, None,
                    None, task.paper]
        grams = {k: mean @ g @ mean.T for k, g in grams.items()}
        confounds, subjects, sites = mean @ confounds, subjects[first], sites[first]
        labels = labels[first] if task.kind == CLASSES else mean @ labels
    folds = subject_folds(subjects, labels if task.kind == CLASSES else None)
    spans = {k: span_of(centred_gram(g)) for k, g in grams.items()} | {"confounds": in_span(confounds)}
    scored = {k: _score(study, task, s, labels, subjects, folds) for k, s in spans.items()}
    for k, estimate in scored.items():
        values[f"{task.name}/{part.name}/{k}"] = estimate.value
    left_out: Estimate | None = None
    if task.label != "site" and len(np.unique(sites)) > 1 and not part.pooled:
        left_out = _score(study, task, spans["flattened latents"], labels, subjects, site_folds(sites, subjects))
    shipped = None if part.pooled else _shipped(study, task, rows, labels)
    return [task.name, part.name, *_metric(task), f"{len(labels)}/{len(np.unique(subjects))}", scored["mean token"],
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


def _pooling(labels: np.ndarray, subjects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (m,n) that averages scans to one row a subject and word (a number is averaged), and m first rows."""
    words = np.array([f"{s}\t{y}" for s, y in zip(subjects, labels, strict=True)])
    _, first, place = np.unique(words if labels.dtype.kind != "f" else subjects, return_index=True, return_inverse=True)
    member = (place[None] == np.arange(len(first))[:, None]).astype(float)
    return member / member.sum(1, keepdims=True), first


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
    probe = study.shipped_probe({"age_years": "age"}.get(task.label, task.label))
    if probe is None:
        return None
    fits = [probe.is_for(study.records[i]["modality"]) for i in rows]
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


def _picture(study: Study, values: dict[str, float]) -> tuple[Picture, ...]:
    tasks = [t.name for t in TASKS if f"{t.name}/T1/mean token" in values]
    if not tasks:
        return ()
    groups = [(k, [values[f"{t}/T1/{k}"] for t in tasks]) for k in ("mean token", "flattened latents", "confounds")]
    bars(study.pictures / "probing.png", tasks, groups, "AUC, or R2 of numbers, T1")
    return (Picture("probing.png", "What is read from T1 by each reading, and by the confounds alone."),)
