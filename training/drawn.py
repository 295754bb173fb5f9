"""Brains drawn under the conditions of scans, for what is calibrated on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braing3n_core.drawing import carry, reweighted
from braing3n_core.generation.sampling import micro_batches
from braing3n_core.inference import Inference
from braing3n_core.schema import GenerateRequest

from .conditions import conditions_of
from .evaluate.study import DRAWN_TOGETHER, spread
from .latents import LatentSet
from .store import Record


def one_a_subject(data: LatentSet, limit: int, **labels: str) -> LatentSet:
    """The first scan with these labels of each subject, at most ``limit``, spread over the subjects."""
    first: dict[str, int] = {}
    for row in data.where(**labels):
        first.setdefault(str(data.records[row]["subject"]), row)
    rows = list(first.values())
    return data.rows([rows[i] for i in spread(len(rows), limit)])


def drawn_like(
    inference: Inference, records: Sequence[Record], *, noise_scale: float | None = None,
    guidance_scale: float | None = None, reweighting: tuple[float, float] | None = None,
) -> np.ndarray:
    """Latents (n,N,C) of one brain under the conditions of each record, as users draw them, from always the same
    noises; None is the checkpoint's own. The noise has the checkpoint's colour at every size.
    """
    request, made = GenerateRequest(guidance_scale=guidance_scale, reweighting=reweighting), []
    for rows in micro_batches(len(records), DRAWN_TOGETHER):
        given = conditions_of(records[rows], inference.parts.dit.spec).to(inference.device)
        contrasts = [str(r["modality"]) for r in records[rows]]
        start = inference.source(contrasts, request.seed, rows.start, noise_scale, coloured=True)
        made.append(carry(inference, given, start, request).cpu().numpy())
    return np.concatenate(made)


def reweighted_like(
    inference: Inference, records: Sequence[Record], drawn: np.ndarray, weights: tuple[float, float]
) -> np.ndarray:
    """Such brains (n,N,C), drawn with weights of 1, put together again with these of the common and specific parts."""
    request, made = GenerateRequest(reweighting=weights), []
    for rows in micro_batches(len(records), DRAWN_TOGETHER):
        given = conditions_of(records[rows], inference.parts.dit.spec).to(inference.device)
        made.append(reweighted(inference, given, inference.latents_tensor(drawn[rows]), request).cpu().numpy())
    return np.concatenate(made)
