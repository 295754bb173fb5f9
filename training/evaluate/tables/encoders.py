"""Head to head with frozen published encoders and a small CNN from scratch, on the same scans and the same splits.

Legend: n scans, F features, K classes.
"""

from __future__ import annotations

import numpy as np

from ...fit_linear import FOLDS, Folds, subject_folds
from ..metrics.crossval import in_span, predict_classes, predict_numbers
from ..metrics.scores import Estimate, bootstrap, macro_auc, mean_absolute_error
from ..public_encoders import KINDS
from ..small_cnn import Answers, coarse, out_of_fold
from ..study import Study, Ticker, save_arrays
from ..table import Cell, Table, rows_of
from .probing import CLASSES, NO_DATA, TASKS, Task, frequent

CNN, OURS = "small CNN, from scratch", ("mean token", "flattened latents")
NOT_GIVEN = "no weights given"
PAPER = {
    "IDH1": ".937", "tumour grade": ".921", "disease": ".948", "CDR staging": ".717", "sex": ".967",
    "modality": "1.000", "age": "MAE 4.43", "MMSE": "MAE 1.91",
}
PAPER_PEERS = {
    "IDH1": ".805/.780/.636", "tumour grade": ".855/.799/.763", "disease": ".908/.891/.811",
    "CDR staging": ".626/.586/.599", "sex": ".787/.793/.613", "modality": "1.000/1.000/.991",
    "age": "MAE 7.33/8.90/12.54", "MMSE": "MAE 2.16/2.36/2.29",
}
"""BrainIAC, BrainSegFounder, MedicalNet."""
COLUMNS = (
    "task", "scans", "metric", *(f"ours: {name}" for name in OURS), CNN, *(kind.title for kind in KINDS.values()),
    "paper: theirs (patients)", "paper: BrainIAC/BrainSegFounder/MedicalNet (patients)",
)


def compute(study: Study) -> Table:
    """One row a task of the paper's comparison; T1 alone but for the contrast itself."""
    features = {OURS[0]: study.embeddings, OURS[1]: study.latents.reshape(len(study.latents), -1)}
    features |= {e.name: found for e, found in zip(study.encoders, _peers(study), strict=True)}
    rows = {t.name: _rows(study, t) for t in TASKS if t.name in PAPER}
    folds = _folds(study)
    cnn = _cnn(study, {name: r for name, r in rows.items() if len(r)}, folds)
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    for task in (t for t in TASKS if t.name in PAPER):
        chosen = rows[task.name]
        metric = "AUC" if task.kind == CLASSES else "MAE"
        head: list[Cell] = [task.name, len(chosen), metric]
        tail: list[Cell] = [PAPER[task.name], PAPER_PEERS[task.name]]
        if not len(chosen):
            carried = any(label is not None for label in study.column(task.label))
            cells.append([*head, *["too few in T1" if carried else NO_DATA] * 2, *[None] * (1 + len(KINDS)), *tail])
            continue
        read = {n: _score(study, task, chosen, _linear(study, task, f, chosen, folds)) for n, f in features.items()}
        read[CNN] = _score(study, task, chosen, cnn[task.name][chosen])
        values.update({f"{task.name}/{name}": e.value for name, e in read.items()})
        names = (*OURS, CNN, *(kind.title for kind in KINDS.values()))
        cells.append([*head, *(read.get(name, NOT_GIVEN) for name in names), *tail])
    return Table("encoders", "Head to head with frozen encoders (paper, section 3.2)", study.label, COLUMNS,
                 rows_of(cells), _notes(study), (), values)


def _notes(study: Study) -> tuple[str, ...]:
    given = "; ".join(f"{e.name}: {e.source}" for e in study.encoders)
    return (
        f"Every column on the same scans in the same {FOLDS} folds by subject (stratified by disease); T1 alone but "
        "for the modality. Ours and the published encoders are frozen and read linearly (the protocol of the probing "
        "table); brackets are 95 % intervals by a bootstrap over subjects.",
        f"{CNN}: trained end to end on each fold's own scans at 4 mm, all tasks at once, "
        f"{study.settings.cnn_epochs} epochs. Published encoders see 2 mm cubes of 96 voxels.",
        f"Weights of published encoders, as the caller gave them: {given}." if given else
        "No weights of published encoders were given (`--encoders brainiac=FILE ...`), so none is shown: an "
        "architecture with random weights is not that encoder.",
    )


