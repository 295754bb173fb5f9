"""The conditional flow-matching transformer (paper, sections 2.3 and 3.4).

Shape legend: B batch, N = 1200 tokens, C = 32 latent channels, D width.
One class serves generation (noise to latents) and forecasting (noise to the latents' change, with the baseline's
latents as extra input channels). Time runs from source (0) to target (1); the paper's sign is the opposite, see
``generation/flow.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conditions import ConditionBatch, ConditionEmbedder, ConditionSpec
from .layers import GRID, NUM_TOKENS, AdaLNBlock, ScalarEmbedding, adaptive_norm, sincos_positions
from .noise import NoiseColour
from .prior import GaussianPrior

PAPER_SITES = tuple(f"site-{i:02d}" for i in range(1, 20))
"""The paper conditions on 19 sites without naming them."""


@dataclass(frozen=True)
class DiTConfig:
    """Sizes and conditions; the defaults are the paper's generator.

    context_channels: channels of the baseline's latents given beside x_t (0 for generation).
    prior: ``none`` (paper) or ``gaussian`` (ADR 5); prior_by: condition with its own coefficients;
    prior_components: components of the baseline that the mean may depend on; prior_factors: directions in which what
    the mean leaves varies as a whole; prior_maps: what the mean is made of (0: a map for each column, ADR 28);
    prior_fields, prior_waves: fields by which neighbouring tokens vary together, and smooth waves of each (ADR 29).
    limits: of scalars, in their own units, where training ended: a forecast beyond the longest horizon goes on at the
    rate of that horizon. waves: of the embedding of time and scalars, ``falling`` or ``even`` (ADR 22). noise_scales:
    by contrast, the size of the noise to draw brains from, where it is not 1 (ADR 23). noise_colour: whether that noise
    has a colour (ADR 25). disease_guidance: by disease, the guidance to draw brains with, where it is not the paper's
    (ADR 26). reweighting: by contrast, the weights of the common and the specific part that brains are put together
    from, where they are not (1, 1) (ADR 31).
    """

    width: int = 1152
    depth: int = 12
    num_heads: int = 16
    mlp_ratio: float = 4.0
    channels: int = 32
    context_channels: int = 0
    categories: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "disease": ("HC", "MCI", "AD", "PD", "GBM", "glioma", "ASD", "SCZ"),
            "sex": ("F", "M"),
            "modality": ("T1", "T1C", "T2", "FLAIR"),
            "site": PAPER_SITES,
            "idh1": ("wildtype", "mutant"),
        }
    )
    scalars: dict[str, tuple[float, float]] = field(default_factory=lambda: {"age_years": (50.0, 20.0)})
    never_dropped: tuple[str, ...] = ("modality",)
    condition_dropout: float = 0.1  # Unspecified in the paper: the value is lost; 0.1 is the usual one.
    prior: str = "none"
    prior_by: str | None = None
    prior_components: int = 0
    prior_factors: int = 0
    prior_maps: int = 0
    prior_fields: int = 0
    prior_waves: int = 60
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    waves: str = "falling"
    noise_scales: dict[str, float] = field(default_factory=dict)
    noise_colour: bool = False
    disease_guidance: dict[str, float] = field(default_factory=dict)
    reweighting: dict[str, tuple[float, float]] = field(default_factory=dict)

    def spec(self) -> ConditionSpec:
        """The conditions as the tensor code wants them."""
        words = {name: tuple(vocabulary) for name, vocabulary in self.categories.items()}
        numbers = {name: (float(centre), float(scale)) for name, (centre, scale) in self.scalars.items()}
        return ConditionSpec(words, numbers, tuple(self.never_dropped), dict(self.limits))


class DiT(nn.Module):
    """Velocity of the latents: (x_t (B,N,C), t (B,), conditions, context (B,N,C) or None) -> (B,N,C)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.spec = config.spec()
        self.tokens_in = nn.Linear(config.channels + config.context_channels, config.width)
        self.positions = nn.Parameter(sincos_positions(GRID, config.width))
        self.time = ScalarEmbedding(config.width, period=2.0, waves=config.waves)
        self.conditions = ConditionEmbedder(self.spec, config.width, config.waves)
        self.blocks = nn.ModuleList(
            AdaLNBlock(config.width, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.modulation_out = nn.Linear(config.width, 2 * config.width)
        self.tokens_out = nn.Linear(config.width, config.channels)
        for layer in (self.modulation_out, self.tokens_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.prior = None
        if config.prior == "gaussian":
            self.prior = GaussianPrior(
                self.spec, (NUM_TOKENS, config.channels), by=config.prior_by, components=config.prior_components,
                factors=config.prior_factors, maps=config.prior_maps,
            )
            if config.prior_fields:
                self.prior.add_fields(config.prior_fields, config.prior_waves)
        self.noise = None
        if config.noise_colour:
            self.noise = NoiseColour(self.spec.categories["modality"], config.channels)

    def forward(self, x: Tensor, t: Tensor, conditions: ConditionBatch, context: Tensor | None = None) -> Tensor:
        if self.prior is None:
            return self.network(x, t, conditions, context).float()
        velocity, whitened, scale = self.prior.expected(x, t, conditions, context)
        return velocity + scale * self.network(whitened, t, conditions, context).float()

    def loss(
        self, source: Tensor, target: Tensor, t: Tensor, conditions: ConditionBatch, *, context: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Flow-matching loss on the linear path; with a prior in the network's own, whitened units.

        source, target (B,N,C), t (B,), weight (B,) -> scalar.
        """
        time = t[:, None, None]
        x, velocity = (1 - time) * source + time * target, target - source
        if self.prior is None:
            error = self.network(x, t, conditions, context).float() - velocity
        else:
            known, whitened, scale = self.prior.expected(x, t, conditions, context)
            error = self.network(whitened, t, conditions, context).float() - (velocity - known) / scale
        per_sample = error.square().mean((1, 2))
        return per_sample.mean() if weight is None else (weight * per_sample).sum() / weight.sum()

    def network(self, x: Tensor, t: Tensor, conditions: ConditionBatch, context: Tensor | None = None) -> Tensor:
        """The transformer itself."""
        h = x if context is None else torch.cat([x, context], dim=-1)
        h = self.tokens_in(h) + self.positions  # (B,N,D)
        c = self.time(t) + self.conditions(conditions)  # (B,D)
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation_out(F.silu(c))[:, None].chunk(2, dim=-1)
        return self.tokens_out(adaptive_norm(h, shift, scale))
