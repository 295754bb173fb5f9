"""Counterfactuals of held-out scans: composition, reversibility, effectiveness, minimality and realism.

Legend: n scans, N tokens, C latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from braing3n_core.generation.counterfactual import Edit, EditOptions, counterfactual
from braing3n_core.generation.guidance import Contrast, Guidance

from ...store import Record
from ..figures import Panel, three_planes
from ..metrics.edits import composition_error, drift, effectiveness, reversibility
from ..metrics.scores import Estimate, bootstrap
from ..study import CONDITIONS, Study, Ticker, save_arrays
from ..table import Cell, Picture, Table, rows_of

COLUMNS = (
    "edit", "scans", "composition: null edit differs by", "left after A->B->A", "effectiveness (shipped probe)",
    "effectiveness (held-out probe)", "drift of sex", "drift of site", "drift of age (y)", "drift of disease",
    "out of distribution before -> after",
)


@dataclass(frozen=True)
class Asked:
    """One edit. label: the condition; word: its new value, or years to add to an age; of: labels of the scans."""

    name: str
    label: str
    word: str | float
    of: dict[str, Any]


EDITS = (
    Asked("HC -> AD", "disease", "AD", {"disease": "HC"}), Asked("AD -> HC", "disease", "HC", {"disease": "AD"}),
    Asked("F -> M", "sex", "M", {"sex": "F", "disease": "HC"}),
    Asked("age +10 y", "age_years", 10.0, {"disease": "HC"}),
)


def compute(study: Study) -> Table:
    """One row an edit, with a picture of the first."""
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    pictures: list[Picture] = []
    for asked in EDITS:
        rows = _rows(study, asked)
        if not len(rows) or not _knows(study, asked):
            why = "the checkpoint does not know it" if len(rows) else "no such scan"
            cells.append([asked.name, len(rows), why, *[None] * 8])
            continue
        made = _edited(study, asked, rows)
        cells.append(_row(study, asked, rows, made, values))
        if len(pictures) < 2:
            pictures.append(_picture(study, asked, int(rows[0]), made["there"][0]))
    return Table("counterfactual", "Counterfactuals of real scans (not in the paper)", study.label, COLUMNS,
                 rows_of(cells), _notes(study), tuple(pictures), values)


def _notes(study: Study) -> tuple[str, ...]:
    return (
        f"FlowEdit of held-out T1 scans, {study.settings.edit_steps} steps, guidance "
        f"{study.settings.guidance_scale:g} on the changed condition alone. The paper edits only its own "
        "samples, by the same noise.",
        "Composition: largest difference of the null edit's latents from the scan's; 0 is exact. Left after A->B->A: "
        "norm of what remains over the norm of the edit; 95 % intervals over scans.",
        "Effectiveness: share of scans not yet read as the target that are so after the edit; of an age, the mean "
        "change read over the change asked. Drift: mean absolute change of a reading that was not asked to "
        "change: total "
        "variation of probabilities, years of age; by the shipped probes (site by the held-out one).",
        "Realism: the checkpoint's out-of-distribution score, whose limit is 1, mean over scans.",
    )


def _rows(study: Study, asked: Asked) -> np.ndarray:
    rows = [i for i in study.first_visits() if all(study.records[i].get(k) == v for k, v in asked.of.items())]
    return np.array(rows[: study.settings.edits], int)


def _knows(study: Study, asked: Asked) -> bool:
    spec = study.inference.parts.dit.spec
    words = spec.categories.get(asked.label)
    needed = [asked.word, asked.of.get(asked.label, asked.word)]
    return asked.label in spec.scalars if words is None else all(w in words for w in needed)


def edit(study: Study, latents: np.ndarray, source: Record, target: Record) -> np.ndarray:
    """Latents (N,C) of a scan whose conditions go from ``source`` to ``target``, as the product edits."""
    run = study.inference
    start = run.latents_tensor(np.asarray(latents, np.float32))[None]
    spec = run.parts.dit.spec
    rows = [{k: r.get(k) for k in spec.names} for r in (source, target)]
    before = run.conditions("dit", rows[:1])
    after = before if rows[0] == rows[1] else run.conditions("dit", rows[1:])
    contrasts = [Contrast(before, Guidance(study.settings.guidance_scale))]
    options = EditOptions(1.0, study.settings.edit_steps, seed=study.settings.seed)
    with torch.inference_mode():
        return counterfactual(run.velocity("dit"), start, Edit(before, after, contrasts), options)[0].cpu().numpy()


def _edited(study: Study, asked: Asked, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Latents (n,N,C): null, there (A->B) and back (A->B->A), kept between runs."""
    key = [study.ids["dit"], study.fingerprint["records"], asked.name, rows.tolist(), study.settings.edit_steps,
           study.settings.guidance_scale, study.settings.seed]
    path = study.cache_path("edits", key)
    if not path.is_file():
        ticker = Ticker(f"editing {asked.name}", len(rows))
        made: dict[str, list[np.ndarray]] = {"null": [], "there": [], "back": []}
        for done, i in enumerate(rows):
            source, target = ends(study.records[i], asked)
            scan = study.latents[i]
            made["null"].append(edit(study, scan, source, source))
            made["there"].append(edit(study, scan, source, target))
            made["back"].append(edit(study, made["there"][-1], target, source))
            ticker(done + 1)
        save_arrays(path, **{name: np.stack(part) for name, part in made.items()})
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def ends(record: Record, asked: Asked) -> tuple[Record, Record]:
    """The conditions before and after."""
    source = {k: record.get(k) for k in CONDITIONS}
    value = source[asked.label] + asked.word if isinstance(asked.word, float) else asked.word
    return source, {**source, asked.label: value}


