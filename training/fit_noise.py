"""Fit the colour of the noise that scans are carried back to, contrast by contrast (ADR 25).

    python -m training.fit_noise --checkpoint SET --latents TRAINING --out RUN

Scans are carried back along the generator's flow, under their own conditions and without guidance, to the noise that it
would make them from. ``RUN/dit`` is the generator with the covariances of these noises, by band of spatial frequency in
the tokens where latents vary; its weights are as they were. How much of that noise brains are best drawn from is found
by ``training.calibrate_generator``.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from braing3n_core.checkpoint import Checkpoint
from braing3n_core.generation.guidance import guide
from braing3n_core.generation.sampling import integrate, log_odds_grid, micro_batches
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from braing3n_core.models.noise import BANDS, NoiseColour, bands, to_frequencies
from braing3n_core.schema import MODALITIES

from .conditions import conditions_of
from .evaluate.study import spread
from .latents import LatentSet
from .loop import TrainingError
from .stage import command, refinement, save_again

CARRIED_TOGETHER = 4
FEWEST = 40
"""Scans of a contrast, for covariances of 32 channels at the coarsest frequencies."""
STEPS = 20
STILL = 0.15
"""Tokens count in which latents have at least this share of the variance of those that vary most (of 100 the 95th)."""


def varying_tokens(latents: Tensor) -> Tensor:
    """Indices (T,) of the tokens of latents (n,N,C) that are not the same in every scan: of a brain, not around it."""
    variance = latents.var(0).mean(1)
    return (variance > STILL * variance.quantile(0.95)).nonzero().flatten()


def carried_back(inference: Inference, data: LatentSet, steps: int = STEPS) -> Tensor:
    """The noises (n,N,C) that the generator would make these scans from, under their conditions, unguided."""
    found = []
    with torch.inference_mode():
        for rows in micro_batches(len(data.records), CARRIED_TOGETHER):
            given = conditions_of(data.records[rows], inference.parts.dit.spec).to(inference.device)
            velocity = guide(inference.velocity("dit"), given)
            scans = data.latents[rows].to(inference.device)
            found.append(integrate(velocity, scans, log_odds_grid(steps).flip(0), "fireflow").cpu())
    return torch.cat(found)


def colour_roots(noises: Tensor, varying: Tensor) -> Tensor:
    """Of noises (n,N,C) the root (bands,C,C) of the channels' covariance in each band of spatial frequency.

    varying (N,): the tokens that count. The others are left out of the transform, and their share of its power is made
    up for, as if they were like these.
    """
    inside = torch.zeros(noises.shape[1])
    inside[varying] = 1
    centred = (noises - noises.mean(0)) * math.sqrt(len(noises) / (len(noises) - 1))
    frequencies = to_frequencies(centred * inside[:, None]) / inside.mean().sqrt()
    found, of_frequency = [], bands()
    for band in range(BANDS):
        rows = frequencies[:, of_frequency == band].flatten(0, 1).double()
        variances, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
        found.append((axes * variances.clamp_min(0).sqrt()) @ axes.T)
    return torch.stack(found).float()


def with_colour(old: Checkpoint, fitted: dict[str, Tensor], out: Path) -> Checkpoint:
    """The same generator with the colours of these contrasts, in ``out/dit``; the others stay white."""
    colour = NoiseColour(old.config["categories"]["modality"], old.config["channels"])
    for contrast, roots in fitted.items():
        colour.roots[colour.contrasts.index(contrast)] = roots
    tensors = {**old.tensors("pt", dtype=None), "noise.roots": colour.roots.half()}
    return save_again(dataclasses.replace(old, config={**old.config, "noise_colour": True}), out, tensors)


def main() -> None:
    """Carry back, fit, print and write ``RUN/dit``."""
    parser = refinement(__doc__ or "", 200, "scans of a contrast")
    parser.add_argument("--contrasts", nargs="+", default=list(MODALITIES), choices=MODALITIES, metavar="NAME",
                        help="only the noise of these gets a colour")
    options = parser.parse_args()
    inference = Inference(Parts(options.checkpoint, options.device))
    generator = inference.parts.checkpoint("dit")
    data = LatentSet.open(options.latents, generator.parents["tokenizer"]).for_training()
    varying, fitted = varying_tokens(data.latents), {}
    for contrast in generator.config["categories"].get("modality", ()):
        if contrast not in options.contrasts:
            continue
        rows = data.where(modality=contrast)
        rows = [rows[i] for i in spread(len(rows), options.samples)]
        if len(rows) < FEWEST:
            print(f"{contrast}: {len(rows)} scans are too few, its noise stays white", file=sys.stderr)
            continue
        fitted[contrast] = colour_roots(carried_back(inference, data.rows(rows)), varying)
        sizes = " ".join(f"{float(root.square().sum() / len(root)):.2f}" for root in fitted[contrast])
        print(f"{contrast}\t{len(rows)} scans\tvariance by band, coarse to fine: {sizes}", flush=True)
    if not fitted:
        raise TrainingError(
            "noise.scans", f"No contrast has {FEWEST} scans in these latents.", "Give more scans."
        )
    print(with_colour(generator, fitted, options.out).id)


if __name__ == "__main__":
    command(main)
