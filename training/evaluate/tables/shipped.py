"""The checkpoint's own probes on scans that they never saw: error, intervals, probabilities, strangeness.

Legend: n scans, K classes.
"""

from __future__ import annotations

import numpy as np

from braing3n_core.probes import LinearProbe

from ...fit_probes import REGRESSIONS
from ...phantom.ceiling import VOLUMES, age_ceiling
from ..figures import Series, chart
from ..metrics.scores import Estimate, auc, bootstrap, calibration_error, correlation, macro_auc, mean_absolute_error
from ..study import Study, follow
from ..table import Cell, Picture, Table, rows_of

COLUMNS = (
    "probe", "contrast", "scans/subjects", "mean absolute error", "r", "AUC", "accuracy",
    "coverage of the 90 % interval", "calibration error of probabilities", "ceiling",
)


def compute(study: Study) -> Table:
    """One row a probe, and one of the out-of-distribution score."""
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    series: list[Series] = []
    panel = study.inference.parts.probes
    for probe in panel.probes:
        rows, labels = _labelled(study, probe)
        if probe.features != "latents" or len(rows) < 3 or len(np.unique(labels)) < 2:
            cells.append([probe.task, None, len(rows), "no labels in this cohort", *[None] * 6])
            continue
        cells.append(_row(study, probe, rows, labels, values))
        if probe.task == "disease":
            cells += _hc_against_ad(study, probe, rows, labels, values)
        if probe.task == "age":
            series.append(Series("one scan", labels, probe.scores(_flat(study, rows))[:, 0]))
    cells += _strangeness(study, values)
    return Table("shipped", "The probes as they ship", study.label, COLUMNS, rows_of(cells), _notes(),
                 _picture(study, series), values)


def _notes() -> tuple[str, ...]:
    return (
        "These probes were fitted on the training cohort and are read here as a user reads them. Brackets are 95 % "
        "intervals by a bootstrap over subjects.",
        "Coverage should be .90. Calibration error: mean distance between how sure the probe is and how often it is "
        "right, over ten bins. Ceiling of age: a regression on the phantoms' own true volumes, first visits.",
        "Out of distribution: share of these scans over the limit of 1, which 1 % of held-out training scans are.",
    )


def _labelled(study: Study, probe: LinearProbe) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the contrasts that the probe is for, whose label is known, and the labels."""
    paths = dict((task, paths) for task, paths, _ in REGRESSIONS).get(probe.task, (probe.task,))
    rows, labels = [], []
    for i, record in enumerate(study.records):
        found = [follow(record, path) for path in paths]
        if None in found or not probe.is_for(record["modality"]):
            continue
        if probe.classes and found[0] not in probe.classes:
            continue
        rows.append(i)
        labels.append(found[0] if probe.classes else sum(float(v) for v in found))
    return np.array(rows, int), np.array(labels)


def _flat(study: Study, rows: np.ndarray) -> np.ndarray:
    return study.latents[rows].reshape(len(rows), -1)


def _row(
    study: Study, probe: LinearProbe, rows: np.ndarray, labels: np.ndarray, values: dict[str, float]
) -> list[Cell]:
    subjects = study.subjects[rows]
    head: list[Cell] = [f"{probe.task.replace('_', ' ')}{f' ({probe.unit})' if probe.unit else ''}",
                        ", ".join(probe.modalities) or "all", f"{len(rows)}/{len(np.unique(subjects))}"]
    found = _numbers(study, probe, rows, labels) if probe.kind == "regression" else _words(study, probe, rows, labels)
    values.update({f"{probe.task}/{k}": v.value if isinstance(v, Estimate) else float(v) for k, v in found.items()})
    cells = [found.get(k) for k in ("error", "r", "AUC", "accuracy", "coverage", "calibration error")]
    return [*head, *cells, _ceiling(study) if probe.task == "age" else None]


def _numbers(study: Study, probe: LinearProbe, rows: np.ndarray, truth: np.ndarray) -> dict[str, Estimate]:
    read, subjects, rounds = probe.scores(_flat(study, rows))[:, 0], study.subjects[rows], study.settings.bootstrap
    inside = np.abs(read - truth) <= probe.half_width
    return {
        "error": bootstrap(lambda i: mean_absolute_error(truth[i], read[i]), subjects, rounds),
        "r": bootstrap(lambda i: correlation(truth[i], read[i]), subjects, rounds),
        "coverage": bootstrap(lambda i: float(inside[i].mean()), subjects, rounds),
    }


def _words(study: Study, probe: LinearProbe, rows: np.ndarray, truth: np.ndarray) -> dict[str, Estimate | float]:
    shares, subjects = probe.probabilities(_flat(study, rows)), study.subjects[rows]
    right = np.array(probe.classes)[shares.argmax(1)] == truth
    rounds = study.settings.bootstrap
    return {
        "AUC": bootstrap(lambda i: macro_auc(truth[i], shares[i], probe.classes), subjects, rounds),
        "accuracy": bootstrap(lambda i: float(right[i].mean()), subjects, rounds),
        "calibration error": calibration_error(shares.max(1), right),
    }


def _hc_against_ad(
    study: Study, probe: LinearProbe, rows: np.ndarray, labels: np.ndarray, values: dict[str, float]
) -> list[list[Cell]]:
    """The two words alone, by their shares of each other: the comparison that papers print."""
    chosen = np.isin(labels, ("HC", "AD"))
    if len(np.unique(labels[chosen])) < 2:
        return []
    rows, ill = rows[chosen], labels[chosen] == "AD"
    shares = probe.probabilities(_flat(study, rows))[:, [probe.classes.index(word) for word in ("HC", "AD")]]
    score, subjects = shares[:, 1] / shares.sum(1).clip(min=1e-12), study.subjects[rows]
    found = bootstrap(lambda i: auc(ill[i], score[i]), subjects, study.settings.bootstrap)
    values["disease, HC and AD/AUC"] = found.value
    size = f"{len(rows)}/{len(np.unique(subjects))}"
    return [["disease, HC and AD alone", "T1", size, None, None, found, *[None] * 4]]


def _strangeness(study: Study, values: dict[str, float]) -> list[list[Cell]]:
    model = study.inference.parts.probes.familiarity
    if model is None or model.features != "latents":
        return []
    cells: list[list[Cell]] = []
    for modality in dict.fromkeys(str(r["modality"]) for r in study.records):
        rows = study.where(modality=modality)
        over = float((model.score(_flat(study, rows)) > 1).mean())
        values[f"out of distribution/{modality}"] = over
        cells.append(["out of distribution", modality, f"{len(rows)}/{len(np.unique(study.subjects[rows]))}",
                      f"{100 * over:.1f} % over the limit", *[None] * 6])
    return cells


def _ceiling(study: Study) -> str | None:
    """The error of age from the phantom's own true volumes: what nobody could beat from anatomy alone."""
    rows = [i for i in study.first_visits() if all(k in (study.records[i].get("truth") or {}) for k in VOLUMES)]
    if len(rows) < 20:
        return None
    age = study.column("age_years")[rows].astype(float)
    found = age_ceiling([study.records[i]["truth"] for i in rows], age, study.column("disease")[rows] == "HC")
    return f"{found.mae_years:.2f}"


def _picture(study: Study, series: list[Series]) -> tuple[Picture, ...]:
    if not series:
        return ()
    chart(study.pictures / "shipped_age.png", series, ("age (years)", "age read by the shipped probe"), diagonal=True)
    return (Picture("shipped_age.png", "Age of held-out scans, as the shipped probe reads it."),)
