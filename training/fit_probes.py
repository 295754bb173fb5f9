"""Linear probes on cached latents (paper, section 3.2; ADR 6).

    python -m training.fit_probes --tokenizer T --latents SET [SET...] --out RUN

Age, sex, disease, and where the truth is known the volumes of ventricles and brain are read from T1; the modality from
every contrast. They are linear on the flattened standardised latents. What has too few labels is left out and told.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braing3n_core.checkpoint import CheckpointSpec, load_checkpoint, save_checkpoint
from braing3n_core.errors import RequestError
from braing3n_core.probes import LinearProbe, ProbePanel

from .card import card
from .fit_linear import (
    FOLDS,
    Design,
    LinearFit,
    classification_probe,
    fit_familiarity,
    fit_logistic,
    fit_ridge,
    regression_probe,
)
from .latents import LatentSet
from .relevance import channel_scales
from .stage import add_latents, command
from .store import Record

REGRESSIONS = (
    ("age", ("age_years",), "years"), ("ventricle_volume", ("truth.ventricles_ml",), "ml"),
    ("brain_volume", ("truth.gm_ml", "truth.wm_ml"), "ml"),
)
"""Task, the labels that are added up, unit."""


def fit_panel(data: LatentSet, tell: Callable[[str], None] = lambda sentence: None) -> ProbePanel:
    """The panel of the embedded default, as far as the labels at hand allow.

    tell: hears of each task and each word that is left out, and why. Raises RequestError without any probe.
    """
    records, latents = data.records, data.latents.numpy()  # (n,N,C)
    subjects = np.array([r["subject"] for r in records])
    t1 = data.where(modality="T1")
    probes: list[LinearProbe] = []
    for task, paths, unit in REGRESSIONS:
        rows, y = labelled(t1, [total(r, paths) for r in records])
        if why := _too_little(y, subjects[rows]):
            tell(f"no probe of {task}: {why}")
            continue
        fit = fit_by_channel(fit_ridge, latents[rows], y.astype(float), subjects[rows])
        probes.append(regression_probe(task, "latents", fit, y.astype(float), unit=unit, modalities=("T1",)))
    words: list[tuple[str, list[int], list[Any], tuple[str, ...]]] = [
        (task, t1, [r.get(task) for r in records], ("T1",)) for task in ("sex", "disease")
    ]
    words.append(("modality", complete_visits(records), [r["modality"] for r in records], ()))
    for task, candidates, values, modalities in words:
        rows, y = _without_rare(task, *labelled(candidates, values), subjects, tell)
        if why := _too_little(y, subjects[rows]):
            tell(f"no probe of {task}: {why}")
            continue
        fit = fit_by_channel(fit_logistic, latents[rows], y, subjects[rows])
        probes.append(classification_probe(task, "latents", fit, y, modalities=modalities))
    if not probes:
        raise RequestError("probe.none", "No task has labels enough for a probe.", "Add subjects, or their labels.")
    everything = np.arange(0, len(records), max(1, len(records) // 800))
    familiarity = fit_familiarity(Design.of(latents[everything].reshape(len(everything), -1)), subjects[everything],
                                  components=3)
    return ProbePanel(tuple(probes), familiarity)


def labelled(candidates: Sequence[int], values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Those of the rows ``candidates`` whose value is known (n,), and the values (n,). values: one a record."""
    rows = [i for i in candidates if values[i] is not None]
    return np.array(rows, dtype=int), np.array([values[i] for i in rows])


def complete_visits(records: Sequence[Record]) -> list[int]:
    """Rows of the visits that have every contrast there is, so that no contrast is told by its subjects."""
    contrasts: dict[tuple[str, str], set[str]] = {}
    for r in records:
        contrasts.setdefault((str(r["subject"]), str(r["visit"])), set()).add(r["modality"])
    every = {r["modality"] for r in records}
    return [i for i, r in enumerate(records) if contrasts[str(r["subject"]), str(r["visit"])] == every]


def _without_rare(
    task: str, rows: np.ndarray, y: np.ndarray, subjects: np.ndarray, tell: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Without the words that fewer subjects have than there are folds."""
    people = {word: len(np.unique(subjects[rows[y == word]])) for word in np.unique(y)}
    rare = [word for word, count in people.items() if count < FOLDS]
    for word in rare:
        tell(f"{task} is not learnt for {word}: {people[word]} of the {FOLDS} subjects that it needs")
    kept = ~np.isin(y, rare)
    return rows[kept], y[kept]


def _too_little(y: np.ndarray, people: np.ndarray) -> str | None:
    """Why there is nothing to learn, or None."""
    if (count := len(np.unique(people))) < FOLDS:
        return f"{count} subjects have the label, {FOLDS} are needed"
    return None if len(np.unique(y)) > 1 else f"all have the label {y[0]}"


def fit_by_channel(
    fit: Callable[[Design, np.ndarray, np.ndarray], LinearFit], latents: np.ndarray, y: np.ndarray, groups: np.ndarray
) -> LinearFit:
    """A linear fit on flattened latents (n,N,C) whose penalty knows the channels (:mod:`training.relevance`)."""
    target = y if y.dtype.kind == "f" else (y[:, None] == np.unique(y)).astype(float)
    factors = np.tile(channel_scales(latents, target), latents.shape[1]).astype(np.float32)
    return fit(Design.of(latents.reshape(len(latents), -1) * factors), y, groups).rescaled(factors)


def total(record: Record, paths: Sequence[str]) -> float | None:
    """The sum of a record's numbers at these dotted paths; None when one is not known."""
    parts = [_follow(record, path) for path in paths]
    return None if None in parts else float(sum(parts))


def _follow(record: Record, path: str) -> Any:
    value: Any = record
    for key in path.split("."):
        value = None if value is None else value.get(key)
    return value


def main() -> None:
    """Fit and write ``RUN/probes``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    options = add_latents(parser).parse_args()
    parent = load_checkpoint(options.tokenizer, "tokenizer")
    data = LatentSet.open(options.latents, parent.id).for_training()
    panel = fit_panel(data, print)
    for probe in panel.probes:
        print(probe.task, probe.quality)
    config, arrays = panel.save_arrays()
    spec = CheckpointSpec(
        kind="probes", config=config, tensors=arrays, card=card("The linear probes", data.records), dtype="keep",
        parents={"tokenizer": parent.id}, metrics={p.task: p.quality for p in panel.probes},
    )
    save_checkpoint(options.out / "probes", spec, overwrite=True)


if __name__ == "__main__":
    command(main)
