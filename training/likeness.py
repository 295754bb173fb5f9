"""How alike drawn brains and scans are, and the search for what draws the likest, contrast by contrast.

Of validation latents the side ``val`` of their split is used; without a split, as of phantoms, they must be of subjects
that the generator has not seen. Under the conditions of scans of one contrast, one a subject, brains are drawn in
several ways, and compared with the reconstructions of those scans in the features of the table of fidelity.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from braing3n_core.checkpoint import Checkpoint
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from braing3n_core.schema import MODALITIES

from .drawn import one_a_subject
from .evaluate.features import EncoderFeatures, Features, SliceFeatures, rescaled
from .evaluate.metrics.crossval import random_halves
from .evaluate.metrics.distances import frechet_distance, kernel_distance, standardised, variety
from .latents import LatentSet
from .loop import TrainingError
from .stage import refinement, save_again
from .store import Record

FEWEST = 8
"""Subjects of a contrast that are worth comparing."""
HALVES = 20


class Likeness(NamedTuple):
    """Of drawn brains to reconstructions in one kind of features: :func:`apart`, :func:`variety`, and the Frechet
    distance over that of two sets of reconstructions, which decides nothing here.
    """

    apart: float
    variety: float
    frechet_over_floor: float


Way = tuple[float, ...]
"""The numbers by which brains are drawn in one of the ways that are compared."""
Compared = dict[Way, list[Likeness]]
"""By way and extractor."""
Draw = Callable[[Inference, Sequence[Record]], Iterable[tuple[Way, np.ndarray]]]
"""Latents (n,N,C) of brains under the conditions of these records, in one way after the other."""


def likeness(drawn: np.ndarray, recons: np.ndarray, subjects: np.ndarray) -> Likeness:
    """Of drawn brains (n,F) to reconstructions (n,F); features are standardised by the latter."""
    recons, drawn = standardised(recons, drawn)
    halves = list(random_halves(subjects, HALVES))
    frechet = [(frechet_distance(drawn[b], recons[a]), frechet_distance(recons[b], recons[a])) for a, b in halves]
    over_floor = float(np.divide(*np.mean(frechet, axis=0)))
    return Likeness(apart(drawn, recons, subjects), variety(drawn, recons), over_floor)


def apart(drawn: np.ndarray, recons: np.ndarray, subjects: np.ndarray) -> float:
    """The kernel distance of drawn brains (n,F) from reconstructions (n,F) under the same conditions, in units of its
    standard deviation between two halves of the reconstructions: below 1 nobody can tell them apart by so few.

    Not the Frechet distance, which of small sets is smaller the less various they are, and would ask for too little
    noise.
    """
    floor = [kernel_distance(recons[a], recons[b]) for a, b in random_halves(subjects, HALVES)]
    return kernel_distance(drawn, recons) / max(float(np.std(floor)), 1e-9)


def mean_apart(row: Sequence[Likeness]) -> float:
    """Over the extractors."""
    return float(np.mean([like.apart for like in row]))


def search(description: str, samples: int) -> argparse.ArgumentParser:
    """The arguments of commands that look for the best way; samples: the default limit of brains."""
    parser = refinement(description, samples, "brains of a contrast in each way")
    parser.add_argument("--contrasts", nargs="+", default=list(MODALITIES), choices=MODALITIES, metavar="NAME",
                        help="these alone; the others stay as they are")
    return parser


def find(options: argparse.Namespace, name: str, draw: Draw, best: Callable[[Compared], Way]) -> Checkpoint:
    """Draw, compare, print, and write ``OUT/dit``: the generator with the best way of each contrast in its config under
    ``name``, and with what was compared there in its metrics.
    """
    inference = Inference(Parts(options.checkpoint, options.device))
    generator = inference.parts.checkpoint("dit")
    data = LatentSet.open(options.latents, generator.parents["tokenizer"]).for_validation()
    found: dict[str, Compared] = {}
    extractors = (EncoderFeatures(inference), SliceFeatures())
    for modality in inference.parts.dit.spec.categories.get("modality", ()):
        if modality not in options.contrasts:
            continue
        scans = one_a_subject(data, options.samples, modality=modality)
        if len(scans.records) < FEWEST:
            print(f"{modality}: {len(scans.records)} subjects are too few, it stays as it is", file=sys.stderr)
            continue
        subjects = np.array([r["subject"] for r in scans.records])
        recons = _features(inference, extractors, scans.latents.numpy())
        for way, brains in draw(inference, scans.records):
            drawn = _features(inference, extractors, brains)
            row = [likeness(ours, theirs, subjects) for ours, theirs in zip(drawn, recons, strict=True)]
            found.setdefault(modality, {})[way] = row
            for extractor, like in zip(extractors, row, strict=True):
                numbers = "\t".join(f"{word.replace('_', ' ')} {value:.2f}" for word, value in like._asdict().items())
                print(f"{modality}\t{_written(way)}\t{extractor.name}\t{numbers}", flush=True)
        print(f"{modality}: {_written(best(found[modality]))}", flush=True)
    if not found:
        raise TrainingError(
            "calibrate.subjects", f"No contrast has {FEWEST} subjects in these latents.", "Give more validation scans."
        )
    chosen = {modality: best(compared) for modality, compared in found.items()}
    return _renewed(generator, name, chosen, _as_table(found, [e.name for e in extractors]), options.out)


def _written(way: Way) -> str:
    return ", ".join(f"{number:g}" for number in way)


def _as_table(found: dict[str, Compared], names: Sequence[str]) -> dict[str, object]:
    """By contrast, way and extractor."""
    return {
        modality: {_written(way): {name: {k: round(v, 3) for k, v in like._asdict().items()}
                                   for name, like in zip(names, row, strict=True)}
                   for way, row in compared.items()}
        for modality, compared in found.items()
    }  # fmt: skip


def _renewed(
    old: Checkpoint, name: str, chosen: dict[str, Way], table: dict[str, object], out: Path
) -> Checkpoint:
    """The same generator with these, the other contrasts as they were."""
    before = [dict(of.get(name, {})) for of in (old.config, old.metrics)]
    plain = {modality: way[0] if len(way) == 1 else list(way) for modality, way in chosen.items()}
    renewed = dataclasses.replace(old, config={**old.config, name: {**before[0], **plain}})
    return save_again(renewed, out, old.tensors("pt", dtype=None), **{name: {**before[1], **table}})


def _features(inference: Inference, extractors: Sequence[Features], latents: np.ndarray) -> list[np.ndarray]:
    """By extractor: features (n,F) of decoded latents (n,N,C)."""
    rows = []
    for each in latents:
        volume = rescaled(inference.decode(each))
        rows.append([extractor.of(volume) for extractor in extractors])
    return [np.stack(column).astype(np.float64) for column in zip(*rows, strict=True)]
