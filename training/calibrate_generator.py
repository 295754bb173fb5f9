"""Find the size of the noise that brains are best drawn from, contrast by contrast, on validation subjects (ADR 23).

    python -m training.calibrate_generator --checkpoint SET --latents VALIDATION --out RUN

Of VALIDATION the side ``val`` of its split is used; without a split, as of phantoms, it must hold subjects that the
generator has not seen. Under the conditions of at most ``--samples`` scans of a contrast, one a subject, brains are
drawn from noise of every size in ``--scales``, and compared with the reconstructions of those scans in the features of
the table of fidelity. Kept is the size at which they are hardest to tell apart (:func:`apart`). The noise has the
colour of the generator, if that has one (``training.fit_noise``). ``RUN/dit`` is the generator with these sizes in its
config, and with what was compared in its metrics.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from braing3n_core.checkpoint import Checkpoint
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from braing3n_core.schema import MODALITIES

from .drawn import drawn_like, one_a_subject
from .evaluate.features import EncoderFeatures, Features, SliceFeatures, rescaled
from .evaluate.metrics.crossval import random_halves
from .evaluate.metrics.distances import frechet_distance, kernel_distance, standardised, variety
from .latents import LatentSet
from .loop import TrainingError
from .stage import command, refinement, save_again

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


Compared = dict[float, list[Likeness]]
"""By size of the noise and extractor."""


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Brains of one contrast. data: validation scans, one a subject. recons: features (n,F) of them, by extractor."""

    inference: Inference
    extractors: Sequence[Features]
    data: LatentSet
    recons: Sequence[np.ndarray]

    @classmethod
    def of(cls, inference: Inference, extractors: Sequence[Features], data: LatentSet) -> Comparison:
        """With the features of the scans' reconstructions."""
        return cls(inference, extractors, data, _features(inference, extractors, data.latents.numpy()))

    def at(self, scale: float) -> list[Likeness]:
        """Of brains drawn from noise of this size, by extractor."""
        brains = drawn_like(self.inference, self.data.records, noise_scale=scale)
        drawn = _features(self.inference, self.extractors, brains)
        subjects = np.array([r["subject"] for r in self.data.records])
        return [likeness(ours, theirs, subjects) for ours, theirs in zip(drawn, self.recons, strict=True)]


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


def best(compared: Compared) -> float:
    """The size of the noise at which brains are least apart, in the mean over the extractors."""
    return min(compared, key=lambda scale: float(np.mean([row.apart for row in compared[scale]])))


def calibrated(old: Checkpoint, by_contrast: dict[str, Compared], names: Sequence[str], out: Path) -> Checkpoint:
    """The same generator with the best noise scale of each of these contrasts, the others as they were, written to
    ``out/dit``. names: of extractors.
    """
    table = {
        modality: {f"{scale:g}": {name: {k: round(v, 3) for k, v in found._asdict().items()}
                                  for name, found in zip(names, row, strict=True)}
                   for scale, row in compared.items()}
        for modality, compared in by_contrast.items()
    }
    chosen = {modality: best(compared) for modality, compared in by_contrast.items()}
    known = [dict(of.get("noise_scales", {})) for of in (old.config, old.metrics)]
    renewed = dataclasses.replace(old, config={**old.config, "noise_scales": {**known[0], **chosen}})
    return save_again(renewed, out, old.tensors("pt", dtype=None), noise_scales={**known[1], **table})


def _features(inference: Inference, extractors: Sequence[Features], latents: np.ndarray) -> list[np.ndarray]:
    """By extractor: features (n,F) of decoded latents (n,N,C)."""
    rows = []
    for each in latents:
        volume = rescaled(inference.decode(each))
        rows.append([extractor.of(volume) for extractor in extractors])
    return [np.stack(column).astype(np.float64) for column in zip(*rows, strict=True)]


def main() -> None:
    """Compare, print and write ``RUN/dit``."""
    parser = refinement(__doc__ or "", 48, "brains of a contrast and size")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.6, 0.7, 0.8, 0.9, 1.0])
    parser.add_argument("--contrasts", nargs="+", default=list(MODALITIES), choices=MODALITIES, metavar="NAME",
                        help="these alone; the others keep their size")
    options = parser.parse_args()
    if not all(0 < scale <= 2 for scale in options.scales):
        raise TrainingError(
            "calibrate.scales", f"Sizes of the noise lie above 0 and up to 2, got {options.scales}.",
            "1 is what the flow was trained with.",
        )
    inference = Inference(Parts(options.checkpoint, options.device))
    generator = inference.parts.checkpoint("dit")
    data = LatentSet.open(options.latents, generator.parents["tokenizer"]).for_validation()
    found: dict[str, Compared] = {}
    extractors = (EncoderFeatures(inference), SliceFeatures())
    names = [extractor.name for extractor in extractors]
    for modality in inference.parts.dit.spec.categories.get("modality", ()):
        if modality not in options.contrasts:
            continue
        scans = one_a_subject(data, options.samples, modality=modality)
        if len(scans.records) < FEWEST:
            print(f"{modality}: {len(scans.records)} subjects are too few, it keeps its size", file=sys.stderr)
            continue
        comparison = Comparison.of(inference, extractors, scans)
        for scale in options.scales:
            row = comparison.at(scale)
            found.setdefault(modality, {})[scale] = row
            for name, like in zip(names, row, strict=True):
                numbers = "\t".join(f"{word.replace('_', ' ')} {value:.2f}" for word, value in like._asdict().items())
                print(f"{modality}\t{scale:g}\t{name}\t{numbers}", flush=True)
        print(f"{modality}: {best(found[modality]):g}", flush=True)
    if not found:
        raise TrainingError(
            "calibrate.subjects", f"No contrast has {FEWEST} subjects in these latents.", "Give more validation scans."
        )
    print(calibrated(generator, found, names, options.out).id)


if __name__ == "__main__":
    command(main)
