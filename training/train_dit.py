"""The conditional generator on cached latents (paper, section 2.3).

    python -m training.train_dit training/configs/small.toml --tokenizer T --latents SET [SET...] --out RUN
"""

from __future__ import annotations

import torch
from torch import Tensor

from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.generation.flow import sample_times
from braing3n_core.models.dit import DiT, DiTConfig

from .conditions import conditions_of, fit_prior
from .latents import LatentSet
from .loop import train
from .stage import Settings, add_latents, arguments, save_stage


def main() -> None:
    """Train and write ``RUN/dit``."""
    options = add_latents(arguments(__doc__ or "")).parse_args()
    settings = Settings("dit", options)
    data = LatentSet.open(options.latents)
    latents = data.latents
    parent = load_checkpoint(options.tokenizer, "tokenizer")
    config = settings.model("dit", DiTConfig)
    torch.manual_seed(settings.train.seed)
    model = DiT(config)
    conditions = conditions_of(data.records, model.spec)
    if model.prior is not None:
        fit_prior(model.prior, conditions, latents)
    model, conditions = model.to(settings.device), conditions.to(settings.device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(latents), (settings.train.batch_size,), generator=generator)
        target = latents[chosen].to(settings.device)
        source = torch.randn(target.shape, generator=generator).to(settings.device)
        t = sample_times(len(chosen), generator=generator).to(settings.device)
        rows = conditions.rows(chosen.to(settings.device)).drop(config.condition_dropout, generator)
        return model.loss(source, target, t, rows)

    best = train(model, loss, settings.train, options.out, settings.device)
    save_stage(options.out, "dit", best, {"tokenizer": parent.id}, {"volumes": len(latents)})


if __name__ == "__main__":
    main()
