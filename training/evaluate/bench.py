"""What every table shares: its arguments, the checkpoint's parts, encoding of a held-out store, aligned printing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from braing3n_core.checkpoint import load_checkpoint, resolve
from braing3n_core.models.dit import DiT, DiTConfig
from braing3n_core.models.mae import Encoder, EncoderConfig
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig
from braing3n_core.probes import ProbePanel

from ..loop import autocast, pick_device
from ..stage import load_model
from ..store import Store


@dataclass(frozen=True)
class Bench:
    """A held-out store and a checkpoint set on a device. cache: folder for latents and embeddings."""

    store: Store
    checkpoint: Path
    device: torch.device

    @cached_property
    def encoder(self) -> Encoder:
        return load_model(self.checkpoint / "encoder", "encoder", EncoderConfig, Encoder, self.device)[0]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        model = load_model(self.checkpoint / "tokenizer", "tokenizer", TokenizerConfig, Tokenizer, self.device)[0]
        return model.to(memory_format=torch.channels_last_3d)

    @cached_property
    def forecaster(self) -> DiT:
        return load_model(self.checkpoint / "forecaster", "forecaster", DiTConfig, DiT, self.device)[0]

    @cached_property
    def panel(self) -> ProbePanel:
        checkpoint = load_checkpoint(self.checkpoint / "probes", "probes")
        return ProbePanel.from_arrays(checkpoint.config, checkpoint.tensors(dtype=None))

    @torch.no_grad()
    def encode(self, indices: Sequence[int], batch: int = 8) -> tuple[Tensor, np.ndarray]:
        """Standardised latents (n,1200,C) and embeddings (n,D)."""
        latents, embeddings = [], []
        for start in range(0, len(indices), batch):
            with autocast(self.device, "bfloat16"):
                tokens = self.encoder(self.store.zscored(indices[start : start + batch], self.device)).float()
            latents.append(self.tokenizer.project(tokens).cpu())
            embeddings.append(tokens.mean(1).cpu().numpy())
        return torch.cat(latents), np.concatenate(embeddings)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """One latent (1200,C) to voxels (160,192,160), z-scored."""
        with autocast(self.device, "bfloat16"):
            return self.tokenizer.decode(latents[None].to(self.device))[0, 0].cpu()


def bench(description: str) -> tuple[Bench, argparse.Namespace]:
    """Parse the common command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="held-out training store (training.build_store)")
    parser.add_argument("--checkpoint", default="small", help="checkpoint set (default: the embedded one)")
    parser.add_argument("--count", type=int, default=100, help="held-out volumes to use")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    return Bench(Store.open(options.store), resolve(options.checkpoint), pick_device(options.device)), options


def show(rows: Sequence[tuple[str, object]], path: Path | None = None) -> None:
    """Print an aligned two-column table, and write it as JSON."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value:.4f}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    if path is not None:
        path.write_text(json.dumps(dict(rows), indent=2))
