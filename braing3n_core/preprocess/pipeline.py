"""From the scanner's own space onto the atlas grid, and back (paper, section 2).

N4 bias field, brain extraction, affine registration to SRI24, one resampling, negatives clipped; intensities are not
normalised. What the scan has already been through is not done again.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..atlas import ATLAS_AFFINE, ATLAS_SHAPE
from ..errors import PreprocessError
from ..progress import Cancel, Progress, part, silent
from ..schema import MODALITIES, PreprocessOptions, nearest
from ..volume import Volume
from .brain import BrainExtractor, choose_extractor
from .intensity import N4_ITERATIONS, N4_SPACING_MM, N4_TOLERANCE, n4_bias_field
from .masks import head_mask
from .quality import Outcome, cropped_voxels, measure, warnings
from .record import PreprocessRecord, Step, as_matrix
from .spatial import REGISTRATION_SPACING_MM, register_affine, resample, to_grid
from .stage import UNBIASED, Evidence, brain_of_stripped, decide_stage, examine, skull_stage
from .template import Template, load_template


@dataclass(frozen=True)
class Preprocessed:
    """A scan on the atlas grid, and all that is needed to come back.

    volume: (240,240,155), SRI24 grid, not negative, exactly 0 outside the brain. mask: its brain, 0/1.
    native: the input as given. native_mask: its brain, 0/1. bias: multiplicative field on the input's grid
    (native = corrected * bias), None when N4 was not run.
    """

    volume: Volume
    mask: Volume
    native: Volume
    native_mask: Volume
    bias: Volume | None
    record: PreprocessRecord


@dataclass
class Run:
    """The running account of one call."""

    progress: Progress
    cancel: Cancel | None
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, parameters: dict[str, Any], span: tuple[float, float]) -> Iterator[Progress]:
        if self.cancel is not None:
            self.cancel.check()
        self.progress(span[0], name)
        start = time.perf_counter()
        yield part(self.progress, *span)
        self.steps.append(Step(name, parameters, round(time.perf_counter() - start, 3)))

    def skip(self, name: str, why: str) -> None:
        self.steps.append(Step(name, {"skipped": why}))


@dataclass(frozen=True, eq=False)
class Choices:
    """What was decided about a scan before its voxels were touched."""

    modality: str
    declared_stage: str
    stage: str
    evidence: Evidence
    brain_backend: str
    brain_reason: str
    template: Template


def preprocess(
    volume: Volume, options: PreprocessOptions, *, mask: Volume | None = None,
    sidecar: Mapping[str, Any] | None = None, progress: Progress = silent, cancel: Cancel | None = None,
) -> Preprocessed:
    """Bring a scan onto the atlas grid.

    volume: any grid and orientation. mask: brain mask on the scan's grid (else ``options.mask``, a path).
    sidecar: the scan's BIDS JSON, whose ``SkullStripped`` is evidence.
    Raises PreprocessError (stage, mask, registration), DependencyError (a needed package or file), Cancelled.
    """
    run = Run(progress, cancel)
    modality = known_modality(options.modality)
    if mask is None and options.mask is not None:
        mask = Volume.load(options.mask)
    with run.step("stage", {}, (0.0, 0.05)):
        template = load_template(options.template)
        evidence = examine(volume, template.mask, sidecar)
        stage = decide_stage(options.stage, evidence, mask_given=mask is not None)
        skull = skull_stage(stage, evidence)
        extractor, reason = choose_extractor(options.brain, skull, template, mask)
    bias = find_bias(run, volume, n4_skipped(stage, options.n4), skull)
    corrected = volume if bias is None else volume.with_array(volume.array / bias.array)
    inside = _brain(run, corrected, extractor)
    stripped = volume.with_array(np.where(inside, np.maximum(corrected.array, 0.0), 0.0))
    native_to_atlas = _register(run, stripped, stage, template)
    with run.step("resampling", {"order": 1, "grid": list(ATLAS_SHAPE)}, (0.95, 1.0)):
        on_atlas, atlas_mask = _onto_atlas(stripped, inside, native_to_atlas)
    choices = Choices(modality, options.stage, stage, evidence, extractor.name, reason, template)
    outcome = Outcome(inside, volume.affine, on_atlas, atlas_mask, native_to_atlas, template)
    record = make_record(volume, choices, outcome, run.steps)
    progress(1.0, "preprocessed")
    return Preprocessed(
        volume=Volume.from_array(on_atlas, ATLAS_AFFINE, modality=modality, name=volume.name),
        mask=Volume.from_array(atlas_mask.astype(np.float32), ATLAS_AFFINE, name=volume.name),
        native=volume, native_mask=volume.with_array(inside.astype(np.float32)), bias=bias, record=record,
    )


def to_native(
    atlas: Volume, preprocessed: Preprocessed | PreprocessRecord, reference: Volume, order: int = 1, fill: float = 0.0
) -> Volume:
    """A volume in the atlas's world on exactly the input's grid, by the inverse of the recorded transform.

    atlas: on the SRI24 grid or the model grid. reference: the input, or any volume on its grid. order 1 is trilinear,
    0 nearest (for masks). Raises PreprocessError when the reference is not on the recorded grid.
    """
    record = preprocessed.record if isinstance(preprocessed, Preprocessed) else preprocessed
    if reference.shape != record.input_shape or not np.allclose(reference.affine, record.input_affine, atol=1e-4):
        raise PreprocessError(
            "native.grid", f"The reference {reference.name!r} is not on the grid of the scan that was preprocessed.",
            "Pass the input scan itself.",
        )
    back = np.linalg.inv(record.transform())
    return to_grid(atlas, back, reference.shape, reference.affine, order=order, fill=fill)


def known_modality(wanted: str) -> str:
    """The modality, or PreprocessError with the nearest known one."""
    if wanted not in MODALITIES:
        raise PreprocessError(
            "modality.unknown", f"Unknown modality {wanted!r}.",
            f"{nearest(wanted, MODALITIES)}Known: {', '.join(MODALITIES)}.",
        )
    return wanted


def n4_skipped(stage: str, wanted: bool) -> str | None:
    """Why N4 is not run; None when it is."""
    if not wanted:
        return "not asked for"
    return f"the scan is {stage}" if stage in UNBIASED else None


def find_bias(run: Run, volume: Volume, skipped: str | None, skull: str) -> Volume | None:
    """The bias field, or None with ``skipped`` as the reason. skull: see :func:`skull_stage`."""
    if skipped is not None:
        run.skip("N4 bias field", skipped)
        return None
    parameters = {"spacing_mm": N4_SPACING_MM, "iterations": list(N4_ITERATIONS), "tolerance": N4_TOLERANCE}
    with run.step("N4 bias field", parameters, (0.05, 0.2)):
        inside = head_mask(volume) if skull == "native" else brain_of_stripped(volume)
        return n4_bias_field(volume, inside)


def _brain(run: Run, corrected: Volume, extractor: BrainExtractor) -> np.ndarray:
    with run.step("brain extraction", {"backend": extractor.name}, (0.2, 0.7)) as progress:
        inside = extractor.extract(corrected, progress=progress, cancel=run.cancel)
    if not (inside & (corrected.array > 0)).any():
        raise PreprocessError("brain.empty", "Nothing is left inside the brain mask.", "Check the scan and the mask.")
    return inside


def _register(run: Run, stripped: Volume, stage: str, template: Template) -> np.ndarray:
    if stage == "registered":
        run.skip("registration", "the scan is registered")
        return np.eye(4)
    parameters = {"tool": "ANTs", "transform": "affine", "metric": "Mattes", "spacing_mm": REGISTRATION_SPACING_MM}
    with run.step("registration", parameters, (0.7, 0.95)):
        return register_affine(stripped, template.volume, cancel=run.cancel)


def _onto_atlas(stripped: Volume, inside: np.ndarray, native_to_atlas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved = native_to_atlas @ stripped.affine
    brain = resample(inside, moved, ATLAS_SHAPE, ATLAS_AFFINE) > 0.5
    array = resample(stripped.array, moved, ATLAS_SHAPE, ATLAS_AFFINE)
    return np.where(brain, np.maximum(array, 0.0), 0.0).astype(np.float32), brain


def make_record(volume: Volume, choices: Choices, outcome: Outcome, steps: list[Step]) -> PreprocessRecord:
    """The account of one scan, with its quality measured."""
    found = measure(outcome)
    return PreprocessRecord(
        modality=choices.modality, declared_stage=choices.declared_stage, stage=choices.stage,
        evidence=choices.evidence.to_dict(), brain_backend=choices.brain_backend, brain_reason=choices.brain_reason,
        template=choices.template.identifier, template_sha256=choices.template.sha256,
        native_to_atlas=as_matrix(outcome.native_to_atlas), input_shape=volume.shape,
        input_affine=as_matrix(volume.affine),
        cropped_brain_voxels=cropped_voxels(outcome.atlas_mask), quality=found, steps=tuple(steps),
        warnings=warnings(found), versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in ("numpy", "scipy", "SimpleITK", "antspyx", "nilearn", "torch"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
