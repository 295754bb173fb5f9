"""What the decoder of overlapping patches starts and learns from: dictionaries of patches, and the patches in them.

Legend: n volumes, N = 1200 tokens, R and M atoms of tissue and of the outline, V = W^3 voxels of an overlapping patch,
C latent channels. The atoms are the principal components of the patches, orthonormal: a squared error of the weights is
a squared error of the voxels, up to what no dictionary of this size can say. So the decoder learns without making a
volume (ADR 20).
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from braing3n_core.models.layers import GRID, NUM_TOKENS
from braing3n_core.models.patch_decoder import PatchDecoder, overlapping_patches
from braing3n_core.models.tokenizer import Tokenizer

from .store import Store

PATCHES_A_VOLUME = 300
"""Drawn for the principal components, of the about 500 that show anything."""
MASK_WEIGHT = 8.0
"""Of a squared error of the outline beside one of tissue. The squared step at the outline is 1 to 2, in T2 10."""


def tissue_and_mask(volume: Tensor) -> tuple[Tensor, Tensor]:
    """A z-scored volume (1,1,X,Y,Z) without its background: tissue that goes on beyond the brain, and the brain's mask.

    What lies outside is filled from the averages of ever larger blocks that touch the brain.
    """
    mask = (volume > volume.min() + 1e-4).float()
    sums, shares = [volume * mask], [mask]
    while sums[-1].shape[2] > GRID[0]:
        sums.append(F.avg_pool3d(sums[-1], 2))
        shares.append(F.avg_pool3d(shares[-1], 2))
    tissue = (sums[-1].mean() / shares[-1].mean().clamp(min=1e-6)).expand_as(sums[-1])
    for total, share in zip(reversed(sums), reversed(shares), strict=True):
        if total.shape != tissue.shape:
            tissue = F.interpolate(tissue, scale_factor=2, mode="trilinear")
        tissue = torch.where(share > 0, total / share.clamp(min=1e-6), tissue)
    return tissue, mask


@torch.no_grad()
def learn_dictionaries(decoder: PatchDecoder, store: Store, volumes: int = 80, seed: int = 0) -> None:
    """Set the two dictionaries to the means and principal components of the store's patches."""
    draw = torch.Generator().manual_seed(seed)
    rows = [_some_patches(store, i, decoder.config.overlap, draw) for i in spread(len(store), volumes)]
    torch.manual_seed(seed)  # svd_lowrank draws from the global generator
    for layer, patches in zip((decoder.to_voxels.tissue, decoder.to_voxels.mask), zip(*rows, strict=True), strict=True):
        both = torch.cat(patches)
        layer.bias.copy_(both.mean(0))
        kept = layer.in_features
        layer.weight.copy_(torch.svd_lowrank(both - layer.bias, q=kept + 64, niter=2)[2][:, :kept])


@torch.no_grad()
def cache_weights(store: Store, decoder: PatchDecoder, path: Path) -> np.ndarray:
    """Weights (n,N,R+M) float16 of all patches of the store in the decoder's dictionaries, kept in ``path``.

    A run that goes on finds them there; those of other dictionaries or another store are made anew.
    """
    config, layers = decoder.config, (decoder.to_voxels.tissue, decoder.to_voxels.mask)
    atoms = hashlib.sha256(b"".join(layer.weight.cpu().numpy().tobytes() for layer in layers)).hexdigest()
    note, about = path.with_suffix(".json"), {"dictionaries": atoms, "volumes": len(store)}
    if path.is_file() and note.is_file() and json.loads(note.read_text()) == about:
        return np.load(path, mmap_mode="r")
    path.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)  # until the last patch is there, they are nobody's
    offset = torch.cat([layer.bias @ layer.weight for layer in layers])
    shape = (len(store), NUM_TOKENS, config.atoms + config.mask_atoms)
    weights = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    for i in range(len(store)):
        parts = tissue_and_mask(store.zscored([i]))
        cut = [overlapping_patches(part, config.overlap)[0] for part in parts]
        found = [patches @ layer.weight for patches, layer in zip(cut, layers, strict=True)]
        weights[i] = (torch.cat(found, dim=1) - offset).half().numpy()
        if i % 200 == 0:
            print(f"patches {i}/{len(store)}", file=sys.stderr, flush=True)
    weights.flush()
    note.write_text(json.dumps(about))
    return weights


@torch.no_grad()
def best_linear_reading(tokenizer: Tokenizer, tokens: np.ndarray, targets: np.ndarray, volumes: int = 400) -> None:
    """Start the linear part at the regression of the weights on the latents of the 27 tokens around and on the place.

    Two regressions in turn: on the latents, then what is left of it on average at each place, as far as the width goes.
    """
    decoder, chosen = tokenizer.decoder, spread(len(tokens), volumes)
    gram, cross, latent_sum, target_sum = 0.0, 0.0, 0.0, 0.0
    for i in chosen:
        x, y = _row(tokenizer, tokens, i), torch.from_numpy(targets[i].astype(np.float32))
        gram, cross, latent_sum, target_sum = gram + x.T @ x, cross + x.T @ y, latent_sum + x, target_sum + y
    # Places have their own mean, so only what varies at a place is regressed.
    gram = (gram - latent_sum.T @ latent_sum / len(chosen)).double()
    cross = (cross - latent_sum.T @ target_sum / len(chosen)).double()
    gram += 1e-5 * gram.diagonal().mean() * torch.eye(len(gram))
    solution = torch.linalg.solve(gram, cross).float()  # (27C, R+M)
    decoder.linear.weight.copy_(solution.T.reshape(decoder.linear.weight.shape))
    decoder.linear.bias.zero_()
    left = (target_sum - latent_sum @ solution) / len(chosen)  # (N, R+M)
    u, s, v = torch.linalg.svd(left, full_matrices=False)
    kept = min(decoder.config.width, len(s))
    size = NUM_TOKENS**0.5  # so that a position has the usual size of a transformer's input
    decoder.position[0, :, :kept] = u[:, :kept] * size
    decoder.place.weight.zero_()
    decoder.place.weight[:, :kept] = (s[:kept, None] * v[:kept]).T / size


