"""Linear probes on cached latents (paper, section 3.2; ADR 6).

    python -m training.fit_probes --tokenizer T --latents SET [SET...] --out RUN

Age, sex, disease and ventricle volume are read from T1; the modality from every contrast. They are linear on the
flattened standardised latents.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from braing3n_core.checkpoint import CheckpointSpec, load_checkpoint, save_checkpoint
from braing3n_core.probes import LinearProbe, ProbePanel

from .fit_linear import (
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
from .stage import CARD, add_latents, command

DATA = "digital phantoms, out of fold, grouped by subject"


REGRESSIONS = (
    ("age", ("age_years",), "years"), ("ventricle_volume", ("truth.ventricles_ml",), "ml"),
    ("brain_volume", ("truth.gm_ml", "truth.wm_ml"), "ml"),
)
"""Task, the labels that are added up, unit."""


def fit_panel(data: LatentSet) -> ProbePanel:
    """The panel of the embedded default."""
    records, latents = data.records, data.latents.numpy()  # (n,N,C)
    subjects = np.array([r["subject"] for r in records])
    t1 = np.array(data.where(modality="T1"))
    of_t1, groups = latents[t1], subjects[t1]
    probes: list[LinearProbe] = []
    for task, paths, unit in REGRESSIONS:
        y = np.array([sum(float(_follow(records[i], path)) for path in paths) for i in t1])  # type: ignore[arg-type]
        fit = fit_by_channel(fit_ridge, of_t1, y, groups)
        probes.append(regression_probe(task, "latents", fit, y, unit=unit, modalities=("T1",)))
    for task in ("sex", "disease"):
        words = np.array([records[i][task] for i in t1])
        fit = fit_by_channel(fit_logistic, of_t1, words, groups)
        probes.append(classification_probe(task, "latents", fit, words, modalities=("T1",)))
    probes.append(_modality_probe(data, latents, subjects))
    everything = np.arange(0, len(records), max(1, len(records) // 800))
    familiarity = fit_familiarity(Design.of(latents[everything].reshape(len(everything), -1)), subjects[everything],
                                  components=3)
    return ProbePanel(tuple(probes), familiarity)


def fit_by_channel(
    fit: Callable[[Design, np.ndarray, np.ndarray], LinearFit], latents: np.ndarray, y: np.ndarray, groups: np.ndarray
) -> LinearFit:
    """A linear fit on flattened latents (n,N,C) whose penalty knows the channels (:mod:`training.relevance`)."""
    target = y if y.dtype.kind == "f" else (y[:, None] == np.unique(y)).astype(float)
    factors = np.tile(channel_scales(latents, target), latents.shape[1]).astype(np.float32)
    return fit(Design.of(latents.reshape(len(latents), -1) * factors), y, groups).rescaled(factors)


def _modality_probe(data: LatentSet, latents: np.ndarray, subjects: np.ndarray) -> LinearProbe:
    """From the visits that have all four contrasts, so that no contrast is told by its subjects."""
    complete = {data.records[i]["subject"] for i in data.where(modality="FLAIR", visit=0)}
    rows = np.array([i for i, r in enumerate(data.records) if r["visit"] == 0 and r["subject"] in complete])
    words = np.array([data.records[i]["modality"] for i in rows])
    return classification_probe("modality", "latents", fit_by_channel(fit_logistic, latents[rows], words,
                                                                      subjects[rows]), words)


def _follow(record: dict[str, object], path: str) -> object:
    value: object = record
    for key in path.split("."):
        value = value[key]  # type: ignore[index]
    return value


def main() -> None:
    """Fit and write ``RUN/probes``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    options = add_latents(parser).parse_args()
    parent = load_checkpoint(options.tokenizer, "tokenizer")
    panel = fit_panel(LatentSet.open(options.latents, parent.id).for_training())
    for probe in panel.probes:
        print(probe.task, probe.quality)
    config, arrays = panel.save_arrays()
    spec = CheckpointSpec(
        kind="probes", config=config, tensors=arrays, card=CARD.format(title="The linear probes"), dtype="keep",
        parents={"tokenizer": parent.id}, metrics={p.task: p.quality for p in panel.probes},
    )
    save_checkpoint(options.out / "probes", spec, overwrite=True)


if __name__ == "__main__":
    command(main)