def _row(
    study: Study, asked: Asked, rows: np.ndarray, made: dict[str, np.ndarray], values: dict[str, float]
) -> list[Cell]:
    scans = study.latents[rows]
    flat = {k: v.reshape(len(rows), -1) for k, v in {**made, "scan": scans}.items()}
    left = reversibility(flat["scan"], flat["there"], flat["back"])
    remains = bootstrap(lambda i: float(left[i].mean()), study.subjects[rows], study.settings.bootstrap)
    shipped, held = _effect(study, asked, flat, scans, made)
    drifts = [_drift(study, task, asked, scans, made["there"]) for task in ("sex", "site", "age", "disease")]
    null = composition_error(flat["scan"], flat["null"])
    values.update({f"{asked.name}/composition": null, f"{asked.name}/reversibility": remains.value})
    for task, found in zip(("sex", "site", "age", "disease"), drifts, strict=True):
        if found is not None:
            values[f"{asked.name}/drift {task}"] = found
    exact = "exactly 0" if null == 0 else null
    return [asked.name, len(rows), exact, remains, shipped, held, *drifts, _realism(study, flat)]


def _effect(
    study: Study, asked: Asked, flat: dict[str, np.ndarray], scans: np.ndarray, made: dict[str, np.ndarray]
) -> tuple[float | None, float | Estimate | None]:
    task = "age" if asked.label == "age_years" else asked.label
    names = [p.task for p in study.inference.parts.probes.probes]
    shipped = None
    if task in names:
        probe = study.inference.parts.probes.probe(task)
        if isinstance(asked.word, float):
            shipped = float((probe.scores(flat["there"]) - probe.scores(flat["scan"])).mean() / asked.word)
        elif asked.word in probe.classes:
            k = probe.classes.index(asked.word)
            shipped = effectiveness(probe.probabilities(flat["scan"])[:, k], probe.probabilities(flat["there"])[:, k])
    words = () if isinstance(asked.word, float) else (str(asked.of[asked.label]), asked.word)
    reader = study.reader(asked.label, study.where(modality="T1"), words)
    if reader is None:
        return shipped, None
    before, after = reader.values(scans), reader.values(made["there"])
    if isinstance(asked.word, float):
        return shipped, float((after - before).mean() / asked.word)
    k = reader.classes.index(asked.word)
    return shipped, effectiveness(before[:, k], after[:, k])


def _drift(study: Study, task: str, asked: Asked, scans: np.ndarray, there: np.ndarray) -> float | None:
    """Of a reading that was not asked to change; the held-out probe reads what the checkpoint has no probe for."""
    if task == {"age_years": "age"}.get(asked.label, asked.label):
        return None
    names = [p.task for p in study.inference.parts.probes.probes]
    if task in names:
        probe = study.inference.parts.probes.probe(task)
        flat = [x.reshape(len(x), -1) for x in (scans, there)]
        return drift(*(probe.scores(f)[:, 0] if probe.kind == "regression" else probe.probabilities(f) for f in flat))
    reader = study.reader(task, study.where(modality="T1"))
    return None if reader is None else drift(reader.values(scans), reader.values(there))


def _realism(study: Study, flat: dict[str, np.ndarray]) -> str | None:
    model = study.inference.parts.probes.familiarity
    if model is None or model.features != "latents":
        return None
    return " -> ".join(f"{model.score(flat[k]).mean():.2f}" for k in ("scan", "there"))


def _picture(study: Study, asked: Asked, row: int, there: np.ndarray) -> Picture:
    scan, now = study.volume(row), study.decode(study.latents[row])
    change = study.decode(there) - now
    limit = max(float(np.percentile(np.abs(change), 99.8)), 1e-6)
    name = f"counterfactual_{asked.label}_{str(asked.word).lower()}.png"
    three_planes(study.pictures / name, [
        Panel("scan", scan), Panel(f"{asked.name}: scan plus change", scan + change, synthetic=True),
        Panel("scan, decoded", now, synthetic=True), Panel(f"{asked.name}: change", scan, True, change, limit),
    ])
    return Picture(name, f"{asked.name} of one held-out scan; red brighter, blue darker.")
