"""The held-out scans of a cohort manifest, from a prepared store or prepared now."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from braing3n_core.errors import RequestError

from ..manifest.table import Row, read_manifest, write_manifest
from ..prepare.__main__ import prepare
from ..prepare.scan import training_record
from ..store import Store


class Chosen:
    """Some volumes of a store behind an index of their own."""

    def __init__(self, store: Store, rows: Sequence[int]) -> None:
        self.voxels, self.rows = store.voxels, list(rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.voxels[self.rows[index]]


def of_manifest(manifest: Path, split: str, stores: Sequence[Path], work: Path) -> tuple[Store, str]:
    """The scans of one side of the split, and what they are in words.

    stores: where training.prepare put them; without any they are prepared into ``work``. Raises RequestError when the
    manifest or the stores have none of them.
    """
    rows = [row for row in read_manifest(manifest) if row.split == split]
    if not rows:
        raise RequestError(
            "evaluate.split", f"{manifest} has no scan on the side {split!r}.", "Choose another with --split."
        )
    store = Store.open(*stores) if stores else _prepared(rows, work)
    wanted = {_key(training_record(row)) for row in rows}
    chosen = [i for i, record in enumerate(store.records) if _key(record) in wanted]
    if not chosen:
        raise RequestError(
            "evaluate.store", f"None of the {len(rows)} scans of {manifest} on the side {split!r} is in the store.",
            "Give the store that training.prepare made of this manifest, or none.",
        )
    cohorts = ", ".join(sorted({row.cohort for row in rows}))
    label = f"the {split} side of {manifest.name} ({cohorts})"
    return Store(Chosen(store, chosen), [store.records[i] for i in chosen]), label  # type: ignore[arg-type]


def _prepared(rows: Sequence[Row], work: Path) -> Store:
    """Preprocess what is not done yet. A scan that cannot be is told in ``work/quarantine.tsv``."""
    work.mkdir(parents=True, exist_ok=True)
    manifest = write_manifest(work / "manifest.tsv", rows)
    prepare(argparse.Namespace(
        manifest=manifest, out=work, shard="0/1", brain="auto", template=None, no_images=True, jobs=1, retry=False,
    ))
    return Store.open(work)


def _key(record: dict[str, object]) -> tuple[object, ...]:
    return tuple(str(record.get(name)).rpartition(":")[2] for name in ("subject", "visit", "modality", "run"))
