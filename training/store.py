"""The training store: volumes on the model grid, memory-mapped, with their labels beside them.

A folder with ``records.json``, one record a volume. A record that names a ``file`` has its voxels there, (160,192,160)
float16 (what ``training.prepare`` writes: volumes come one by one, from many machines); without it they are its row of
``voxels.npy`` (n,160,192,160) uint8 (what ``training.build_store`` writes). Stored voxels times the record's ``scale``
are grey values, whose ``mean`` and ``std`` are in the record too, so that the z-score of the paper's loader is made
when a batch is read, on the device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from braing3n_core.atlas import MODEL_SHAPE
from braing3n_core.atomic import atomic_file
from braing3n_core.errors import BrainG3NError

Record = dict[str, Any]


class StoreError(BrainG3NError):
    """A training store is missing, incomplete or does not fit."""


class Joined:
    """The memory-mapped voxels of several stores behind one index."""

    def __init__(self, parts: Sequence[np.ndarray | Files]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])

    def __getitem__(self, index: int) -> np.ndarray:
        """Volume ``index`` (160,192,160) as it is stored."""
        part = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[part][index - self.ends[part]]


class Files:
    """Volumes that lie in a file each, behind one index; memory-mapped when they are read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        """Volume ``index`` (160,192,160) float16. Raises :class:`StoreError` for a file that is not one."""
        path = self.paths[index]
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(
                "store.volume", f"{path} cannot be read ({error}).", "Run training.prepare again with --retry."
            ) from error
        if array.shape != MODEL_SHAPE:
            raise StoreError("store.volume", f"{path} has the shape {array.shape}.", f"It must be {MODEL_SHAPE}.")
        return np.asarray(array)


class Chosen:
    """Some of the volumes behind another index."""

    def __init__(self, voxels: np.ndarray | Joined | Files | Chosen, rows: Sequence[int]) -> None:
        self.voxels, self.rows = voxels, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        """Volume ``index`` (160,192,160) as it is stored."""
        return np.asarray(self.voxels[self.rows[index]])


@dataclass(frozen=True)
class Store:
    """voxels: by index (160,192,160), memory-mapped; records: one dict a volume."""

    voxels: np.ndarray | Joined | Files | Chosen
    records: list[Record]

    @classmethod
    def open(cls, *folders: str | Path) -> Store:
        """Open a finished store, or several as one; subjects of different stores stay different subjects."""
        opened = [_open(Path(folder)) for folder in folders]
        if len(opened) == 1:
            return cls(*opened[0])
        records = [
            {**row, "subject": f"{Path(folder).resolve()}:{row['subject']}"}
            for folder, (_, rows) in zip(folders, opened, strict=True) for row in rows
        ]
        return cls(Joined([voxels for voxels, _ in opened]), records)

    def __len__(self) -> int:
        return len(self.records)

    def where(self, **labels: Any) -> list[int]:
        """Indices of the records with these labels."""
        return matching(self.records, labels)

    def for_training(self) -> Store:
        """The volumes that training may see. Raises what :func:`training_rows` raises."""
        rows = training_rows(self.records)
        if len(rows) == len(self):
            return self
        return Store(Chosen(self.voxels, rows), [self.records[i] for i in rows])

    def zscored(self, indices: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """(B,1,160,192,160) float32, z-scored over the whole model grid."""
        raw = torch.from_numpy(np.stack([self.voxels[i] for i in indices])).to(device)
        rows = [self.records[i] for i in indices]
        columns = [[r["scale"] / r["std"] for r in rows], [r["mean"] / r["std"] for r in rows]]
        gain, offset = (torch.tensor(c, dtype=torch.float32, device=device)[:, None, None, None] for c in columns)
        return (raw.float() * gain - offset)[:, None]


def _open(folder: Path) -> tuple[np.ndarray | Files, list[Record]]:
    if not (folder / "records.json").is_file():
        raise StoreError(
            "store.missing", f"No finished training store in {folder}.",
            "Make one with training.prepare, or of phantoms with training.build_store.",
        )
    records = json.loads((folder / "records.json").read_text())
    if records and all("file" in record for record in records):
        return Files([folder / record["file"] for record in records]), records
    return np.load(folder / "voxels.npy", mmap_mode="r", allow_pickle=False)[: len(records)], records


def matching(records: Sequence[Record], labels: dict[str, Any]) -> list[int]:
    """Indices of the records that have all these labels."""
    return [i for i, record in enumerate(records) if all(record.get(k) == v for k, v in labels.items())]


def subject_keys(records: Sequence[Record]) -> dict[str, str]:
    """By subject of these records: a short name that is the same wherever the subject's scans lie.

    Names alone are not enough: the first subject of every cohort of phantoms is called the same.
    """
    about: dict[str, set[tuple[str, ...]]] = {}
    for r in records:
        visit = tuple(str(r.get(name)) for name in ("visit", "age_years", "sex", "disease", "site"))
        about.setdefault(str(r["subject"]), set()).add(visit)
    return {
        subject: hashlib.sha256(json.dumps([subject.rpartition(":")[2], sorted(visits)]).encode()).hexdigest()[:12]
        for subject, visits in about.items()
    }


def training_rows(records: Sequence[Record]) -> list[int]:
    """Indices of the records whose split is ``train``, or that have none, as phantoms.

    Raises :class:`StoreError` when a subject is on two sides of the split, or nobody is left.
    """
    sides: dict[str, set[str]] = {}
    for record in records:
        sides.setdefault(str(record["subject"]), set()).add(str(record.get("split") or "train"))
    torn = [subject for subject, of in sides.items() if len(of) > 1]
    if torn:
        raise StoreError(
            "store.split", f"{torn[0]} is in {' and '.join(sorted(sides[torn[0]]))}"
            f"{f', and so are {len(torn) - 1} others' if len(torn) > 1 else ''}.",
            "A person belongs to one side: make the manifest again, and the store from it.",
        )
    rows = [i for i, record in enumerate(records) if (record.get("split") or "train") == "train"]
    if not rows:
        raise StoreError(
            "store.no_training_rows", f"None of the {len(records)} volumes is on the side train of the split.",
            "Give a store with training volumes, or make the manifest with other shares (--split).",
        )
    return rows


def write_store(folder: str | Path, volumes: Iterator[tuple[np.ndarray, Record]], count: int) -> Store:
    """Fill a store from ``count`` (voxels (160,192,160) non-negative, record) pairs."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    voxels = np.lib.format.open_memmap(folder / "voxels.npy", mode="w+", dtype=np.uint8, shape=(count, *MODEL_SHAPE))
    records: list[Record] = []
    for i, (array, record) in enumerate(volumes):
        scale = float(array.max()) / 255.0
        voxels[i] = np.round(array / scale)
        statistics = {"scale": scale, "mean": float(array.mean()), "std": float(array.std())}
        records.append({**record, **statistics})
        if i % 100 == 99:  # a build that is stopped early leaves a store of what is done
            write_records(folder, records)
    voxels.flush()
    write_records(folder, records)
    if len(records) != count:
        raise StoreError("store.count", f"Expected {count} volumes, got {len(records)}.", "The source ended early.")
    return Store.open(folder)


def write_records(folder: Path, records: list[Record]) -> None:
    """The records of a store, whole or not at all."""
    with atomic_file(folder / "records.json") as handle:
        handle.write(json.dumps(records).encode("utf-8"))
