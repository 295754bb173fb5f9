"""Brains drawn under the conditions of scans, for what is calibrated on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braing3n_core.drawing import carry
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
    guidance_scale: float | None = None,
) -> np.ndarray:
    """Latents (n,N,C) of one brain under the conditions of each record, as users draw them, from always the same
    noises; None is the checkpoint's own scale. The noise has the checkpoint's colour at every size.
    """
    request, made = GenerateRequest(guidance_scale=guidance_scale), []
    for rows in micro_batches(len(records), DRAWN_TOGETHER):
        given = conditions_of(records[rows], inference.parts.dit.spec).to(inference.device)
        contrasts = [str(r["modality"]) for r in records[rows]]
        start = inference.source(contrasts, request.seed, rows.start, noise_scale, coloured=True)
        made.append(carry(inference, given, start, request).cpu().numpy())
    return np.concatenate(made)
