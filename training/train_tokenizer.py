"""Phase 2: projection and decoder on the frozen encoder, voxel L1 (paper, section 2.2).

    python -m training.train_tokenizer training/configs/small.toml --store STORE... --encoder RUN/encoder --out RUN
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from braing3n_core.models.layers import patch_histograms, patchify
from braing3n_core.models.mae import Encoder, EncoderConfig
from braing3n_core.models.patch_decoder import PatchDecoder
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig

from .draws import draws_of
from .latents import LatentSet, cache_tokens, project, read
from .loop import Batch, TrainingError, train
from .parallel import first_alone, rank, share
from .patches import PatchError, best_linear_reading, cache_weights, learn_dictionaries, restore_detail, spread
from .planes import three_planes
from .stage import Settings, arguments, command, load_model, names_of, save_stage
from .store import Store


@dataclass(frozen=True)
class TokenizerTraining:
    """freeze_projection: steps in which the decoder learns alone, on the linear start of the projection.

    histogram: how much the linear start cares for the patch's histogram beside its voxels (ADR 14), in
    histogram_bins bins.
    """

    freeze_projection: int = 200
    histogram: float = 0.0
    histogram_bins: int = 16


@torch.no_grad()
def best_linear_start(
    tokenizer: Tokenizer, tokens: np.ndarray, store: Store, extra: TokenizerTraining | None = None, volumes: int = 96
) -> None:
    """Start the projection where a linear reading of as many channels would lose least (reduced-rank regression).

    # Unspecified in the paper. The tokens' own principal components follow the encoder's scale, not what the voxels
    need: at this size they lose twice as much. Read are the patch's voxels and, at weight ``extra.histogram``, the
    bins of its histogram, both with a total variance of about 1. Each channel starts with unit variance.
    """
    extra = extra or TokenizerTraining()
    chosen = spread(len(tokens), volumes)
    gram, cross, centre, target, count = 0.0, 0.0, 0.0, 0.0, 0
    for i in chosen:
        x = torch.from_numpy(tokens[i].astype(np.float32))
        y = _readable(patchify(store.zscored([i]))[0], extra)
        gram, cross, centre, target = gram + x.T @ x, cross + x.T @ y, centre + x.sum(0), target + y.sum(0)
        count += len(x)
    centre = centre / count
    covariance = (gram / count - torch.outer(centre, centre)).double()
    covariance += 1e-6 * covariance.diagonal().mean() * torch.eye(len(covariance))
    weights = torch.linalg.solve(covariance, (cross / count - torch.outer(centre, target / count)).double())
    _, scales, predicted = torch.linalg.svd(torch.linalg.cholesky(covariance).T @ weights, full_matrices=False)
    channels = tokenizer.config.channels
    directions = (weights @ predicted[:channels].T / scales[:channels]).T
    tokenizer.projection.weight.copy_(directions.float())
    tokenizer.projection.bias.copy_(-(directions @ centre.double()).float())


def _readable(patches: Tensor, extra: TokenizerTraining) -> Tensor:
    """What the channels are to tell of z-scored patches (N,P), whose mean variance is 1: (N, P) or (N, P+bins)."""
    voxels = patches / patches.shape[1] ** 0.5
    if not extra.histogram:
        return voxels
    shares = patch_histograms(patches, extra.histogram_bins)
    # The square root makes a small share of fluid count beside a large one of background (Hellinger's distance).
    return torch.cat([voxels, (extra.histogram * shares).sqrt()], dim=1)


@torch.no_grad()
def standardise(tokenizer: Tokenizer, tokens: np.ndarray) -> None:
    """Set the channel statistics, so that latents have mean 0 and standard deviation 1."""
    tokenizer.latent_mean.zero_()
    tokenizer.latent_std.fill_(1.0)
    latents = project(tokens, tokenizer)
    tokenizer.latent_mean.copy_(latents.mean((0, 1)))
    tokenizer.latent_std.copy_(latents.std((0, 1)))


class Reconstruction(nn.Module):
    """Voxel L1 of decoded latents: tokens (B,N,D), volume (B,1,X,Y,Z), whether the projection learns -> scalar."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, tokens: Tensor, volume: Tensor, learn_projection: bool) -> Tensor:
        latents = self.tokenizer.projection(tokens)
        latents = latents if learn_projection else latents.detach()
        return (self.tokenizer.decode(latents) - volume).abs().mean()


