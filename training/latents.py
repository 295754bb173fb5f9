"""Caches between the stages: tokens of the frozen encoder, standardised latents of the tokenizer."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from braing3n_core.models.mae import Encoder
from braing3n_core.models.tokenizer import Tokenizer

from .loop import autocast
from .store import Record, Store, matching


@torch.no_grad()
def cache_tokens(store: Store, encoder: Encoder, path: Path, device: torch.device, batch: int = 8) -> np.ndarray:
    """Tokens (n,1200,D) float16 of the whole store, computed once and kept in ``path``."""
    if path.is_file():
        return np.load(path, mmap_mode="r")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    shape = (len(store), 1200, encoder.config.width)
    tokens = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
    for start in range(0, len(store), batch):
        chosen = range(start, min(start + batch, len(store)))
        with autocast(device, "bfloat16"):
            tokens[start : start + batch] = encoder(store.zscored(chosen, device)).float().cpu().numpy()
        if start % (40 * batch) == 0:
            print(f"tokens {start}/{len(store)}", file=sys.stderr, flush=True)
    tokens.flush()
    partial.replace(path)
    return np.load(path, mmap_mode="r")


@torch.no_grad()
def project(tokens: np.ndarray, tokenizer: Tokenizer, batch: int = 64) -> Tensor:
    """Standardised latents (n,1200,C) float32 of cached tokens."""
    device = tokenizer.latent_mean.device
    parts = [
        tokenizer.project(torch.from_numpy(tokens[i : i + batch]).to(device).float()).cpu()
        for i in range(0, len(tokens), batch)
    ]
    return torch.cat(parts)


@dataclass(frozen=True)
class LatentSet:
    """What the stages after the tokenizer learn from. latents (n,1200,C) float32; records: one dict a volume."""

    latents: Tensor
    records: list[Record]

    def where(self, **labels: Any) -> list[int]:
        """Indices of the records with these labels."""
        return matching(self.records, labels)

    def save(self, folder: Path) -> None:
        """Write ``latents.npy`` (float16) and ``records.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "latents.npy", self.latents.half().numpy())
        (folder / "records.json").write_text(json.dumps(self.records))

    @classmethod
    def open(cls, folders: Sequence[Path]) -> LatentSet:
        """One or several folders as one set; subjects of different folders stay different subjects."""
        latents, records = [], []
        for folder in folders:
            latents.append(torch.from_numpy(np.load(folder / "latents.npy")).float())
            rows = json.loads((folder / "records.json").read_text())
            records += [{**row, "subject": f"{folder.resolve()}:{row['subject']}"} for row in rows]
        return cls(torch.cat(latents), records)
