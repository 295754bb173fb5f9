"""Phase 2: projection and decoder on the frozen encoder, voxel L1 (paper, section 2.2).

    python -m training.train_tokenizer training/configs/small.toml --store STORE... --encoder RUN/encoder --out RUN
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from braing3n_core.config import config_from_dict
from braing3n_core.models.layers import patch_histograms, patchify
from braing3n_core.models.mae import Encoder, EncoderConfig
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig

from .latents import LatentSet, cache_tokens, project
from .loop import train
from .stage import Settings, arguments, load_model, save_stage
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
    chosen = np.linspace(0, len(tokens) - 1, min(volumes, len(tokens))).astype(int).tolist()
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


def main() -> None:
    """Train and write ``RUN/tokenizer``; ``RUN`` also becomes the latent set of the store."""
    options = arguments(__doc__ or "", stores=True, encoder="encoder checkpoint").parse_args()
    settings = Settings("tokenizer", options)
    store, device = Store.open(*options.store), settings.device
    encoder, parent = load_model(options.encoder, "encoder", EncoderConfig, Encoder, device)
    tokens = cache_tokens(store, encoder, options.out / "tokens.npy", device)
    extra = config_from_dict(TokenizerTraining, settings.tables.get("tokenizer", {}).get("extra", {}))

    torch.manual_seed(settings.train.seed)
    model = Tokenizer(settings.model("tokenizer", TokenizerConfig))
    best_linear_start(model, tokens, store, extra)
    model = model.to(device, memory_format=torch.channels_last_3d)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(store), (settings.train.batch_size,), generator=generator).tolist()
        latents = model.projection(torch.from_numpy(np.stack([tokens[i] for i in chosen])).float().to(device))
        latents = latents.detach() if step < extra.freeze_projection else latents
        return (model.decode(latents) - store.zscored(chosen, device)).abs().mean()

    best = train(model, loss, settings.train, options.out, device)
    standardise(best, tokens)
    save_stage(
        options.out, "tokenizer", best, {"encoder": parent.id}, {"volumes": len(store)},
        keep_float32=("latent_mean", "latent_std"),
    )
    LatentSet(project(tokens, best), store.records).save(options.out)


if __name__ == "__main__":
    main()
