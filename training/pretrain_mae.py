"""Phase 1: pretrain the masked autoencoder (paper, section 2.1).

    python -m training.pretrain_mae training/configs/small.toml --store STORE... --out RUN
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from braing3n_core.models.layers import PATCH, patch_histograms, patchify, unpatchify
from braing3n_core.models.mae import Encoder, MAEConfig, MaskedAutoencoder, random_keep

from .draws import draws_of
from .loop import Batch, train
from .parallel import share
from .planes import three_planes
from .stage import Settings, arguments, command, names_of, save_stage
from .store import Store


@dataclass(frozen=True)
class MAETraining:
    """What is asked of the visible tokens beside the paper's loss; 0 is the paper.

    own_patch: weight of the error of a linear reading of the token's own voxels.
    histogram: weight of the error of a linear reading of the histogram it was given (ADR 14).
    """

    own_patch: float = 0.0
    histogram: float = 0.0


class Pretraining(nn.Module):
    """The masked autoencoder, and the linear readings of its visible tokens."""

    def __init__(self, config: MAEConfig, extra: MAETraining) -> None:
        super().__init__()
        self.config, self.extra = config, extra
        self.mae = MaskedAutoencoder(config)
        self.own_patch = nn.Linear(config.encoder.width, PATCH**3)
        self.histogram = nn.Linear(config.encoder.width, max(config.encoder.histogram_bins, 1))
        for reading in (self.own_patch, self.histogram):
            nn.init.zeros_(reading.weight)
            nn.init.zeros_(reading.bias)

    def forward(self, volume: Tensor, keep: Tensor) -> Tensor:
        """The masked loss of the paper plus the weighted readings: volume (B,1,X,Y,Z), keep (B,K)."""
        patches = patchify(volume)
        encoded = self.mae.encoder.encode_patches(patches, keep)
        total = self.mae.masked_error(encoded, patches, keep)
        visible = torch.gather(patches, 1, keep[..., None].expand(-1, -1, patches.shape[-1]))
        tokens = encoded[:, 1:]
        if self.extra.own_patch:
            total = total + self.extra.own_patch * (self.own_patch(tokens).float() - visible).square().mean()
        if self.extra.histogram and (bins := self.config.encoder.histogram_bins):
            shares = patch_histograms(visible, bins)
            spread = shares.flatten(0, 1).var(0).clamp(min=1e-4)  # a bin that is hardly ever filled asks for little
            error = ((self.histogram(tokens).float() - shares).square() / spread).mean()
            total = total + self.extra.histogram * error
        return total


@torch.no_grad()
def principal_start(encoder: Encoder, store: Store, volumes: int = 48) -> None:
    """Start the patch embedding at the principal components of the patches (ADR 13), and its histograms (ADR 14).

    # Unspecified in the paper. From a random start a short run first learns the mean image and lets every token
    collapse onto a few directions; from this start the tokens hold the voxels from the first step. A component's
    output is scaled by its variance to the power -1/4, between plain and whitened, and to a mean square of 1. The
    last directions, of the least variance, start as the histogram's bins, each standardised.
    """
    bins = encoder.config.histogram_bins
    width = encoder.config.width - bins
    chosen = torch.linspace(0, len(store) - 1, min(volumes, len(store))).long().tolist()
    count, centre, moment, shares = 0, torch.zeros(1), torch.zeros(1), []
    for i in chosen:
        patches = patchify(store.zscored([i]))[0]
        count, centre, moment = count + len(patches), centre + patches.sum(0), moment + patches.T @ patches
        if bins:
            shares.append(patch_histograms(patches, bins))
    centre = centre / count
    values, vectors = torch.linalg.eigh(moment / count - torch.outer(centre, centre))
    values = values[-width:].flip(0).clamp(min=values[-1] * 1e-8)
    rows = vectors[:, -width:].flip(1).T / values[:, None] ** 0.25
    rows = rows / values.sqrt().mean().sqrt()
    encoder.patch_embed.weight.zero_()
    encoder.patch_embed.weight[:width] = rows
    encoder.patch_embed.bias[:width] = -(rows @ centre)
    if encoder.histogram_embed is not None:
        seen = torch.cat(shares)
        gain = 1 / seen.std(0).clamp(min=1e-3)
        encoder.histogram_embed.weight.zero_()
        encoder.histogram_embed.weight[width:] = torch.diag(gain)
        encoder.patch_embed.bias[width:] = -gain * seen.mean(0)


def picture_of(store: Store, mask_ratio: float, device: torch.device) -> Callable[[nn.Module], tuple[str, np.ndarray]]:
    """The first volume, what the encoder saw of it, and what was rebuilt."""
    keep = random_keep(1, mask_ratio, torch.Generator().manual_seed(0)).to(device)

    def draw(model: nn.Module) -> tuple[str, np.ndarray]:
        volume = store.zscored([0], device)
        patches = patchify(volume)
        seen = torch.zeros_like(patches).scatter_(1, keep[..., None].expand(-1, -1, patches.shape[-1]), 1.0)
        rebuilt = torch.where(seen > 0, patches, model.mae(volume, keep).float())
        hidden = torch.where(seen > 0, patches, -1.0)
        return "volume_seen_rebuilt", three_planes(volume, unpatchify(hidden), unpatchify(rebuilt))

    return draw


def main() -> None:
    """Train and write ``RUN/encoder``."""
    options = arguments(__doc__ or "", stores=True).parse_args()
    settings = Settings("mae", options)
    store = Store.open(*options.store).for_training()
    config, extra = settings.model("mae", MAEConfig), settings.extra(MAETraining)
    torch.manual_seed(settings.train.seed)
    model, device = Pretraining(config, extra), settings.device
    principal_start(model.mae.encoder, store)
    draws = draws_of(store.records, settings.train)

    def draw(step: int, generator: torch.Generator) -> Batch:
        chosen = draws(step, generator)
        keep = random_keep(len(chosen), config.mask_ratio, generator)[share()].to(device)
        mine = chosen[share()].tolist()
        return Batch((store.zscored(mine, device), keep), names_of(store.records, mine))

    picture = picture_of(store, config.mask_ratio, device)
    best = train(model.to(device), draw, settings.run(len(store), config, picture=picture))
    save_stage(options.out, "encoder", best.mae.encoder, {}, {"volumes": len(store)}, store.records)


if __name__ == "__main__":
    command(main)