class PatchError(nn.Module):
    """Root mean squared error of the voxels of a patch, averaged over patches.

    Tokens (B,N,D), true weights (B,N,R+M), whether the projection learns -> scalar. The root is to the squares of a
    patch what the paper's absolute error is to those of a voxel: a few hard patches do not outweigh all others.
    Tissue counts in patches that touch the brain.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        tokenizer.decoder.to_voxels.requires_grad_(False)
        self.register_buffer("empty", empty_mask(tokenizer), persistent=False)

    def forward(self, tokens: Tensor, weights: Tensor, learn_projection: bool) -> Tensor:
        config = self.tokenizer.config.patches
        latents = self.tokenizer.projection(tokens)
        latents = latents if learn_projection else latents.detach()
        squares = (self.tokenizer.decoder.weights(latents).float() - weights).square()
        tissue, mask = (part.sum(-1) for part in squares.split([config.atoms, config.mask_atoms], dim=-1))
        brain = (weights[..., config.atoms :] - self.empty).square().sum(-1) > 1.0  # more than one voxel of it
        return ((tissue * brain + MASK_WEIGHT * mask) / config.side**3 + 1e-4).sqrt().mean()


@torch.no_grad()
def restore_detail(tokenizer: Tokenizer, tokens: np.ndarray, targets: np.ndarray, volumes: int = 60) -> None:
    """Give each atom of tissue half of the spread back that its guess lacks (the root of the ratio of the spreads).

    A guess at what cannot be known well lies near the mean, and its patches are too smooth and keep their borders.
    Measured on the training store this lowers the squared error too (training/LOG.md).
    """
    decoder, atoms = tokenizer.decoder, tokenizer.config.patches.atoms
    guessed, true = (torch.cat(parts) for parts in zip(*(
        _inside(tokenizer, tokens[i], targets[i]) for i in spread(len(tokens), volumes)
    ), strict=True))
    gain = (true.std(0) / guessed.std(0).clamp(min=1e-6)).sqrt()
    gain[atoms:] = 1
    for weight in (decoder.linear.weight, decoder.place.weight, decoder.correction.weight):
        weight.mul_(gain.reshape(-1, *[1] * (weight.ndim - 1)))
    for bias in (decoder.linear.bias, decoder.correction.bias):
        bias.mul_(gain)
    decoder.correction.bias.add_((1 - gain) * guessed.mean(0))


def _inside(tokenizer: Tokenizer, tokens: np.ndarray, targets: np.ndarray) -> tuple[Tensor, Tensor]:
    """Guessed and true weights (m,R+M) of the patches of one volume that touch the brain."""
    device = tokenizer.latent_mean.device
    latents = tokenizer.projection(torch.from_numpy(tokens[None].astype(np.float32)).to(device))
    true = torch.from_numpy(targets.astype(np.float32))
    brain = (true[:, tokenizer.config.patches.atoms :] - empty_mask(tokenizer).cpu()).square().sum(1) > 1.0
    return tokenizer.decoder.weights(latents)[0].float().cpu()[brain], true[brain]


def empty_mask(tokenizer: Tokenizer) -> Tensor:
    """The outline's weights (M,) of a patch without any brain."""
    mask = tokenizer.decoder.to_voxels.mask
    return -(mask.bias @ mask.weight).detach()


def _row(tokenizer: Tokenizer, tokens: np.ndarray, index: int) -> Tensor:
    """Latents of every token of a volume with those of the 26 around, zero beyond the grid: (N,27C)."""
    latents = tokenizer.projection(torch.from_numpy(tokens[index].astype(np.float32)))
    grid = F.pad(latents.T.reshape(-1, *GRID), (1,) * 6)
    around = grid.unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1).reshape(len(grid), len(latents), 27)
    return around.transpose(0, 1).flatten(1)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the indices below ``count``, evenly spread."""
    return np.linspace(0, count - 1, min(most, count)).astype(int).tolist()


def _some_patches(store: Store, index: int, overlap: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some of the volume's patches that touch the brain, (m,V) of tissue and (m,V) of the mask."""
    tissue, mask = (overlapping_patches(part, overlap)[0] for part in tissue_and_mask(store.zscored([index])))
    brain = torch.nonzero(mask.amax(1) > 0)[:, 0]
    chosen = brain[torch.randperm(len(brain), generator=draw)[:PATCHES_A_VOLUME]]
    return tissue[chosen], mask[chosen]