def _rows(study: Study, task: Task) -> np.ndarray:
    """Scans that carry the task's label, of classes with a subject for every fold; none when too few."""
    labels = study.column(task.label)
    of = np.arange(len(labels)) if task.name == "modality" else study.where(modality="T1")
    rows = of[[labels[i] is not None for i in of]] if len(of) else of
    if task.kind == CLASSES and len(rows):
        rows = rows[frequent(labels[rows].astype(str), study.subjects[rows])]
    enough = len(np.unique(study.subjects[rows])) >= 2 * FOLDS and len(np.unique(labels[rows].astype(str))) > 1
    return rows if enough else rows[:0]


def _folds(study: Study) -> Folds:
    """The one split of the table, over every scan."""
    disease = study.column("disease").astype(str)
    return subject_folds(study.subjects, disease)


def _within(folds: Folds, rows: np.ndarray) -> Folds:
    """The split as positions in ``rows``."""
    return [(np.flatnonzero(np.isin(rows, fit)), np.flatnonzero(np.isin(rows, test))) for fit, test in folds]


def _linear(study: Study, task: Task, features: np.ndarray, rows: np.ndarray, folds: Folds) -> np.ndarray:
    labels, subjects = study.column(task.label)[rows], study.subjects[rows]
    span, inside = in_span(features[rows]), [pair for pair in _within(folds, rows) if len(pair[1])]
    if task.kind == CLASSES:
        return predict_classes(span, labels.astype(str), subjects, inside)[0]
    return predict_numbers(span, labels.astype(float), subjects, inside)


def _score(study: Study, task: Task, rows: np.ndarray, read: np.ndarray) -> Estimate:
    keep = np.isfinite(read).all(1) if read.ndim > 1 else np.isfinite(read)
    labels, subjects, read = study.column(task.label)[rows][keep], study.subjects[rows][keep], read[keep]
    if task.kind == CLASSES:
        words = labels.astype(str)
        classes = tuple(np.unique(study.column(task.label)[rows].astype(str)).tolist())
        return bootstrap(lambda i: macro_auc(words[i], read[i], classes), subjects, study.settings.bootstrap)
    numbers = labels.astype(float)
    return bootstrap(lambda i: mean_absolute_error(numbers[i], read[i]), subjects, study.settings.bootstrap)


def _cnn(study: Study, rows: dict[str, np.ndarray], folds: Folds) -> dict[str, np.ndarray]:
    """Out-of-fold predictions of every scan by task (n,K) or (n,), kept between runs."""
    tasks = {t.name: _answers(study, t, rows[t.name]) for t in TASKS if t.name in rows}
    key = [study.fingerprint["records"], len(study.records), study.settings.cnn_epochs, sorted(tasks)]
    path = study.cache_path("small_cnn", key)
    if not path.is_file():
        ticker = Ticker("small CNN", len(folds))
        volumes = np.stack([coarse(study.volume(i)) for i in range(len(study.records))])
        found: dict[str, np.ndarray] = {}
        for done, fold in enumerate(folds):
            for name, read in out_of_fold(volumes, tasks, [fold], study.settings.cnn_epochs).items():
                found.setdefault(name, np.full_like(read, np.nan))[fold[1]] = read[fold[1]]
            ticker(done + 1)
        save_arrays(path, **found)
    with np.load(path) as kept:
        return {name: kept[name] for name in kept.files}


def _answers(study: Study, task: Task, rows: np.ndarray) -> Answers:
    known = np.isin(np.arange(len(study.records)), rows)
    labels = study.column(task.label)
    if task.kind != CLASSES:
        return Answers(np.array([float(v) if k else 0.0 for v, k in zip(labels, known, strict=True)]), known)
    return Answers(labels.astype(str), known, tuple(np.unique(labels[rows].astype(str)).tolist()))


def _peers(study: Study) -> list[np.ndarray]:
    """Features (n,F) of every scan by each published encoder, kept between runs."""
    made = []
    for encoder in study.encoders:
        path = study.cache_path("encoder", [encoder.name, encoder.source, study.fingerprint["records"],
                                            len(study.records)])
        if not path.is_file():
            ticker, found = Ticker(encoder.name, len(study.records)), []
            for row in range(len(study.records)):
                found.append(encoder.of(study.volume(row)))
                ticker(row + 1)
            save_arrays(path, features=np.stack(found))
        with np.load(path) as kept:
            made.append(kept["features"])
    return made
