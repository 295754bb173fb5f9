"""What can be asked and what is answered: vocabularies, conditions, requests, results and the engine protocol.

Standard library only, so that every face (command line, Slicer, worker client) shares it without torch.
Each request is a frozen dataclass with ``to_dict``; :func:`request_from_dict` reads it back strictly.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .errors import RequestError
from .progress import Cancel, Progress, silent

MODALITIES: tuple[str, ...] = ("T1", "T1C", "T2", "FLAIR")
BIDS_SUFFIX: dict[str, str] = {"T1": "T1w", "T1C": "ce-GAD_T1w", "T2": "T2w", "FLAIR": "FLAIR"}
DISEASES: tuple[str, ...] = ("HC", "MCI", "AD", "PD", "GBM", "glioma", "ASD", "SCZ")  # the 8-way condition
SEXES: tuple[str, ...] = ("F", "M")
IDH1: tuple[str, ...] = ("wildtype", "mutant")
STAGES: tuple[str, ...] = ("dicom", "native", "defaced", "stripped", "bias-corrected", "registered")
BRAIN_BACKENDS: tuple[str, ...] = ("hd-bet", "mindgrab", "template", "mask", "none")
RENDERINGS: tuple[str, ...] = ("residual", "full")
SAMPLERS: tuple[str, ...] = ("euler", "midpoint", "heun", "ab2", "fireflow", "extrapolated")
EDIT_METHODS: tuple[str, ...] = ("flowedit", "midpoint", "fireflow", "sdedit")
AGE_RANGE_YEARS: tuple[float, float] = (5.0, 98.0)  # the corpus of the paper, Appendix A
GUIDANCE_SCALE = 1.5  # the paper's
CDR_VALUES: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Conditions:
    """The six conditions of the generator (paper, section 2).

    ``None`` means *unknown*: the metadata do not say. That is not the guidance null, which only the sampler uses.
    age in years; the words must be in the checkpoint's vocabularies.
    """

    disease: str | None = None
    sex: str | None = None
    age_years: float | None = None
    modality: str | None = None
    site: str | None = None
    idh1: str | None = None

    def known(self) -> dict[str, str | float]:
        """The conditions that are set, by name."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    def replace(self, **changes: Any) -> Conditions:
        """A copy with some conditions changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class PreprocessOptions:
    """How the input is brought onto the atlas grid.

    modality: one of :data:`MODALITIES`. stage: ``auto`` or one of :data:`STAGES`.
    brain: ``auto`` or one of :data:`BRAIN_BACKENDS`. mask: path of a brain mask in the input's grid.
    template: path of an atlas template on the SRI24 grid. n4: correct the bias field.
    """

    modality: str = "T1"
    stage: str = "auto"
    brain: str = "auto"
    mask: str | None = None
    template: str | None = None
    n4: bool = True


@dataclass(frozen=True)
class Request:
    """What every request on a scan carries. input: path of a NIfTI-1 or NRRD volume, or a DICOM series' folder."""

    input: str
    preprocess: PreprocessOptions = field(default_factory=PreprocessOptions)
    seed: int = 0


@dataclass(frozen=True)
class PreprocessRequest(Request):
    """Bring the scan onto the atlas grid."""


@dataclass(frozen=True)
class ExamineRequest(Request):
    """Say at which stage of preprocessing the scan is, with the evidence; nothing is done to it."""


@dataclass(frozen=True)
class EncodeRequest(Request):
    """Write the tokens (1200, D), the embedding (D,) and the latents (1200, C)."""


@dataclass(frozen=True)
class ProbeRequest(Request):
    """Read the clinical variables from the latents."""


@dataclass(frozen=True)
class ReconstructRequest(Request):
    """Encode and decode the scan: what the tokenizer keeps."""


