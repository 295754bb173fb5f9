"""Counterfactuals of held-out scans: composition, reversibility, effectiveness, minimality and realism.

Legend: n scans, N tokens, C latent channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from braing3n_core.editing import guided_edit
from braing3n_core.generation.counterfactual import EditOptions, counterfactual
from braing3n_core.models.conditions import ConditionSpec

from ...store import Record
from ...train_forecaster import visit_pairs
from ..figures import Panel, three_planes
from ..metrics.edits import composition_error, drift, effectiveness, reversibility
from ..metrics.scores import bootstrap
from ..study import CONDITIONS, Study, Ticker, save_arrays
from ..table import Cell, Picture, Table, rows_of

COLUMNS = (
    "edit", "scans", "null edit differs by", "left after A->B->A", "target, by the shipped probe",
    "target, by held-out probes", "drift of sex", "drift of site", "drift of age (y)", "drift of disease",
    "out of distribution",
)
TASK_OF = {"age_years": "age"}
"""By condition: the task of the shipped probe where its name is another."""
DRIFTS = ("sex", "site", "age", "disease")


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
    cells += _floor(study, values)
    return Table("counterfactual", "Counterfactuals of real scans (not in the paper)", study.label, COLUMNS,
                 rows_of(cells), _notes(study), tuple(pictures), values)


def _notes(study: Study) -> tuple[str, ...]:
    return (
        f"FlowEdit of held-out T1 scans, {study.settings.edit_steps} steps, guidance "
        f"{study.settings.edit_guidance:g} on the changed class alone. The paper edits only its own "
        "samples, by the same noise.",
        "An age is changed where both ages lie within what the generator saw in training; beyond, it stays at the end.",
        "Null edit: largest difference of its latents from the scan's; 0 is exact. Left after A->B->A: "
        "norm of what remains over the norm of the edit; 95 % intervals over scans.",
        "Target: mean probability of the word asked for, before -> after, and how many scans are read as it; of an age "
        "the mean reading. Held-out probes were fitted on real scans without the subjects that they read.",
        "Drift: mean absolute change of a reading that was not asked to change: total variation of probabilities (aim "
        "for sex and site: under .02), years of age; by the shipped probes, of site by held-out ones. A brain that "
        "looks ill also looks older: that drift of age is in the anatomy. The last row is what the same readings move "
        "by between two real visits of a subject, at one site, where nothing was edited: no edit can be told from none "
        "below it.",
        *_site_reader(study),
        "Out of distribution: the checkpoint's score, whose limit is 1, mean over scans, before -> after.",
    )


def _site_reader(study: Study) -> tuple[str, ...]:
    """What the held-out probe of the site is worth: one that cannot tell sites moves by what it does not know."""
    reader = study.readers.of("site", {"modality": "T1"})
    if reader is None:
        return ()
    return (f"Site: by a held-out probe fitted on {reader.fitted_on}, which names {reader.quality:.2f} of these real "
            "scans rightly where it has not seen their subjects (balanced accuracy).",)


def _rows(study: Study, asked: Asked) -> np.ndarray:
    spec = study.inference.parts.dit.spec
    rows = [
        i for i in study.first_visits()
        if all(study.records[i].get(k) == v for k, v in asked.of.items()) and reaches(spec, study.records[i], asked)
    ]
    return np.array(rows[: study.settings.edits], int)


def reaches(spec: ConditionSpec, record: Record, asked: Asked) -> bool:
    """Whether the edit can go all its way. A number beyond what training saw is taken at the end of it: ten years more
    of somebody who is as old as the checkpoint knows people are none, and what is left of no change says nothing.
    """
    if not isinstance(asked.word, float):
        return True
    low, high = spec.limits.get(asked.label, (-math.inf, math.inf))
    value = record.get(asked.label)
    return value is not None and all(low <= v <= high for v in (value, value + asked.word))


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
    steps = guided_edit(run, rows[0], rows[1], study.settings.edit_guidance)
    options = EditOptions(1.0, study.settings.edit_steps, seed=study.settings.seed)
    with torch.inference_mode():
        return counterfactual(run.velocity("dit"), start, steps, options)[0].cpu().numpy()


def _edited(study: Study, asked: Asked, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Latents (n,N,C): null, there (A->B) and back (A->B->A), kept between runs."""
    key = [study.ids["dit"], study.fingerprint["records"], asked.name, rows.tolist(), study.settings.edit_steps,
           study.settings.edit_guidance, study.settings.seed, "classes guided"]
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
    null = composition_error(flat["scan"], flat["null"])
    values.update({f"{asked.name}/composition": null, f"{asked.name}/reversibility": remains.value})
    words = () if isinstance(asked.word, float) else (str(asked.of[asked.label]), asked.word)
    reached: list[Cell] = []
    for kind, read in (("shipped", _shipped(study, TASK_OF.get(asked.label, asked.label), flat)),
                       ("held-out", _unseen(study, asked.label, words, rows, made["there"]))):
        reached.append(None if read is None else _reached(asked, read, f"{asked.name}/{kind}", values))
    drifts = [_drift(study, task, asked, rows, flat, made["there"]) for task in DRIFTS]
    values.update({f"{asked.name}/drift {t}": d for t, d in zip(DRIFTS, drifts, strict=True) if d is not None})
    exact = "exactly 0" if null == 0 else null
    return [asked.name, len(rows), exact, remains, *reached, *drifts, _realism(study, flat)]


