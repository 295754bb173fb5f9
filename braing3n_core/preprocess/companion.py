"""The other contrasts of a visit: through the transform of its T1, never to the atlas by themselves (paper, section 2).

A contrast is turned and shifted onto the visit's T1 (people move between two sequences), then goes through the T1's
transform, in one resampling; its brain is the T1's brain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..atlas import ATLAS_AFFINE, ATLAS_SHAPE
from ..errors import PreprocessError
from ..progress import Cancel, Progress, silent
from ..schema import PreprocessOptions
from ..volume import Volume
from .pipeline import Choices, Preprocessed, Run, find_bias, known_modality, make_record, n4_skipped, preprocess
from .quality import Outcome
from .spatial import REGISTRATION_SPACING_MM, register_affine, resample
from .stage import decide_stage, examine, skull_stage
from .template import load_template


def preprocess_companion(
    volume: Volume, options: PreprocessOptions, centre: Preprocessed, *, sidecar: Mapping[str, Any] | None = None,
    progress: Progress = silent, cancel: Cancel | None = None,
) -> Preprocessed:
    """Bring another contrast of the visit of ``centre`` (its preprocessed T1) onto the atlas grid.

    volume: any grid, in about the same world as the T1. A scan that is registered already goes its own way, which
    changes nothing in it. Raises what :func:`preprocess` raises, and PreprocessError (``companion.skull``) when only
    one of the two still has its skull.
    """
    modality, run = known_modality(options.modality), Run(progress, cancel)
    with run.step("stage", {}, (0.0, 0.05)):
        template = load_template(options.template)
        evidence = examine(volume, template.mask, sidecar)
        stage = decide_stage(options.stage, evidence)
    if stage == "registered":
        return preprocess(volume, options, sidecar=sidecar, progress=progress, cancel=cancel)
    skull = skull_stage(stage, evidence)
    _same_skull(modality, skull, centre)
    bias = find_bias(run, volume, n4_skipped(stage, options.n4), skull)
    corrected = volume if bias is None else volume.with_array(volume.array / bias.array)
    to_centre = _onto_centre(run, corrected, centre)
    native_to_atlas = centre.record.transform() @ to_centre
    with run.step("resampling", {"order": 1, "grid": list(ATLAS_SHAPE), "brain": "of the T1"}, (0.95, 1.0)):
        brain = centre.mask.array > 0.5
        array = resample(corrected.array, native_to_atlas @ volume.affine, ATLAS_SHAPE, ATLAS_AFFINE)
        on_atlas = np.where(brain, np.maximum(array, 0.0), 0.0).astype(np.float32)
        inside = _brain_on(volume, to_centre, centre)
    reason = "the brain of the visit's T1"
    choices = Choices(modality, options.stage, stage, evidence, centre.record.brain_backend, reason, template)
    outcome = Outcome(inside, volume.affine, on_atlas, brain, native_to_atlas, template)
    record = make_record(volume, choices, outcome, run.steps)
    progress(1.0, "preprocessed")
    return Preprocessed(
        volume=Volume.from_array(on_atlas, ATLAS_AFFINE, modality=modality, name=volume.name), mask=centre.mask,
        native=volume, native_mask=volume.with_array(inside.astype(np.float32)), bias=bias, record=record,
    )


def _same_skull(modality: str, skull: str, centre: Preprocessed) -> None:
    # The T1's own record tells: a backend of "none" means that it came without a skull.
    stripped = centre.record.brain_backend == "none"
    if stripped != (skull != "native"):
        mine, its = ("stripped", "a whole head") if stripped else ("a whole head", "stripped")
        raise PreprocessError(
            "companion.skull", f"The visit's T1 is {mine}, its {modality} is {its}.", "Give both at the same stage."
        )


def _onto_centre(run: Run, corrected: Volume, centre: Preprocessed) -> np.ndarray:
    """Rigid, world of the contrast to world of the T1 (4x4), from where both lie in the scanner."""
    fixed = centre.native
    if centre.bias is not None:
        fixed = fixed.with_array(fixed.array / centre.bias.array)
    parameters = {"tool": "ANTs", "transform": "rigid, to the T1", "spacing_mm": REGISTRATION_SPACING_MM}
    with run.step("registration", parameters, (0.3, 0.95)):
        return register_affine(corrected, fixed, initial=np.eye(4), rigid=True, cancel=run.cancel)


def _brain_on(volume: Volume, to_centre: np.ndarray, centre: Preprocessed) -> np.ndarray:
    """The T1's brain on the contrast's own grid, bool."""
    from_centre = np.linalg.inv(to_centre) @ centre.native.affine
    return np.asarray(resample(centre.native_mask.array, from_centre, volume.shape, volume.affine) > 0.5)
