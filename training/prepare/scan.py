"""One visit: T1 through the whole pipeline, the other contrasts through T1's transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from braing3n_core.atlas import to_model_grid
from braing3n_core.atomic import atomic_file
from braing3n_core.errors import BrainG3NError, PreprocessError
from braing3n_core.outputs import write_json
from braing3n_core.preprocess import preprocess
from braing3n_core.preprocess.brain import extractors
from braing3n_core.preprocess.companion import preprocess_companion
from braing3n_core.preprocess.intensity import to_model
from braing3n_core.preprocess.pipeline import Preprocessed
from braing3n_core.preprocess.template import load_template
from braing3n_core.schema import PreprocessOptions
from braing3n_core.volume import Volume

from ..manifest.scan import read_sidecar
from ..manifest.table import Row
from .outcome import Outcome, fingerprint, write_outcome
from .place import Place


@dataclass(frozen=True)
class Choices:
    """The same for all rows. brain: backend of the extraction, for whole heads. template: path of the atlas, None for
    the usual one. images: also write the NIfTI volumes and masks, not only what training reads. atlas: sha256 of the
    template, "" before :meth:`settled`."""

    brain: str = "auto"
    template: str | None = None
    images: bool = True
    atlas: str = ""

    def of(self, row: Row) -> PreprocessOptions:
        return PreprocessOptions(modality=row.modality, stage=row.stage, brain=self.brain, template=self.template)

    def settled(self) -> Choices:
        """With what ``auto`` and the usual template are on this machine, so that a cohort is made by one of each.

        What becomes available between two starts changes the fingerprints, and all rows are made again by it.
        Raises PreprocessError or DependencyError when there is no such template.
        """
        template = load_template(self.template)
        usable = (name for name, extractor in extractors(template).items() if extractor.available()[0])
        brain = next(usable, "auto") if self.brain == "auto" else self.brain
        return replace(self, brain=brain, atlas=template.sha256)


def prepare_visit(rows: Sequence[Row], todo: Sequence[bool], store: Path, choices: Choices) -> int:
    """Give every row of one visit that is to do its outcome; returns how many. Errors of a scan become its reason.

    todo: by row. A T1 that is done already is made again when a contrast that needs its transform is not.
    """
    _sweep(Place(store, rows[0]).folder)
    order = sorted(range(len(rows)), key=lambda i: (rows[i].modality != "T1", rows[i].run, rows[i].modality))
    centre: Preprocessed | BrainG3NError | None = None
    needed = any(todo[i] and rows[i].modality != "T1" and rows[i].stage != "registered" for i in order)
    count = 0
    for i in order:
        row = rows[i]
        if not (todo[i] or (needed and row.modality == "T1" and not isinstance(centre, Preprocessed))):
            continue
        result = _attempt(row, store, choices, centre)
        if row.modality == "T1" and (centre is None or isinstance(centre, BrainG3NError)):
            centre = result
        if todo[i]:
            _finish(row, result, store, choices)
            count += 1
    return count


def _attempt(
    row: Row, store: Path, choices: Choices, centre: Preprocessed | BrainG3NError | None
) -> Preprocessed | BrainG3NError:
    """The row preprocessed, or why not."""
    try:
        path = Path(row.path)
        volume, sidecar = Volume.load(path, modality=row.modality), read_sidecar(path)
        try:
            return _processed(volume, row, choices.of(row), sidecar, centre)
        except PreprocessError as error:
            if error.code != "brain.twice":  # the backend is for whole heads; this one turned out to be stripped
                raise
            return _processed(volume, row, replace(choices.of(row), brain="auto"), sidecar, centre)
    except BrainG3NError as error:
        return error
    except Exception as error:  # noqa: BLE001 - one scan's surprise must not end a cohort; it is told in full
        return PreprocessError("prepare.unexpected", f"{type(error).__name__}: {error}", "Report this scan.")


def _processed(
    volume: Volume, row: Row, options: PreprocessOptions, sidecar: dict[str, Any],
    centre: Preprocessed | BrainG3NError | None,
) -> Preprocessed | BrainG3NError:
    """A T1 by itself, another contrast through the T1's transform."""
    if row.modality == "T1" or row.stage == "registered":
        return preprocess(volume, options, sidecar=sidecar)
    if isinstance(centre, Preprocessed):
        return preprocess_companion(volume, options, centre, sidecar=sidecar)
    return _alone(volume, row, options, sidecar, centre)


def _alone(
    volume: Volume, row: Row, options: PreprocessOptions, sidecar: dict[str, Any], centre: BrainG3NError | None
) -> Preprocessed | BrainG3NError:
    """A contrast without T1 can only be used when it is registered already."""
    if row.stage == "auto":
        done = preprocess(volume, options, sidecar=sidecar)
        if done.record.stage == "registered":
            return done
    if centre is not None:
        return PreprocessError("visit.t1_failed", f"The visit's T1 failed: {centre.message}", centre.hint)
    return PreprocessError(
        "visit.no_t1", f"The visit has no T1 through whose transform the {row.modality} could go.",
        "Add the T1, or declare the scan registered if it is.",
    )


def _finish(row: Row, result: Preprocessed | BrainG3NError, store: Path, choices: Choices) -> None:
    place = Place(store, row)
    base: dict[str, Any] = {"key": row.key, "path": row.path, "fingerprint": fingerprint(row, asdict(choices))}
    if isinstance(result, Preprocessed):
        try:
            statistics = _write(row, result, place, choices)
        except BrainG3NError as error:
            result = error
        else:
            record = {**training_record(row), **statistics, "file": str(place.voxels().relative_to(store))}
            outcome = Outcome(
                **base, record=record, quality=result.record.quality, warnings=tuple(result.record.warnings)
            )
    if isinstance(result, BrainG3NError):
        outcome = Outcome(**base, code=result.code, message=result.message, hint=result.hint)
    write_outcome(place.outcome(), outcome)


def _write(row: Row, done: Preprocessed, place: Place, choices: Choices) -> dict[str, float]:
    """The files of a result; returns the statistics that turn stored voxels into z-scores."""
    _, normalisation = to_model(done.volume.array)
    array = to_model_grid(done.volume.array)
    scale = float(array.max())
    with atomic_file(place.voxels()) as handle:
        np.save(handle, (array / scale).astype(np.float16), allow_pickle=False)
    if choices.images:
        done.volume.save(place.image("preproc"), dtype="float32", description="preprocessed, BrainG3N")
        done.mask.save(place.mask(), dtype="uint8", description="brain mask, BrainG3N")
    write_json(place.sidecar(), {
        "Description": "Bias-corrected, brain alone, affine to SRI24; intensities not normalised.",
        "Space": "SRI24", "SkullStripped": True, "Sources": [row.path], **done.record.to_dict(),
    })
    return {"scale": scale, "mean": normalisation.mean, "std": normalisation.std}


def training_record(row: Row) -> dict[str, Any]:
    """The labels of a row under the names that the training stages use."""
    return {
        "subject": row.person, "visit": row.session, "run": row.run, "cohort": row.cohort, "split": row.split,
        **row.labels,
    }


def _sweep(folder: Path) -> None:
    """Remove half-written files of a run that was killed; whole ones have no such names."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)