@dataclass(frozen=True, eq=False)
class Reads:
    """What a probe reads in n scans before and after the edit: numbers (n,), or probabilities (n,K) of classes."""

    before: np.ndarray
    after: np.ndarray
    classes: tuple[str, ...] = ()


def _reached(asked: Asked, read: Reads, name: str, values: dict[str, float]) -> str | None:
    """How far the readings went towards the target, in words."""
    if isinstance(asked.word, float):
        values[name] = float((read.after - read.before).mean() / asked.word)
        return f"{read.before.mean():.1f} -> {read.after.mean():.1f} y"
    if asked.word not in read.classes:
        return None
    before, after = (side[:, read.classes.index(asked.word)] for side in (read.before, read.after))
    values[name] = effectiveness(before, after)
    return f"{before.mean():.2f} -> {after.mean():.2f}; {(before > 0.5).sum()} -> {(after > 0.5).sum()} scans"


def _shipped(study: Study, task: str, flat: dict[str, np.ndarray]) -> Reads | None:
    """By the checkpoint's own probe, if it has one."""
    if task not in [p.task for p in study.inference.parts.probes.probes]:
        return None
    probe = study.inference.parts.probes.probe(task)
    read = (lambda x: probe.scores(x)[:, 0]) if probe.kind == "regression" else probe.probabilities
    return Reads(read(flat["scan"]), read(flat["there"]), probe.classes)


def _unseen(
    study: Study, label: str, words: tuple[str, ...], rows: np.ndarray, there: np.ndarray
) -> Reads | None:
    """By held-out probes that have not seen the subjects they read. None when the other subjects are too few."""
    parts = study.readers.apart(label, {"modality": "T1"}, rows, words)
    if not parts:
        return None
    order = np.argsort(np.concatenate([own for own, _ in parts]))
    before, after = (
        np.concatenate([reader.values(side[own]) for own, reader in parts])[order]
        for side in (study.latents[rows], there)
    )
    return Reads(before, after, parts[0][1].classes)


def _drift(
    study: Study, task: str, asked: Asked | None, rows: np.ndarray, flat: dict[str, np.ndarray], there: np.ndarray
) -> float | None:
    """Of a reading that was not asked to change; held-out probes read what the checkpoint has no probe for."""
    if asked is not None and task == TASK_OF.get(asked.label, asked.label):
        return None
    read = _shipped(study, task, flat) or _unseen(study, task, (), rows, there)
    return None if read is None else drift(read.before, read.after)


def _floor(study: Study, values: dict[str, float]) -> list[list[Cell]]:
    """How far each reading moves from one real visit of a subject to the next, where nothing was edited."""
    found = visit_pairs(study.records)
    forward = np.flatnonzero(found.horizon_years.numpy() > 0)[: study.settings.edits]
    before, after = found.baseline.numpy()[forward], found.follow_up.numpy()[forward]
    if not len(before):
        return []
    there = study.latents[after]
    flat = {"scan": study.latents[before].reshape(len(before), -1), "there": there.reshape(len(before), -1)}
    drifts = [_drift(study, task, None, before, flat, there) for task in DRIFTS]
    values.update({f"next visit/drift {t}": d for t, d in zip(DRIFTS, drifts, strict=True) if d is not None})
    return [["none: the subject's next visit", len(before), *[None] * 4, *drifts, _realism(study, flat)]]


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
