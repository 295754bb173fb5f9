"""Caches between the stages: tokens of the frozen encoder, standardised latents of the tokenizer."""

from __future__ import annotations

import hashlib
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

from .loop import TrainingError, autocast
from .store import Record, Store, matching, training_rows


@torch.no_grad()
def cache_tokens(
    store: Store, encoder: Encoder, path: Path, device: torch.device, encoder_id: str, batch: int = 8
) -> np.ndarray:
    """Tokens (n,1200,D) float16 of the whole store, computed once and kept in ``path``.

    Beside it lies what they are of. Raises TrainingError when that is another encoder, or other volumes in this order.
    """
    note = path.with_suffix(".json")
    about = {"encoder": encoder_id, "volumes": len(store), "voxels": _fingerprint(store)}
    if path.is_file():
        kept = json.loads(note.read_text()) if note.is_file() else {}
        if any(kept.get(name, value) != value for name, value in about.items()):
            raise TrainingError(
                "train.other_tokens", f"{path} holds tokens of {kept}, asked for are those of {about}.",
                "Give another --out, or remove that file.",
            )
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
    note.write_text(json.dumps(about))
    partial.replace(path)
    return np.load(path, mmap_mode="r")


def _fingerprint(store: Store) -> str:
    """Of the volumes in their order, by the statistics of their voxels: 16 hex digits."""
    rows = [[record[name] for name in ("scale", "mean", "std")] for record in store.records]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def read(array: np.ndarray, rows: Sequence[int], device: torch.device) -> Tensor:
    """These rows of a cache (n,...) as float32 on the device."""
    return torch.from_numpy(np.stack([array[i] for i in rows])).float().to(device)


@torch.no_grad()
def project(tokens: np.ndarray, tokenizer: Tokenizer, batch: int = 64) -> Tensor:
    """Standardised latents (n,1200,C) float32 of cached tokens."""
    device = tokenizer.latent_mean.device
    parts = [
        tokenizer.project(torch.from_numpy(tokens[i : i + batch].astype(np.float32)).to(device)).cpu()
        for i in range(0, len(tokens), batch)
    ]
    return torch.cat(parts)


@dataclass(frozen=True)
class LatentSet:
    """What the stages after the tokenizer learn from.

    latents (n,1200,C) float32; records: one dict a volume; tokenizer: id of the tokenizer that made them.
    """

    latents: Tensor
    records: list[Record]
    tokenizer: str | None = None

    def where(self, **labels: Any) -> list[int]:
        """Indices of the records with these labels."""
        return matching(self.records, labels)

    def for_training(self) -> LatentSet:
        """The rows that training may see (:func:`training.store.training_rows`)."""
        return self.rows(training_rows(self.records))

    def for_validation(self) -> LatentSet:
        """The side ``val`` of the split, or all of a set without one, as of phantoms. Raises TrainingError if empty."""
        sides = [record.get("split") for record in self.records]
        if not any(sides):
            return self
        rows = self.where(split="val")
        if not rows:
            raise TrainingError(
                "calibrate.no_validation", f"None of the {len(sides)} volumes is on the side val of the split.",
                "Cache the latents of a store with validation volumes.",
            )
        return self.rows(rows)

    def only(self, labels: dict[str, str]) -> LatentSet:
        """The volumes with all of these labels. Raises TrainingError when there is none."""
        rows = self.where(**labels)
        if not rows:
            wanted = ", ".join(f"{name} = {value!r}" for name, value in labels.items())
            known = {name: sorted({str(r.get(name)) for r in self.records}) for name in labels}
            raise TrainingError(
                "train.only", f"None of the {len(self.records)} volumes has {wanted}.",
                f"Correct or remove the table [<stage>.extra.only]; the labels there are: {known}.",
            )
        return self.rows(rows)

    def rows(self, rows: Sequence[int]) -> LatentSet:
        """The volumes at these places; the set itself where that is all of them."""
        if len(rows) == len(self.records):
            return self
        return LatentSet(self.latents[list(rows)], [self.records[i] for i in rows], self.tokenizer)

    def save(self, folder: Path) -> None:
        """Write ``latents.npy`` (float16) and ``records.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "latents.npy", self.latents.half().numpy())
        (folder / "records.json").write_text(json.dumps(self.records))
        (folder / "latents.json").write_text(json.dumps({"tokenizer": self.tokenizer}))

    @classmethod
    def open(cls, folders: Sequence[Path], tokenizer: str | None = None) -> LatentSet:
        """One or several folders as one set; subjects of different folders stay different subjects.

        Raises TrainingError when a folder was made by another tokenizer than the one with this id.
        """
        latents, records = [], []
        for folder in folders:
            _require_tokenizer(folder, tokenizer)
            latents.append(torch.from_numpy(np.load(folder / "latents.npy")).float())
            rows = json.loads((folder / "records.json").read_text())
            records += [{**row, "subject": f"{folder.resolve()}:{row['subject']}"} for row in rows]
        return cls(torch.cat(latents), records, tokenizer)


def _require_tokenizer(folder: Path, wanted: str | None) -> None:
    note = folder / "latents.json"
    if not (folder / "latents.npy").is_file():
        raise TrainingError(
            "train.no_latents", f"There are no latents in {folder}.",
            "Make them with training.train_tokenizer or training.cache_latents.",
        )
    made_by = json.loads(note.read_text())["tokenizer"] if note.is_file() else None
    if wanted and made_by and made_by != wanted:
        raise TrainingError(
            "train.other_tokenizer", f"The latents in {folder} were made by tokenizer {made_by}, not by {wanted}.",
            "Give the tokenizer that made them, or make them again with training.cache_latents.",
        )
