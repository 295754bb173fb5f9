"""What an installation and a checkpoint can do, in words and numbers from which a face builds its form.

No weights are loaded, and where PyTorch is missing that is said instead of raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import __version__
from .checking import RANGES
from .errors import BrainG3NError
from .loading import Parts
from .outputs import SYNTHETIC
from .schema import (
    BRAIN_BACKENDS,
    CDR_VALUES,
    EDIT_METHODS,
    MODALITIES,
    RENDERINGS,
    REQUESTS,
    SAMPLERS,
    STAGES,
)

NEEDS: dict[str, tuple[str, ...]] = {
    "preprocess": (), "examine": (), "encode": ("encoder", "tokenizer"), "probe": ("encoder", "tokenizer", "probes"),
    "reconstruct": ("encoder", "tokenizer"), "counterfactual": ("encoder", "tokenizer", "dit"),
    "forecast": ("encoder", "tokenizer", "forecaster"), "generate": ("tokenizer", "dit"),
}
"""By verb: the parts of the checkpoint without which it cannot be done."""
_READ_FIRST = ("counterfactual", "forecast")
"""Verbs that ask the probes too, where the checkpoint has any."""


def vocabularies_of(parts: Parts, kind: str | None) -> dict[str, Sequence[str] | None]:
    """By condition of the part ``kind`` (dit or forecaster): its words, or None for a number."""
    if kind is None:
        return {}
    config = parts.checkpoint(kind).config
    words: dict[str, Sequence[str] | None] = {name: tuple(v) for name, v in config["categories"].items()}
    return {**words, **dict.fromkeys(config["scalars"])}


def describe(parts: Parts) -> dict[str, Any]:
    """The capabilities of this installation with this checkpoint, as JSON-able values."""
    words = {kind: _vocabularies(parts, kind) for kind in ("dit", "forecaster")}
    return {
        "version": __version__, "disclaimer": SYNTHETIC, "verbs": _verbs(parts), "modalities": list(MODALITIES),
        "stages": ["auto", *STAGES], "brain_backends": _brain_backends(), "renderings": list(RENDERINGS),
        "samplers": list(SAMPLERS), "edit_methods": list(EDIT_METHODS),
        "ranges": {name: list(span) for name, span in RANGES.items()}, "cdr_values": list(CDR_VALUES),
        "vocabularies": words, "guidance_scales": list(words["dit"]),
        "probes": _probes(parts), "checkpoint": card(parts), "device": _device(parts),
    }


def card(parts: Parts) -> dict[str, Any]:
    """The checkpoint set: folder, ids by part, first line of the card, licence."""
    opened = {kind: parts.checkpoint(kind) for kind in parts.kinds}
    first = next(iter(opened.values()), None)
    return {
        "name": parts.name, "folder": str(parts.folder), "ids": {kind: c.id for kind, c in opened.items()},
        "card": first.card.splitlines()[0].strip("#* ") if first else "", "licence": "Apache-2.0",
    }


def ids_of(parts: Parts, verb: str) -> dict[str, str]:
    """The id of every part that the verb uses, whatever else is loaded already."""
    more = ("probes",) if verb in _READ_FIRST and parts.has("probes") else ()
    return {kind: parts.checkpoint(kind).id for kind in sorted({*NEEDS[verb], *more})}


def runtime_facts(parts: Parts) -> dict[str, str]:
    """Device and precision with the reasons for both."""
    r = parts.runtime
    return {
        "device": r.device, "device_why": r.device_why, "precision": r.precision, "precision_why": r.precision_why,
    }


def _verbs(parts: Parts) -> dict[str, dict[str, Any]]:
    verbs = {}
    for verb in REQUESTS:
        missing = [kind for kind in NEEDS[verb] if not parts.has(kind)]
        why = f"the checkpoint has no {', '.join(missing)}" if missing else "all parts are there"
        verbs[verb] = {"available": not missing, "why": why}
    return verbs


def _vocabularies(parts: Parts, kind: str) -> dict[str, list[str] | None]:
    if not parts.has(kind):
        return {}
    return {name: None if w is None else list(w) for name, w in vocabularies_of(parts, kind).items()}


def _brain_backends() -> dict[str, dict[str, Any]]:
    try:
        from .preprocess.brain import extractors

        found = {name: e.available() for name, e in extractors().items()}
    except (ImportError, BrainG3NError) as error:
        found = {name: (False, str(error)) for name in BRAIN_BACKENDS if name not in ("mask", "none")}
    found |= {"mask": (True, "with a mask of your own"), "none": (True, "for scans that are already stripped")}
    return {name: {"available": usable, "why": why} for name, (usable, why) in found.items()}


def _probes(parts: Parts) -> list[dict[str, Any]]:
    if not parts.has("probes"):
        return []
    keep = ("task", "kind", "unit", "classes", "level", "quality", "modalities")
    return [{k: p[k] for k in keep if k in p} for p in parts.checkpoint("probes").config["probes"]]


def _device(parts: Parts) -> dict[str, Any]:
    try:
        facts = runtime_facts(parts)
    except BrainG3NError as error:
        return {"name": None, "why": f"{error.message} {error.hint}"}
    return {
        "name": facts["device"], "why": facts["device_why"], "precision": facts["precision"],
        "precision_why": facts["precision_why"],
    }
