"""The cohort as a BIDS data set on the SRI24 grid, with the truth beside it in ``derivatives/truth``.

A session is written whole, its truth last; a restart skips every session whose truth is there.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from braing3n_core import __version__, atlas
from braing3n_core.atomic import atomic_file
from braing3n_core.errors import RequestError
from braing3n_core.progress import Progress, silent
from braing3n_core.schema import BIDS_SUFFIX, MODALITIES
from braing3n_core.volume import Volume

from .render import render_session
from .subjects import Subject
from .templates import load_anatomies

UNITS_PER_INTENSITY = 10.0
"""Stored int16 units for one unit of intensity (white matter of T1 is about 75)."""
SYNTHETIC = "SYNTHETIC: made by a computer from a template's anatomy. Not a person, not for clinical use."
README = f"""BrainG3N digital phantom cohort

{SYNTHETIC}

Labelled brains whose truth is known, for tests, demonstrations and benchmarks. Skull-stripped, on the SRI24 grid
(240x240x155, 1 mm). derivatives/truth holds tissue volumes, the velocity of ageing and tumour masks
(1 core, 2 oedema, 3 enhancing or solid part). It never stands in for a claim about patients.
"""
COLUMNS: dict[str, dict[str, Any]] = {
    "participant_id": {"Description": "Subject of the cohort"},
    "age": {"Description": "Age at the first session", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
    "disease": {"Description": "Simulated disease: HC, MCI, AD, PD, GBM or glioma"},
    "idh1": {"Description": "Simulated IDH1 status, tumours only", "Levels": {"wildtype": "", "mutant": ""}},
    "site": {"Description": "Imaginary scanner"},
    "anatomy": {"Description": "Template whose anatomy was moved"},
}


@dataclass(frozen=True)
class CohortOptions:
    """What is written where. templates: folder of further stripped T1 scans, or None. jobs: processes."""

    out: Path
    modalities: tuple[str, ...] = MODALITIES
    templates: Path | None = None
    jobs: int = 1


def write_cohort(population: Sequence[Subject], options: CohortOptions, progress: Progress = silent) -> Path:
    """Write or complete the data set and return its folder.

    Raises :class:`RequestError` (``phantom.other_cohort``) when the folder holds another cohort.
    """
    _claim(population, options)
    _write_head(population, options.out)
    todo = [(s, v) for s in population for v in range(len(s.visits)) if not truth_file(options.out, s, v).is_file()]
    for done in _run(todo, options):
        progress(done / len(todo), f"{done} of {len(todo)} sessions")
    _write_truth_table(population, options.out)
    return options.out


def write_session(subject: Subject, visit: int, options: CohortOptions) -> None:
    """Render one session and write its volumes, sidecars, tumour mask and truth."""
    anatomy = load_anatomies(options.templates)[subject.anatomy]
    rendering = render_session(anatomy, subject, visit, options.modalities)
    folder, stem = session_place(subject, visit)
    for modality, voxels in rendering.volumes.items():
        name = options.out / folder / "anat" / f"{stem}_{BIDS_SUFFIX[modality]}"
        stored = np.where(voxels > 0, np.maximum(np.round(voxels * UNITS_PER_INTENSITY), 1), 0).clip(0, 32767)
        _save(stored, name.with_name(f"{name.name}.nii.gz"), "int16", "SYNTHETIC BrainG3N phantom")
        _write_json(name.with_name(f"{name.name}.json"), sidecar(subject, modality))
    truth = truth_file(options.out, subject, visit)
    if rendering.tumour is not None:
        _save(rendering.tumour, truth.with_name(f"{stem}_tumour.nii.gz"), "uint8", "SYNTHETIC tumour truth")
    _write_json(truth, rendering.truth)


def session_place(subject: Subject, visit: int) -> tuple[Path, str]:
    """The session's folder in the data set and the first part of its file names."""
    name = subject.visits[visit].name
    return Path(subject.name) / name, f"{subject.name}_{name}"


def truth_file(out: Path, subject: Subject, visit: int) -> Path:
    """Where the truth of a session lies; the file exists when the session is complete."""
    folder, stem = session_place(subject, visit)
    return out / "derivatives" / "truth" / folder / f"{stem}_truth.json"


