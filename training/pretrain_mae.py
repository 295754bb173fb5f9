"""Phase 1: pretrain the masked autoencoder (paper, section 2.1).

    python -m training.pretrain_mae training/configs/small.toml --store STORE --out RUN
"""

from __future__ import annotations

import torch
from torch import Tensor

from braing3n_core.models.mae import MAEConfig, MaskedAutoencoder, random_keep

from .loop import train
from .stage import Settings, arguments, save_stage
from .store import Store


def main() -> None:
    """Train and write ``RUN/encoder``."""
    options = arguments(__doc__ or "", store="training store").parse_args()
    settings = Settings("mae", options)
    store, config = Store.open(options.store), settings.model("mae", MAEConfig)
    torch.manual_seed(settings.train.seed)
    model = MaskedAutoencoder(config).to(settings.device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(store), (settings.train.batch_size,), generator=generator).tolist()
        keep = random_keep(len(chosen), config.mask_ratio, generator).to(settings.device)
        return model.loss(store.zscored(chosen, settings.device), keep)

    best = train(model, loss, settings.train, options.out, settings.device)
    save_stage(options.out, "encoder", best.encoder, "The encoder", {}, {"volumes": len(store)})


if __name__ == "__main__":
    main()
