"""The arms of the control experiments: which conditions are asked for, from which bases, and who reads the answer.

Both arms of a contrast start from the same noises and the same bases, so that they differ in the asked condition alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from braing3n_core.probes import LinearProbe

from ...store import Record
from ..readers import Reader
from ..study import Study


@dataclass(frozen=True)
class Contrast:
    """label: the condition; words: asked for, in order; fixed: conditions set in both arms; paper: its numbers."""

    name: str
    label: str
    words: tuple[str, ...]
    paper: str
    fixed: dict[str, Any] = field(default_factory=dict)


CONTRASTS = (
    Contrast("HC / AD", "disease", ("HC", "AD"), ".99 (null .92 HC, prior .91)"),
    Contrast("HC / MCI", "disease", ("HC", "MCI"), ".80"),
    Contrast("MCI / AD", "disease", ("MCI", "AD"), ".90"),
    Contrast("HC / PD", "disease", ("HC", "PD"), ".82"),
    Contrast("HC / PD, asked in FLAIR", "disease", ("HC", "PD"), ".82 (T1)", {"modality": "FLAIR"}),
    Contrast("sex", "sex", ("F", "M"), ".93 (null .72 F)"),
    Contrast("modality", "modality", ("T1", "T1C", "T2", "FLAIR"), "1.00"),
    Contrast("IDH1, asked of a glioma", "idh1", ("wildtype", "mutant"), ".52 (asked of a glioblastoma)",
             {"disease": "glioma", "modality": "FLAIR"}),
)


def known(study: Study, contrast: Contrast) -> str:
    """Why this checkpoint cannot be asked, or nothing."""
    words = study.inference.parts.dit.spec.categories.get(contrast.label, ())
    missing = [w for w in contrast.words if w not in words]
    return f"the checkpoint does not know {contrast.label} {', '.join(missing)}" if missing else ""


def bases_of(study: Study, contrast: Contrast) -> list[Record]:
    """Records whose other conditions the samples take: real T1 first visits, of the diseases that are told apart, at
    ages that all of them have, else of the healthy, or of the disease that is fixed.
    """
    fixed = contrast.fixed.get("disease")
    diseases = contrast.words if contrast.label == "disease" else (fixed or "HC",)
    everyone = study.bases(study.settings.samples, diseases)
    return [{**r, "modality": "T1", "idh1": None, **contrast.fixed} for r in everyone]


def draw(study: Study, contrast: Contrast, scale: float | None = None) -> dict[str, np.ndarray]:
    """Samples by word, the noises shared."""
    bases = bases_of(study, contrast)
    return {w: study.generate([{**r, contrast.label: w} for r in bases], scale) for w in contrast.words}


def draw_null(study: Study, contrast: Contrast) -> np.ndarray | None:
    """Samples with the condition at null; None where the generator never drops it (modality)."""
    if contrast.label in study.inference.parts.dit.spec.never_dropped:
        return None
    return study.generate(bases_of(study, contrast), null=[contrast.label])


def reader_of(study: Study, contrast: Contrast) -> tuple[Reader | None, str]:
    """A held-out probe of the contrast on real scans of the same contrast and kind, and why there is none."""
    # A probe of IDH1 sees gliomas alone, else it might tell the disease instead; one of the contrast sees them all.
    among = {k: contrast.fixed[k] for k in ("disease", "modality") if k in contrast.fixed}
    if contrast.label != "modality":
        among.setdefault("modality", "T1")
    reader = study.readers.of(contrast.label, among, contrast.words)
    where = among.get("modality", "any contrast")
    return reader, "" if reader else f"fewer than five real subjects of {' or '.join(contrast.words)} in {where}"


def readable(study: Study, contrast: Contrast) -> tuple[Reader | None, str]:
    """The held-out probe of the contrast; without one, why nobody at all can read it, or nothing when the shipped
    probe can: brains that nobody can read need not be drawn.
    """
    reader, reason = reader_of(study, contrast)
    return reader, reason if reader is None and _shipped(study, contrast) is None else ""


def shipped_names(study: Study, contrast: Contrast, latents: np.ndarray) -> np.ndarray | None:
    """What the checkpoint's own probe says of samples (m,N,C), among the contrast's words; None where it has no probe
    of them in that kind of scan.
    """
    probe = _shipped(study, contrast)
    if probe is None:
        return None
    shares = probe.probabilities(latents.reshape(len(latents), -1))
    columns = [probe.classes.index(w) for w in contrast.words]
    return np.array(contrast.words)[shares[:, columns].argmax(1)]


def _shipped(study: Study, contrast: Contrast) -> LinearProbe | None:
    probe, asked_in = study.shipped_probe(contrast.label), contrast.fixed.get("modality", "T1")
    if probe is None or not all(w in probe.classes for w in contrast.words):
        return None
    return probe if probe.is_for(asked_in) else None
