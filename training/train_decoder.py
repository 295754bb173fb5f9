"""Phase 2, its end: the decoder alone goes on learning, by whole volumes; the latents stay what they are.

    python -m training.train_decoder CONFIG --store STORE... --encoder E --tokenizer RUN/tokenizer --out RUN2

Its loss is the squared error of the voxels plus what their structural similarity lacks. What was made from the
tokenizer's latents (probes, generator, forecaster) stays right: projection and channel statistics are not touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from braing3n_core.checkpoint import require_parent
from braing3n_core.models.mae import Encoder, EncoderConfig
from braing3n_core.models.patch_decoder import PatchDecoder
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig

from .draws import draws_of
from .latents import cache_tokens, read
from .loop import Batch, train
from .parallel import first_alone, rank, share
from .planes import three_planes
from .similarity import structural_similarity
from .stage import Settings, arguments, command, load_model, names_of
from .store import Store
from .train_tokenizer import save_tokenizer


@dataclass(frozen=True)
class DecoderTraining:
    """structure: weight of 1 - SSIM beside the squared error of z-scored voxels."""

    structure: float = 1.0


class VolumeError(nn.Module):
    """Tokens (B,N,D), z-scored volumes (B,1,X,Y,Z) -> scalar."""

    def __init__(self, tokenizer: Tokenizer, structure: float) -> None:
        super().__init__()
        self.tokenizer, self.structure = tokenizer, structure

    def forward(self, tokens: Tensor, volume: Tensor) -> Tensor:
        decoded = self.tokenizer.decode(self.tokenizer.project(tokens))
        span = volume.amax((1, 2, 3, 4)) - volume.amin((1, 2, 3, 4))
        alike = structural_similarity(decoded[:, 0], volume[:, 0], span)
        return (decoded - volume).square().mean() + self.structure * (1 - alike.mean())


def free_decoder(tokenizer: Tokenizer) -> None:
    """Let the decoder learn and nothing else, and of overlapping patches not the dictionaries, which fit all brains."""
    tokenizer.requires_grad_(False)
    tokenizer.decoder.requires_grad_(True)
    if isinstance(tokenizer.decoder, PatchDecoder):
        tokenizer.decoder.to_voxels.requires_grad_(False)


def main() -> None:
    """Train and write ``RUN2/tokenizer``; ``RUN2`` also becomes the latent set of the store."""
    options = arguments(
        __doc__ or "", stores=True, encoder="encoder checkpoint", tokenizer="tokenizer checkpoint to go on from"
    ).parse_args()
    settings = Settings("decoder", options)
    store, device = Store.open(*options.store).for_training(), settings.device
    encoder, grandparent = load_model(options.encoder, "encoder", EncoderConfig, Encoder, device)
    tokenizer, parent = load_model(options.tokenizer, "tokenizer", TokenizerConfig, Tokenizer, device)
    require_parent(parent, grandparent)
    with first_alone():
        tokens = cache_tokens(store, encoder, options.out / "tokens.npy", device, grandparent.id)

    torch.manual_seed(settings.train.seed)
    free_decoder(tokenizer)
    objective = VolumeError(tokenizer, settings.extra(DecoderTraining).structure)
    draws = draws_of(store.records, settings.train)

    def draw(step: int, generator: torch.Generator) -> Batch:
        chosen = draws(step, generator)[share()].tolist()
        return Batch((read(tokens, chosen, device), store.zscored(chosen, device)), names_of(store.records, chosen))

    def picture(objective: nn.Module) -> tuple[str, np.ndarray]:
        decoded = objective.tokenizer.decode(objective.tokenizer.project(read(tokens, [0], device)))
        return "volume_reconstruction", three_planes(store.zscored([0]), decoded)

    run = settings.run(len(store), tokenizer.config, {"encoder": grandparent.id, "tokenizer": parent.id}, picture)
    best: Tokenizer = train(objective, draw, run).tokenizer
    if rank() == 0:
        save_tokenizer(best, grandparent.id, tokens, store, options.out)


if __name__ == "__main__":
    command(main)
