"""The networks as functions of arrays: encode, decode, and conditional velocities for the samplers.

Legend: B batch, N = 1200 tokens, C latent channels, D encoder width; X Y Z voxels of the model grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .errors import RequestError
from .generation.guidance import ConditionalVelocity
from .generation.sampling import noise_batch
from .loading import Parts
from .models.conditions import ConditionBatch
from .models.layers import NUM_TOKENS
from .schema import GUIDANCE_SCALE

if TYPE_CHECKING:
    from .models.dit import DiT


class Inference:
    """Calls the parts of one checkpoint set without gradients, on their device and in their precision."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.device = parts.runtime.device

    @torch.inference_mode()
    def encode(self, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A z-scored volume (X,Y,Z) -> tokens (N,D) and standardised latents (N,C), float32."""
        volume = torch.from_numpy(np.ascontiguousarray(array))[None, None].to(self.device)
        with self.parts.runtime.autocast():
            tokens = self.parts.encoder(volume)
        tokens = tokens.float()  # the projection stays float32: probes and edits read its small differences
        latents = self.parts.tokenizer.project(tokens)
        return tokens[0].cpu().numpy(), latents[0].cpu().numpy()

    @torch.inference_mode()
    def decode(self, latents: np.ndarray | Tensor) -> np.ndarray:
        """Standardised latents (N,C) -> a z-scored volume (X,Y,Z), float32. One volume at a time bounds the memory."""
        z = torch.as_tensor(latents).to(self.device)[None]
        with self.parts.runtime.autocast():
            return self.parts.tokenizer.decode(z)[0, 0].cpu().numpy()

    def latents_tensor(self, latents: np.ndarray) -> Tensor:
        """Latents (N,C) on the device."""
        return torch.from_numpy(latents).to(self.device)

    def conditions(self, kind: str, rows: Sequence[Mapping[str, Any]]) -> ConditionBatch:
        """Rows of name -> word, number or None as the part ``kind`` (dit or forecaster) wants them."""
        return ConditionBatch.from_rows(self._transformer(kind).spec, rows).to(self.device)

    def velocity(self, kind: str, context: Tensor | None = None) -> ConditionalVelocity:
        """The velocity of a part for the samplers. context: the baseline's latents (N,C) of a forecast."""
        model = self._transformer(kind)

        def conditional(x: Tensor, t: Tensor, conds: Sequence[ConditionBatch]) -> Tensor:
            rows = len(x) // len(conds)
            batch = ConditionBatch.cat([c if len(c) == rows else c.expand(rows) for c in conds])
            beside = None if context is None else context.expand(len(x), *context.shape)
            velocity: Tensor = model(x, t, batch, beside)
            return velocity

        return conditional

    def noise_scale(self, modality: str, asked: float | None = None) -> float:
        """Size of the noise that a brain of this contrast is drawn from: what is asked for, else the checkpoint's own
        (ADR 23).
        """
        return self.parts.dit.config.noise_scales.get(modality, 1.0) if asked is None else asked

    def guidance_scale(self, disease: str | None, asked: float | None = None) -> float:
        """The guidance that a brain with this disease is drawn with: what is asked for, else the checkpoint's own
        (ADR 26).
        """
        return self.parts.dit.config.disease_guidance.get(disease or "", GUIDANCE_SCALE) if asked is None else asked

    def reweighting(self, modality: str | None, asked: tuple[float, float] | None = None) -> tuple[float, float]:
        """The weights of the common and the specific part that a brain of this contrast is put together from: what is
        asked for, else the checkpoint's own (ADR 31). Raises RequestError for a generator that cannot tell them apart.
        """
        own = self.parts.dit.config.reweighting.get(modality or "", (1.0, 1.0))
        common, specific = own if asked is None else asked
        prior = self.parts.dit.prior
        if (common, specific) != (1, 1) and (prior is None or not prior.has_common):
            raise RequestError(
                "generate.reweighting", "This checkpoint's generator cannot tell what tokens vary by together from "
                "what each varies by alone: it has neither factors nor fields.", "Leave the reweighting out.",
            )
        return common, specific

    @torch.inference_mode()
    def mean_brain(self, given: ConditionBatch) -> Tensor:
        """Latents (B,N,C) of the mean brain under each row of conditions, in closed form: what truncation draws brains
        towards (ADR 30). Raises RequestError for a generator that has none.
        """
        prior = self.parts.dit.prior
        if prior is None:
            raise RequestError(
                "generate.truncation", "This checkpoint's generator knows no mean brain to draw others towards (prior "
                f"is {self.parts.dit.config.prior!r}).", "Leave the truncation out; a smaller noise_scale is similar.",
            )
        mean: Tensor = prior.mean(given)
        return mean

    def source(
        self, modalities: Sequence[str], seed: int, first: int = 0, noise_scale: float | None = None, *,
        coloured: bool = False,
    ) -> Tensor:
        """What brains of these contrasts are drawn from (B,N,C): the noises of ``seed`` from number ``first`` on.

        noise_scale: white noise of this size, or with ``coloured`` noise of this size in the checkpoint's colour; None
        is noise of the checkpoint's own size and colour (ADR 23, 25).
        """
        shape = (NUM_TOKENS, self.parts.dit.config.channels)
        noises = noise_batch(len(modalities), shape, seed, first).to(self.device)
        if self.parts.dit.noise is not None and (coloured or noise_scale is None):
            noises = self.parts.dit.noise(noises, modalities)
        sizes = torch.tensor([self.noise_scale(m, noise_scale) for m in modalities], device=self.device)
        return sizes[:, None, None] * noises

    def reads_baseline(self, kind: str) -> bool:
        """Whether a part takes the baseline's latents as context; a forecaster that does not is the paper's bridge."""
        return self._transformer(kind).config.context_channels > 0

    def _transformer(self, kind: str) -> DiT:
        return self.parts.dit if kind == "dit" else self.parts.forecaster