@dataclass(frozen=True)
class CounterfactualRequest(Request):
    """Edit the scan's conditions. ``target`` holds only the conditions to change; ``source`` what is known.

    guidance_scale: factor on each changed class (1 is off); a number is what was asked for. guidance_scales: by name of
    a changed condition, a factor of its own instead. strength: share of the path that is edited, 0..1.
    rendering: ``residual`` keeps the patient's own voxels and adds the decoded change, ``full`` is the decoded volume.
    method: one of :data:`EDIT_METHODS`. ``flowedit`` needs no inversion; ``midpoint`` and ``fireflow`` carry the scan
    to noise and back; ``sdedit`` adds noise and removes it, and at strength 1 keeps nothing of the scan.
    sampler: one of :data:`SAMPLERS`, of ``flowedit`` and ``sdedit`` alone: an inversion is an integrator of its own.
    """

    target: Conditions = field(default_factory=Conditions)
    source: Conditions = field(default_factory=Conditions)
    guidance_scale: float = GUIDANCE_SCALE
    strength: float = 1.0
    num_steps: int = 12
    rendering: str = "residual"
    method: str = "flowedit"
    sampler: str = "euler"
    guidance_scales: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ForecastRequest(Request):
    """Move the scan in time. Horizons in years, positive forward. samples: size of the ensemble per horizon.

    ``None`` for age, sex or disease means: read it from the probes and say so in the result.
    uncertainty: also write the spread of the samples at the furthest horizon as a map. sampler: one of
    :data:`SAMPLERS`; a checkpoint that is the paper's bridge takes the paper's own steps instead.
    """

    horizons_years: tuple[float, ...] = (1.0, 2.0, 5.0)
    age_years: float | None = None
    sex: str | None = None
    disease: str | None = None
    cdr: float | None = None
    samples: int = 8
    num_steps: int = 6
    guidance_scale: float = 1.0
    rendering: str = "residual"
    uncertainty: bool = True
    sampler: str = "ab2"


@dataclass(frozen=True)
class GenerateRequest:
    """Draw new brains from noise under the given conditions.

    sampler: one of :data:`SAMPLERS`; the paper's is ``euler`` in 50 steps (ADR 18). guidance_interval: times from 0
    (noise) to 1 (brain) in which guidance acts. zero_star: CFG-Zero* guidance. guide_numbers: amplify the age too, as
    the paper does; without it guidance amplifies classes alone, and the age is the one that was asked for. noise_scale:
    size of the white noise that is carried to a brain, 1 the paper's; None is the checkpoint's own noise (ADR 23, 25).
    guidance_scale: 1 is off, 1.5 the paper's; None is the checkpoint's own for the disease asked for (ADR 26).
    exact_guidance: evaluate what guidance adds at every evaluation, as the paper does, not at every second (ADR 24).
    truncation: how much is kept of what sets a brain apart from the mean brain of its conditions, 0 for that mean
    itself; None is all of it, as in the paper (ADR 30). reweighting: weights of the common and the specific part that
    a brain is put together from after it was drawn; (1, 1) leaves it as it was drawn, as in the paper; None is the
    checkpoint's own for the contrast (ADR 31).
    """

    conditions: Conditions = field(default_factory=Conditions)
    count: int = 1
    seed: int = 0
    guidance_scale: float | None = None
    num_steps: int = 11
    sampler: str = "extrapolated"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    zero_star: bool = False
    guide_numbers: bool = False
    noise_scale: float | None = None
    exact_guidance: bool = False
    truncation: float | None = None
    reweighting: tuple[float, float] | None = None


REQUESTS: dict[str, type] = {
    "preprocess": PreprocessRequest,
    "examine": ExamineRequest,
    "encode": EncodeRequest,
    "probe": ProbeRequest,
    "reconstruct": ReconstructRequest,
    "counterfactual": CounterfactualRequest,
    "forecast": ForecastRequest,
    "generate": GenerateRequest,
}
AnyRequest = Request | GenerateRequest


@dataclass(frozen=True)
class Reading:
    """One probe's answer, never without how far to trust it.

    value: number (with unit) or class. interval: (low, high) at ``level`` for regressions, None for classes.
    probabilities: by class for classifications. quality: metric, value and the data it was measured on.
    in_distribution: whether the scan resembles the training data; ood_score: 1.0 is the limit; ood_percentile: share of
    training scans, each left out of its own model, that lie nearer (0-100; None where the checkpoint does not know).
    """

    task: str
    value: float | str
    unit: str = ""
    interval: tuple[float, float] | None = None
    level: float = 0.9
    probabilities: dict[str, float] | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    in_distribution: bool = True
    ood_score: float = 0.0
    ood_percentile: float | None = None


@dataclass(frozen=True)
class Effect:
    """What one probe reads before and after an edit. asked: whether the edit was asked to change this variable.

    Of a classification, word is the class that was asked for, else the one that gained most, and ``chance_before`` and
    ``chance_after`` are its probabilities. drift: change of the value in ``unit``, or of the probability of word.
    """

    task: str
    before: float | str
    after: float | str
    unit: str = ""
    asked: bool = False
    drift: float | None = None
    word: str = ""
    chance_before: float | None = None
    chance_after: float | None = None


