"""Which voxels are brain: the backends behind one protocol, and the choice among them.

``hd-bet`` is the paper's tool; ``mindgrab`` is a small network that reads any contrast; ``template`` needs neither
network nor weights; ``mask`` is the user's own; ``none`` is for a scan that is already stripped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import DependencyError, PreprocessError
from ..progress import Cancel, Progress, silent
from ..schema import BRAIN_BACKENDS, nearest
from ..volume import Volume
from .hd_bet import HDBet
from .masks import filled
from .mindgrab import MindGrab
from .stage import brain_of_stripped
from .template import Template
from .template_brain import TemplateBrain

AUTOMATIC: tuple[str, ...] = ("hd-bet", "mindgrab", "template")
"""The order of ``auto``, best first."""


class BrainExtractor(Protocol):
    """One way to find the brain."""

    @property
    def name(self) -> str: ...

    def available(self) -> tuple[bool, str]:
        """Whether it can run here as things are, and why or why not, in words for the user; cheap, and offline."""
        ...

    def prepare(self) -> None:
        """Fetch what is missing, where that is possible. Raises DependencyError when it cannot run here."""
        ...

    def extract(self, volume: Volume, *, progress: Progress = silent, cancel: Cancel | None = None) -> np.ndarray:
        """Brain mask, bool (X,Y,Z), on the volume's own grid. Raises PreprocessError, DependencyError."""
        ...


@dataclass(frozen=True)
class GivenMask:
    """The backend ``mask``: a mask of the user's on the scan's own grid; not 0 is brain."""

    mask: Volume
    name: str = "mask"

    def available(self) -> tuple[bool, str]:
        return True, "a brain mask was given"

    def prepare(self) -> None:
        """Nothing to do."""

    def extract(self, volume: Volume, *, progress: Progress = silent, cancel: Cancel | None = None) -> np.ndarray:
        if not volume.same_grid(self.mask, tolerance_mm=0.1):
            raise PreprocessError(
                "brain.mask_grid",
                f"The brain mask lies on another grid than the scan: {self.mask.shape} against {volume.shape} voxels.",
                "Resample the mask to the scan's grid (nearest neighbour).",
            )
        inside = np.asarray(self.mask.array > 0.5)
        if not inside.any() or inside.all():
            raise PreprocessError(
                "brain.mask_content", f"The brain mask covers {inside.mean():.0%} of the scan.",
                "Give 1 in the brain, else 0.",
            )
        return inside


@dataclass(frozen=True)
class AlreadyStripped:
    """The backend ``none``: what is not 0 is brain. ragged: its edge has gaps of 0, which are closed."""

    ragged: bool = True
    name: str = "none"

    def available(self) -> tuple[bool, str]:
        return True, "the scan is already skull-stripped"

    def prepare(self) -> None:
        """Nothing to do."""

    def extract(self, volume: Volume, *, progress: Progress = silent, cancel: Cancel | None = None) -> np.ndarray:
        return brain_of_stripped(volume) if self.ragged else filled(volume.array != 0)


def choose_extractor(
    wanted: str, stage: str, template: Template, mask: Volume | None = None
) -> tuple[BrainExtractor, str]:
    """The backend for a scan and the reason in words. wanted: ``auto`` or one of ``schema.BRAIN_BACKENDS``.

    Raises PreprocessError for an unknown or impossible wish, DependencyError when a named backend cannot run here.
    """
    if wanted != "auto" and wanted not in BRAIN_BACKENDS:
        raise PreprocessError(
            "brain.unknown", f"Unknown brain backend {wanted!r}.",
            f"{nearest(wanted, BRAIN_BACKENDS)}Known: auto, {', '.join(BRAIN_BACKENDS)}.",
        )
    if mask is not None and wanted in ("auto", "mask"):
        return _reason(GivenMask(mask))
    if stage != "native" and wanted in ("auto", "none"):
        return _reason(AlreadyStripped(ragged=stage != "registered"))
    _refuse_impossible(wanted, stage, mask)
    return _automatic(template) if wanted == "auto" else _named(wanted, template)


def extractors(template: Template | None = None) -> dict[str, BrainExtractor]:
    """The backends that look for the brain by themselves, by name. template: None is the usual one, loaded on use."""
    found: tuple[BrainExtractor, ...] = (HDBet(), MindGrab(), TemplateBrain(template))
    return {extractor.name: extractor for extractor in found}


def _refuse_impossible(wanted: str, stage: str, mask: Volume | None) -> None:
    if mask is not None:
        raise PreprocessError(
            "brain.mask_unused", f"A brain mask was given, but the backend is {wanted}.",
            "Use --brain mask, or no --mask.",
        )
    if wanted == "mask":
        raise PreprocessError("brain.mask_missing", "The backend mask needs a mask.", "Give its path with --mask.")
    if wanted == "none":
        raise PreprocessError(
            "brain.none", "The scan is a whole head; its brain must be found.", "Use --brain auto, or give --mask."
        )
    if stage != "native":
        raise PreprocessError(
            "brain.twice", f"The scan is {stage}; {wanted} would strip it a second time.", "Use --brain auto or none."
        )


def _automatic(template: Template) -> tuple[BrainExtractor, str]:
    passed: list[str] = []
    for extractor in extractors(template).values():
        usable, why = extractor.available()
        if usable:
            return extractor, "; ".join([f"auto chose {extractor.name}: {why}", *passed])
        passed.append(f"not {extractor.name}: {why}")
    raise DependencyError("brain.backend", "No brain extraction can run here: " + "; ".join(passed), "Give --mask.")


def _named(wanted: str, template: Template) -> tuple[BrainExtractor, str]:
    extractor = extractors(template)[wanted]
    extractor.prepare()
    return extractor, f"asked for: {extractor.available()[1]}"


def _reason(extractor: BrainExtractor) -> tuple[BrainExtractor, str]:
    return extractor, extractor.available()[1]
