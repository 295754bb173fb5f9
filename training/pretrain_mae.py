"""Phase 1: pretrain the masked autoencoder (paper, section 2.1).

    python -m training.pretrain_mae training/configs/small.toml --store STORE --out RUN
"""

from __future__ import annotations

import torch
from torch import Tensor

from braing3n_core.models.layers import patchify
from braing3n_core.models.mae import Encoder, MAEConfig, MaskedAutoencoder, random_keep

from .loop import train
from .stage import Settings, arguments, save_stage
from .store import Store


@torch.no_grad()
def principal_start(encoder: Encoder, store: Store, volumes: int = 48) -> None:
    """Start the patch embedding at the principal components of the patches (ADR 13).

    # Unspecified in the paper. From a random start a short run first learns the mean image and lets every token
    collapse onto a few directions; from this start the tokens hold the voxels from the first step. A component's
    output is scaled by its variance to the power -1/4, between plain and whitened, and to a mean square of 1.
    """
    width = encoder.config.width
    chosen = torch.linspace(0, len(store) - 1, min(volumes, len(store))).long().tolist()
    count, centre, moment = 0, torch.zeros(1), torch.zeros(1)
    for i in chosen:
        patches = patchify(store.zscored([i]))[0]
        count, centre, moment = count + len(patches), centre + patches.sum(0), moment + patches.T @ patches
    centre = centre / count
    values, vectors = torch.linalg.eigh(moment / count - torch.outer(centre, centre))
    values = values[-width:].flip(0).clamp(min=values[-1] * 1e-8)
    rows = vectors[:, -width:].flip(1).T / values[:, None] ** 0.25
    rows = rows / values.sqrt().mean().sqrt()
    encoder.patch_embed.weight.copy_(rows)
    encoder.patch_embed.bias.copy_(-(rows @ centre))


def main() -> None:
    """Train and write ``RUN/encoder``."""
    options = arguments(__doc__ or "", store="training store").parse_args()
    settings = Settings("mae", options)
    store, config = Store.open(options.store), settings.model("mae", MAEConfig)
    torch.manual_seed(settings.train.seed)
    model = MaskedAutoencoder(config)
    principal_start(model.encoder, store)
    model = model.to(settings.device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(store), (settings.train.batch_size,), generator=generator).tolist()
        keep = random_keep(len(chosen), config.mask_ratio, generator).to(settings.device)
        return model.loss(store.zscored(chosen, settings.device), keep)

    best = train(model, loss, settings.train, options.out, settings.device)
    save_stage(options.out, "encoder", best.encoder, {}, {"volumes": len(store)})


if __name__ == "__main__":
    main()