@dataclass(frozen=True)
class Output:
    """One file of a result. role e.g. ``counterfactual``; space ``native`` or ``SRI24``; synthetic: made by a model."""

    role: str
    path: str
    space: str | None = None
    synthetic: bool = False
    horizon_years: float | None = None


@dataclass(frozen=True)
class Result:
    """What a run made: files, readings, the provenance that is also written beside them, and warnings to show."""

    kind: str
    outputs: tuple[Output, ...] = ()
    readings: tuple[Reading, ...] = ()
    effects: tuple[Effect, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class EngineProtocol(Protocol):
    """The one interface, near and far."""

    def capabilities(self) -> dict[str, Any]:
        """All that a face needs to build its form: vocabularies, ranges, verbs, device and why, checkpoint card."""
        ...

    def run(
        self, request: AnyRequest, out_dir: str | Path, *, progress: Progress = silent, cancel: Cancel | None = None
    ) -> Result:
        """Do the request and write its files into ``out_dir``."""
        ...


def nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """A hint naming the closest known word, for error messages."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def request_kind(request: AnyRequest) -> str:
    """The verb of a request."""
    return next(name for name, cls in REQUESTS.items() if type(request) is cls)


def request_to_dict(request: AnyRequest) -> dict[str, Any]:
    """JSON form: the fields and ``kind``."""
    return {"kind": request_kind(request), **dataclasses.asdict(request)}


def request_to_send(request: AnyRequest) -> dict[str, Any]:
    """The same for a worker, without options that are off by default and not asked for: so a worker of before there
    was such an option refuses those alone who ask for it.
    """
    plain = {f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
             for f in dataclasses.fields(request)}
    off = {name for name, value in plain.items() if value is None or value is False or value == {}}
    return {k: v for k, v in request_to_dict(request).items() if k not in off or v != plain[k]}


def request_from_dict(data: dict[str, Any]) -> AnyRequest:
    """Read a request strictly; an unknown kind or key names the nearest known one."""
    data = dict(data)
    kind = data.pop("kind", None)
    if kind not in REQUESTS:
        raise RequestError(
            "request.kind", f"Unknown request kind {kind!r}.",
            f"{nearest(str(kind), list(REQUESTS))}Known kinds: {', '.join(REQUESTS)}.",
        )
    return _build(REQUESTS[kind], data)


_NESTED: dict[str, type] = {
    "preprocess": PreprocessOptions, "target": Conditions, "source": Conditions, "conditions": Conditions,
}


def _build(cls: type, data: dict[str, Any]) -> Any:
    known = [f.name for f in dataclasses.fields(cls)]
    for key in data:
        if key not in known:
            raise RequestError(
                "request.unknown_key", f"{cls.__name__} has no field {key!r}.",
                f"{nearest(key, known)}Known fields: {', '.join(known)}.",
            )
    values = {k: _build(_NESTED[k], v) if k in _NESTED and isinstance(v, dict) else v for k, v in data.items()}
    for name in ("horizons_years", "guidance_interval", "reweighting"):
        if isinstance(values.get(name), list):
            values[name] = tuple(_number(v) for v in values[name])
    if isinstance(values.get("guidance_scales"), dict):
        values["guidance_scales"] = {k: _number(v) for k, v in values["guidance_scales"].items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise RequestError("request.fields", f"{cls.__name__}: {error}.", "Give every required field.") from error


def _number(value: Any) -> Any:
    """JSON's whole numbers as floats; anything else is left for the check to refuse."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def result_from_dict(data: dict[str, Any]) -> Result:
    """Read a result strictly, the inverse of :meth:`Result.to_dict`. Raises RequestError."""
    result = _build(Result, data)
    readings = [_build(Reading, {**reading, "interval": _pair(reading)}) for reading in result.readings]
    return dataclasses.replace(
        result,
        outputs=tuple(_build(Output, output) for output in result.outputs),
        readings=tuple(readings),
        effects=tuple(_build(Effect, effect) for effect in result.effects),
        warnings=tuple(result.warnings),
    )


def _pair(reading: dict[str, Any]) -> tuple[float, float] | None:
    """A reading's interval as a tuple, which JSON writes as a list."""
    interval = reading.get("interval")
    return None if interval is None else (interval[0], interval[1])
