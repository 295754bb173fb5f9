"""The conditional generator on cached latents (paper, section 2.3).

    python -m training.train_dit training/configs/small.toml --tokenizer T --latents SET [SET...] --out RUN
    python -m training.train_dit ... --start GENERATOR    learns on from a checkpoint; its Gaussian stays
    ... --set dit.model.prior_fields=8                    and gets fields, or others than it has (ADR 29)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.generation.flow import sample_times
from braing3n_core.generation.sampling import integrate, time_grid
from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.models.dit import DiT, DiTConfig
from braing3n_core.models.layers import NUM_TOKENS
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig

from .conditions import conditions_of, fit_fields, fit_prior
from .draws import draws_of, weights_of
from .latents import LatentSet
from .loop import Batch, TrainingError, train
from .parallel import share
from .planes import three_planes
from .stage import Settings, add_latents, arguments, command, load_model, names_of, save_stage

PICTURE_STEPS = 10
"""Steps of the integrator for the pictures on the way: enough to see, few enough not to wait."""


@dataclass(frozen=True)
class GeneratorTraining:
    """only: labels that a volume must have to be learnt from, such as the anatomy of phantoms (no condition)."""

    only: dict[str, str] = field(default_factory=dict)


class FlowMatching(nn.Module):
    """The loss as a module: source, target (B,N,C), t (B,), conditions, context (B,N,C), weight (B,) -> scalar."""

    def __init__(self, network: DiT) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, source: Tensor, target: Tensor, t: Tensor, conditions: ConditionBatch, context: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        return self.network.loss(source, target, t, conditions, context=context, weight=weight)


def picture_of_sample(objective: nn.Module, tokenizer: Tokenizer, conditions: ConditionBatch) -> np.ndarray:
    """One brain drawn under the first row of the conditions, always from the same noise."""
    network, device = objective.network, conditions.index.device
    noise = torch.randn(1, NUM_TOKENS, tokenizer.config.channels, generator=torch.Generator().manual_seed(0)).to(device)
    row = conditions.rows(slice(0, 1))
    times = time_grid(PICTURE_STEPS)
    latents = integrate(lambda x, t: network(x, t, row), noise, times)
    return three_planes(tokenizer.decode(latents))


def main() -> None:
    """Train and write ``RUN/dit``."""
    parser = add_latents(arguments(__doc__ or ""))
    parser.add_argument("--start", type=Path, help="generator to learn on from: of the same sizes, fields aside")
    options = parser.parse_args()
    settings = Settings("dit", options)
    device = settings.device
    tokenizer, parent = load_model(options.tokenizer, "tokenizer", TokenizerConfig, Tokenizer, device)
    config = settings.model("dit", DiTConfig)
    data = LatentSet.open(options.latents, parent.id).for_training().only(settings.extra(GeneratorTraining).only)
    latents = data.latents
    require_channels(config, tokenizer.config.channels, settings.file)
    torch.manual_seed(settings.train.seed)
    model = DiT(config)
    conditions = conditions_of(data.records, model.spec)
    weight = weights_of(data.records, settings.train)
    if options.start:
        complete = start_from(model, options.start, parent.id)
        if not complete:
            fit_fields(model.prior, conditions, latents, weight)
    elif model.prior is not None:
        fit_prior(model.prior, conditions, latents, weight=weight)
    objective, conditions = FlowMatching(model).to(device), conditions.to(device)
    draws = draws_of(data.records, settings.train)

    def draw(step: int, generator: torch.Generator) -> Batch:
        chosen = draws(step, generator)
        source = torch.randn(len(chosen), *latents.shape[1:], generator=generator)
        t = sample_times(len(chosen), generator=generator)
        rows = conditions.rows(chosen.to(device)).drop(config.condition_dropout, generator).rows(share())
        mine = chosen[share()]
        inputs = (source[share()].to(device), latents[mine].to(device), t[share()].to(device), rows)
        return Batch(inputs, names_of(data.records, mine.tolist()))

    def picture(objective: nn.Module) -> tuple[str, np.ndarray]:
        return "sample", picture_of_sample(objective, tokenizer, conditions)

    run = settings.run(len(latents), config, {"tokenizer": parent.id}, picture)
    best = train(objective, draw, run)
    save_stage(options.out, "dit", best.network, {"tokenizer": parent.id}, {"volumes": len(latents)}, data.records)


def start_from(model: DiT, folder: Path, tokenizer: str) -> bool:
    """Give the model the weights and the Gaussian of a checkpoint, and say whether that is all that it needs.

    It is not where the model's Gaussian has fields that the checkpoint's has not: they are to be fitted. If that has
    none at all, its network's answer was to what they hold too, and its last layer starts from zero again; else the
    network goes on as it is. How the checkpoint's brains are drawn (noise, guidance, reweighting) stays behind: it was
    found for those weights. Raises TrainingError where it is of another kind.
    """
    old = load_checkpoint(folder, "dit")
    theirs = replace(old.fill(DiTConfig), noise_scales={}, noise_colour=False, disease_guidance={}, reweighting={})
    wanted = {"prior_fields": model.config.prior_fields, "prior_waves": model.config.prior_waves}
    first_fields = not theirs.prior_fields
    new_fields = theirs.prior == "gaussian" and model.config.prior_fields > 0 and replace(theirs, **wanted) != theirs
    if new_fields:
        theirs = replace(theirs, **wanted)
    same = json.dumps(asdict(theirs)) == json.dumps(asdict(model.config))  # to JSON, lists and tuples are the same
    if not same or old.parents["tokenizer"] != tokenizer:
        raise TrainingError(
            "train.start", f"{folder} has other sizes, conditions or latents than this run.",
            "Start from a generator of the same configuration and tokenizer, or leave out --start.",
        )
    tensors = old.tensors("pt")
    tensors.pop("noise.roots", None)
    if new_fields:
        fitted = ("prior.sigma", "prior.mixing", "prior.fields.", *(("tokens_out.",) if first_fields else ()))
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(fitted)}
    model.load_state_dict(tensors, strict=not new_fields)
    return not new_fields


def require_channels(config: DiTConfig, channels: int, file: str) -> None:
    """Raises TrainingError unless the generator makes latents of the tokenizer's channels."""
    if config.channels != channels:
        raise TrainingError(
            "train.channels", f"The tokenizer's latents have {channels} channels, {file} says {config.channels}.",
            f"Set channels = {channels} in the model's table, or give the tokenizer of this configuration.",
        )


if __name__ == "__main__":
    command(main)
