"""Find the guidance at which brains show the disease that they were asked for, on validation subjects (ADR 26).

    python -m training.calibrate_guidance --checkpoint SET --latents VALIDATION --out RUN

Brains in T1 are drawn under the conditions of validation scans with a disease, with each guidance of ``--scales``, and
read by the checkpoint's own probe. Kept for a disease is the smallest, from the paper's on, at which ``--share`` of
them, or as many as of the scans themselves if those are fewer, are on its side and not on that of the healthy; for the
healthy the smallest of all at which as many are read as healthy. A disease that the probe does not see in half of the
scans keeps the paper's guidance: of it the generator and the probe know little but what they learnt by heart from the
same people, and on that they would agree.
``RUN/dit`` is the generator with these in its config, and in its metrics the share of brains and of the scans
themselves. Of VALIDATION see ``training.likeness``.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

from braing3n_core.checkpoint import Checkpoint
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from braing3n_core.probes import LinearProbe
from braing3n_core.schema import GUIDANCE_SCALE

from .drawn import drawn_like, one_a_subject
from .latents import LatentSet
from .loop import TrainingError
from .stage import command, refinement, save_again

FEWEST = 8
"""Subjects with a disease that a share is worth taking of."""
SEEN = 0.5
"""Share of the scans with a disease in which a probe must see it to judge brains by it."""
MODALITY = "T1"
"""The contrast that the probe of diseases reads."""
TASK, HEALTHY = "disease", "HC"

Shares = dict[float, float]
"""By guidance, the share of brains that are read as asked."""


def read_as(probe: LinearProbe, latents: np.ndarray, word: str) -> float:
    """The share of latents (n,N,C) that the probe takes rather for ``word`` than for healthy; of the healthy, rather
    than for any other.
    """
    logits = probe.scores(latents.reshape(len(latents), -1))
    against = [i for i, c in enumerate(probe.classes) if c != word and HEALTHY in (c, word)]
    return float((logits[:, [probe.classes.index(word)]] > logits[:, against]).all(1).mean())


def worth_trying(scales: list[float], word: str) -> list[float]:
    """Of these, in order: the paper's and more for a disease. Health is the lack of one, and needs none."""
    return sorted(scale for scale in scales if word == HEALTHY or scale >= GUIDANCE_SCALE)


def enough(shares: Shares, wanted: float) -> float:
    """The smallest guidance with at least this share; if there is none, that with the largest share."""
    reached = [scale for scale in sorted(shares) if shares[scale] >= wanted]
    return reached[0] if reached else max(sorted(shares), key=lambda scale: shares[scale])


def calibrated(
    old: Checkpoint, of_scans: dict[str, float], found: dict[str, Shares], share: float, out: Path
) -> Checkpoint:
    """The same generator with the guidance of each disease, written to ``out/dit``. of_scans: by disease, the share of
    scans that are read as it: no more is asked of brains.
    """
    chosen = {word: enough(shares, min(share, of_scans[word])) for word, shares in found.items()}
    table = {
        word: {"scans": round(of_scans[word], 3), **{f"{scale:g}": round(share, 3) for scale, share in shares.items()}}
        for word, shares in found.items()
    }
    renewed = dataclasses.replace(old, config={**old.config, "disease_guidance": chosen})
    return save_again(renewed, out, old.tensors("pt", dtype=None), disease_guidance=table)


def main() -> None:
    """Read, print and write ``RUN/dit``."""
    parser = refinement(__doc__ or "", 32, "brains of a disease and guidance")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0])
    parser.add_argument("--share", type=float, default=0.95,
                        help="of brains that are to be read as asked, if as many scans are")
    options = parser.parse_args()
    if not all(1 <= scale <= 10 for scale in options.scales) or max(options.scales) < GUIDANCE_SCALE:
        raise TrainingError(
            "calibrate.scales", f"Guidance lies from 1 to 10, got {options.scales}.",
            f"1 is off; give {GUIDANCE_SCALE:g}, the paper's, or more too.",
        )
    inference = Inference(Parts(options.checkpoint, options.device))
    generator, probe = inference.parts.checkpoint("dit"), inference.parts.probes.probe(TASK)
    data = LatentSet.open(options.latents, generator.parents["tokenizer"]).for_validation()
    of_scans: dict[str, float] = {}
    found: dict[str, Shares] = {}
    for word in inference.parts.dit.spec.categories.get(TASK, ()):
        scans = one_a_subject(data, options.samples, modality=MODALITY, disease=word)
        if word not in probe.classes or len(scans.records) < FEWEST:
            print(f"{word}: {len(scans.records)} subjects that the probe knows are too few", file=sys.stderr)
            continue
        of_scans[word] = read_as(probe, scans.latents.numpy(), word)
        print(f"{word}\tscans\t{of_scans[word]:.2f}", flush=True)
        if of_scans[word] < SEEN:
            print(f"{word}: too few scans are read as it, it keeps {GUIDANCE_SCALE:g}", file=sys.stderr)
            continue
        wanted = min(options.share, of_scans[word])
        for scale in worth_trying(options.scales, word):
            brains = drawn_like(inference, scans.records, guidance_scale=scale)
            share = found.setdefault(word, {})[scale] = read_as(probe, brains, word)
            print(f"{word}\t{scale:g}\t{share:.2f}", flush=True)
            if share >= wanted:
                break
        print(f"{word}: {enough(found[word], wanted):g}", flush=True)
    if not found:
        raise TrainingError(
            "calibrate.subjects", f"No disease has {FEWEST} subjects in these latents and is seen in them.",
            "Give more validation scans.",
        )
    print(calibrated(generator, of_scans, found, options.share, options.out).id)


if __name__ == "__main__":
    command(main)