def sidecar(subject: Subject, modality: str) -> dict[str, Any]:
    """The JSON beside a volume."""
    contrast = {"ContrastBolusIngredient": "GADOLINIUM"} if modality == "T1C" else {}
    return {
        "Modality": "MR", "Manufacturer": "BrainG3N phantom", "InstitutionName": subject.site.name,
        "SkullStripped": True,
        "SYNTHETIC": True, "Description": SYNTHETIC, "UnitsPerIntensity": UNITS_PER_INTENSITY, **contrast,
    }


def _claim(population: Sequence[Subject], options: CohortOptions) -> None:
    """Refuse to mix two cohorts in one folder; more subjects of the same cohort are welcome."""
    claim: dict[str, Any] = {
        "seed": population[0].seed, "visits": len(population[0].visits), "modalities": list(options.modalities),
        "anatomies": sorted(load_anatomies(options.templates)), "version": __version__,
    }
    path = options.out / "derivatives" / "truth" / "cohort.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != claim:
        raise RequestError(
            "phantom.other_cohort", f"{options.out} holds a cohort of other seed, visits, modalities or anatomies.",
            "Choose another folder, or repeat the options it was made with (derivatives/truth/cohort.json).",
        )
    _write_json(path, claim)


def _run(todo: Sequence[tuple[Subject, int]], options: CohortOptions) -> Iterable[int]:
    """Write the sessions and count them."""
    if options.jobs <= 1:
        for done, (subject, visit) in enumerate(todo, 1):
            write_session(subject, visit, options)
            yield done
        return
    from multiprocessing import get_context

    # Not fork: torch's threads do not survive it.
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), initializer=_one_thread) as pool:
        futures: list[Future[None]] = [pool.submit(write_session, s, v, options) for s, v in todo]
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            yield done


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _write_head(population: Sequence[Subject], out: Path) -> None:
    description = {
        "Name": "BrainG3N digital phantom cohort (SYNTHETIC)", "BIDSVersion": "1.9.0", "DatasetType": "raw",
        "License": "CC0", "HowToAcknowledge": SYNTHETIC,
        "GeneratedBy": [{"Name": "BrainG3N phantom", "Version": __version__, "Description": SYNTHETIC}],
    }
    _write_json(out / "dataset_description.json", description)
    truth = description | {"Name": "Truth of the BrainG3N phantom cohort (SYNTHETIC)", "DatasetType": "derivative"}
    _write_json(out / "derivatives" / "truth" / "dataset_description.json", truth)
    _write_text(out / "README", README)
    _write_json(out / "participants.json", {k: v for k, v in COLUMNS.items() if k != "participant_id"})
    _write_table(out / "participants.tsv", [_participant(s) for s in population])
    for subject in population:
        rows = [{"session_id": v.name, "age": v.age_years, "cdr": v.cdr} for v in subject.visits]
        _write_table(out / subject.name / f"{subject.name}_sessions.tsv", rows)


def _participant(subject: Subject) -> dict[str, Any]:
    values = (subject.name, subject.age_years, subject.sex, subject.disease, subject.idh1 or "n/a", subject.site.name,
              subject.anatomy)
    return dict(zip(COLUMNS, values, strict=True))


def _write_truth_table(population: Sequence[Subject], out: Path) -> None:
    rows = []
    for subject in population:
        for visit in subject.visits:
            truth = json.loads(truth_file(out, subject, visit.index).read_text(encoding="utf-8"))
            rows.append({"participant_id": subject.name, "session_id": visit.name, **truth})
    _write_table(out / "derivatives" / "truth" / "truth.tsv", rows)


def _save(array: np.ndarray, path: Path, dtype: str, description: str) -> None:
    on_atlas = atlas.to_atlas_grid(array.astype(np.float32))
    Volume.from_array(on_atlas, atlas.ATLAS_AFFINE, description=description).save(path, dtype=dtype)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as handle:
        handle.write(text.encode("utf-8"))


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    table.writerows([[_cell(row.get(column, "n/a")) for column in columns] for row in rows])
    _write_text(path, text.getvalue())


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
