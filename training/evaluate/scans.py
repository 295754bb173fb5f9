"""Real scans of a folder, brought onto the model grid once and kept, as a held-out set without any training label.

The folder is that of the tests on real MRI (CONTRIBUTING.md): groups that are not there are left out.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from braing3n_core.engine import Engine
from braing3n_core.errors import BrainG3NError, RequestError
from braing3n_core.preprocess.intensity import to_model
from braing3n_core.schema import PreprocessOptions
from braing3n_core.volume import Volume

from ..store import Record

CC0, HEADS, MS, TUMOUR = "14 CC0 subjects", "whole heads (IXI)", "MS patient", "tumour patient"
MS_DAYS, MS_AGE_YEARS = 203, 20.0
TUMOUR_SCANS = {
    "T1": ("T1w", "t1"), "T1C": ("ce-gadolinium_T1w", "t1c"), "T2": ("T2w", "t2"), "FLAIR": ("FLAIR", "fla"),
}


@dataclass(frozen=True)
class Scan:
    """One real scan. mask: its brain in its own grid, where somebody gives one. labels: what is known of it."""

    path: Path
    group: str
    subject: str
    modality: str = "T1"
    visit: int = 0
    mask: Path | None = None
    labels: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.subject}-{self.visit}-{self.modality}"

    @property
    def record(self) -> Record:
        """As a record of a training store; what is not known is None."""
        unknown = dict.fromkeys(("age_years", "sex", "disease", "site", "idh1", "cdr"))
        return {**unknown, **self.labels, "subject": self.subject, "visit": self.visit, "modality": self.modality,
                "group": self.group}


@dataclass(frozen=True, eq=False)
class RealScans:
    """Z-scored volumes on the model grid, float32, memory-mapped; answers what a training store answers."""

    voxels: list[np.ndarray]
    records: list[Record]

    def __len__(self) -> int:
        return len(self.records)

    def zscored(self, indices: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """(B,1,160,192,160) float32."""
        return torch.from_numpy(np.stack([self.voxels[i] for i in indices]))[:, None].to(device)


def find(data: Path, quick: bool = False) -> list[Scan]:
    """The scans of the folder, the MS patient first. quick: two of a group. Raises RequestError when there are none."""
    groups = [list(g) for g in (_ms(data), _cc0(data), _heads(data), _tumour(data))]
    found = [s for group in groups for s in (group[:2] if quick else group) if s.path.is_file()]
    if not found:
        raise RequestError("evaluate.data", f"No scan that is known here lies in {data}.", "See CONTRIBUTING.md.")
    return found


def prepare(scans: Sequence[Scan], engine: Engine, folder: Path) -> tuple[RealScans, list[str]]:
    """Preprocess what is not yet in ``folder``; the scans, and one sentence on each that was refused."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels, records, refused = [], [], []
    for number, scan in enumerate(scans):
        path = folder / f"{scan.name}.npy"
        if not path.is_file():
            print(f"preprocessing {number + 1}/{len(scans)} {scan.name}", file=sys.stderr, flush=True)
            try:
                _prepare(scan, engine, path)
            except BrainG3NError as error:
                refused.append(f"{scan.name}: {error.message}")
                continue
        voxels.append(np.load(path, mmap_mode="r"))
        notes = json.loads(path.with_suffix(".json").read_text())
        records.append({**scan.record, "mean": notes["mean"], "warnings": notes["warnings"]})
    return RealScans(voxels, records), refused


def preprocess(scan: Scan, engine: Engine) -> Any:
    """The scan on the atlas grid."""
    mask = None if scan.mask is None else Volume.load(scan.mask)
    return engine.preprocess(Volume.load(scan.path, modality=scan.modality), PreprocessOptions(scan.modality), mask)


def _prepare(scan: Scan, engine: Engine, path: Path) -> None:
    done = preprocess(scan, engine)
    array, normalisation = to_model(done.volume.array)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    notes = {"mean": float(normalisation.mean), "warnings": list(done.record.warnings)}
    path.with_suffix(".json").write_text(json.dumps(notes))
    partial.replace(path)


def _cc0(data: Path) -> Iterator[Scan]:
    table = data / "ds002748" / "participants.tsv"
    for row in _rows(table, "\t"):
        name = row["participant_id"]
        labels = {"age_years": float(row["age"]), "sex": row["gender"].upper()}
        yield Scan(table.parent / name / "anat" / f"{name}_T1w.nii.gz", CC0, f"cc0-{name}", labels=labels)


def _heads(data: Path) -> Iterator[Scan]:
    folder = data / "whole_head_T1" / "ixi_2mm"
    for row in _rows(folder / "IXI_demog_n10.csv", ","):
        labels = {"age_years": float(row["Age"]), "sex": row["Sex"], "disease": "HC"}
        yield Scan(folder / f"{row['MRID']}-T1_ds.nii.gz", HEADS, row["MRID"], labels=labels)


def _ms(data: Path) -> Iterator[Scan]:
    for visit in (0, 1):
        age = MS_AGE_YEARS + visit * MS_DAYS / 365.25
        yield Scan(data / "ms_patient01" / f"study{visit + 1}_T1W.nii.gz", MS, "ms-01", "T1", visit,
                   labels={"age_years": age, "sex": "F"})


def _tumour(data: Path) -> Iterator[Scan]:
    folder = data / "tumour_TCGA-FG-6692"
    for modality, (suffix, mask) in TUMOUR_SCANS.items():
        yield Scan(folder / f"sub-FG6692_{suffix}.nii.gz", TUMOUR, "tumour-01", modality, 0,
                   folder / f"hdbet_mask_native_{mask}.nii.gz", {"disease": "glioma"})


def _rows(table: Path, delimiter: str) -> list[dict[str, str]]:
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter=delimiter))