def main() -> None:
    """Train and write ``RUN/tokenizer``; ``RUN`` also becomes the latent set of the store."""
    options = arguments(__doc__ or "", stores=True, encoder="encoder checkpoint").parse_args()
    settings = Settings("tokenizer", options)
    store, device = Store.open(*options.store).for_training(), settings.device
    encoder, parent = load_model(options.encoder, "encoder", EncoderConfig, Encoder, device)
    config, extra = settings.model("tokenizer", TokenizerConfig), settings.extra(TokenizerTraining)
    require_width(config, encoder.config, settings.file)
    with first_alone():
        tokens = cache_tokens(store, encoder, options.out / "tokens.npy", device, parent.id)

    torch.manual_seed(settings.train.seed)
    model = Tokenizer(config)
    best_linear_start(model, tokens, store, extra)
    objective, targets = _objective(model, tokens, store, options.out)
    objective.to(device, memory_format=torch.channels_last_3d)
    draws = draws_of(store.records, settings.train)

    def draw(step: int, generator: torch.Generator) -> Batch:
        chosen = draws(step, generator)[share()].tolist()
        truth = store.zscored(chosen, device) if targets is None else read(targets, chosen, device)
        inputs = (read(tokens, chosen, device), truth, step >= extra.freeze_projection)
        return Batch(inputs, names_of(store.records, chosen))

    def picture(objective: nn.Module) -> tuple[str, np.ndarray]:
        decoded = objective.tokenizer.decode(objective.tokenizer.projection(read(tokens, [0], device)))
        return "volume_reconstruction", three_planes(store.zscored([0]), decoded)

    run = settings.run(len(store), config, {"encoder": parent.id}, picture)
    best: Tokenizer = train(objective, draw, run).tokenizer
    if targets is not None:
        restore_detail(best, tokens, targets)
    if rank() == 0:
        standardise(best, tokens)
        save_tokenizer(best, parent.id, tokens, store, options.out)


def _objective(
    model: Tokenizer, tokens: np.ndarray, store: Store, out: Path
) -> tuple[nn.Module, np.ndarray | None]:
    """What the decoder learns by, and what it is compared with where that is not the volume itself."""
    if not isinstance(model.decoder, PatchDecoder):
        return Reconstruction(model), None
    learn_dictionaries(model.decoder, store)
    with first_alone():
        targets = cache_weights(store, model.decoder, out / "patches.npy")
    best_linear_reading(model, tokens, targets)
    return PatchError(model), targets


def save_tokenizer(tokenizer: Tokenizer, encoder_id: str, tokens: np.ndarray, store: Store, out: Path) -> None:
    """Write the checkpoint and the latent set of the store."""
    parents, metrics = {"encoder": encoder_id}, {"volumes": len(store)}
    saved = save_stage(out, "tokenizer", tokenizer, parents, metrics, store.records)
    LatentSet(project(tokens, tokenizer), store.records, saved.id if saved else None).save(out)


def require_width(config: TokenizerConfig, encoder: EncoderConfig, file: str) -> None:
    """Raises TrainingError unless the tokenizer reads tokens of the encoder's width."""
    if config.encoder_width != encoder.width:
        raise TrainingError(
            "train.encoder_width", f"The encoder has width {encoder.width}, {file} says {config.encoder_width}.",
            f"Set encoder_width = {encoder.width} in [tokenizer.model], or give the encoder of this configuration.",
        )


if __name__ == "__main__":
    command(main)
