"""Linear probes: a dot product with an interval, and whether the scan can be trusted to it (paper, "Probing").

Legend: N tokens, C latent channels, D encoder width, F features (N*C for ``latents``, D for ``embedding``), K outputs,
R principal components, B rows. No torch. Fitting lives in ``training/fit_linear.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import CheckpointError, RequestError
from .schema import Reading

FEATURES: tuple[str, ...] = ("latents", "embedding")
"""``latents``: the flattened standardised latents (N*C). ``embedding``: the mean token (D), the paper's protocol."""


@dataclass(frozen=True)
class LinearProbe:
    """One clinical variable as a linear read-out.

    kind: ``regression`` (K = 1) or ``classification`` (K = number of classes, or 1 for the log-odds of the second of
    two). features: one of :data:`FEATURES`. weights: (K,F) on raw features. bias: (K,).
    modalities: contrasts it was fitted on; empty means every one.
    half_width: of the split-conformal interval at ``level``, in ``unit``. temperature: of the calibrated softmax.
    quality: metric, value and the data it was measured on.
    """

    task: str
    kind: str
    features: str
    weights: np.ndarray
    bias: np.ndarray
    classes: tuple[str, ...] = ()
    unit: str = ""
    level: float = 0.9
    half_width: float = 0.0
    temperature: float = 1.0
    modalities: tuple[str, ...] = ()
    quality: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.classes)
        outputs = {"regression": {1}, "classification": {count, 1} if count == 2 else {count}}.get(self.kind, set())
        wrong = self.weights.ndim != 2 or self.bias.shape != self.weights.shape[:1]
        if wrong or self.features not in FEATURES or self.weights.shape[0] not in outputs:
            raise CheckpointError(
                "probe.shape", f"The probe {self.task!r} ({self.kind} on {self.features}, {len(self.classes)} classes) "
                f"has weights {self.weights.shape} and bias {self.bias.shape}.", "Fit and save it again.",
            )

    def is_for(self, modality: str) -> bool:
        """Whether it was fitted on scans of this contrast."""
        return not self.modalities or modality in self.modalities

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Raw outputs (..., K) of features (..., F): the value of a regression, the logits of a classification."""
        if features.shape[-1] != self.weights.shape[1]:
            raise RequestError(
                "probe.features", f"The probe {self.task!r} reads {self.weights.shape[1]} features, "
                f"got {features.shape[-1]}.", "Use the probes that were fitted on this tokenizer.",
            )
        return np.asarray(features @ self.weights.T.astype(np.float32), dtype=np.float64) + self.bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Calibrated class probabilities (..., len(classes)) of features (..., F)."""
        return softmax(two_sided(self.scores(features)) / self.temperature)

    def read(self, features: np.ndarray) -> Reading:
        """The reading of one scan's features (F,)."""
        if self.kind == "regression":
            value = float(self.scores(features)[0])
            return Reading(
                self.task, value, self.unit, (value - self.half_width, value + self.half_width), self.level,
                quality=dict(self.quality),
            )
        shares = dict(zip(self.classes, (float(p) for p in self.probabilities(features)), strict=True))
        best = max(shares, key=lambda name: shares[name])
        return Reading(self.task, best, level=self.level, probabilities=shares, quality=dict(self.quality))


@dataclass(frozen=True)
class Familiarity:
    """How far features lie from the training data: Mahalanobis distance in a principal subspace, and distance off it.

    features: one of :data:`FEATURES`. mean: (F,). components: (R,F) orthonormal. scales: (R,) standard deviations,
    shrunk towards their common value.
    residual_scale: root mean square distance from the subspace of held-out training scans.
    limit: the 99th percentile of the distance of held-out training scans.
    quantiles: (Q,) of that distance from 0 to 100 %, evenly; None in checkpoints that do not have them.
    """

    features: str
    mean: np.ndarray
    components: np.ndarray
    scales: np.ndarray
    residual_scale: float
    limit: float
    quantiles: np.ndarray | None = None

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Distance (...) of features (..., F); about 1.4 for a typical scan (two unit terms)."""
        centred = np.asarray(features, dtype=np.float32) - self.mean
        inside = (centred @ self.components.T).astype(np.float64)
        outside = np.maximum(np.square(centred, dtype=np.float64).sum(-1) - np.square(inside).sum(-1), 0)
        return np.sqrt(np.square(inside / self.scales).mean(-1) + outside / self.residual_scale**2)

    def score(self, features: np.ndarray) -> np.ndarray:
        """Distance in units of the limit: above 1.0 is out of distribution."""
        return self.distance(features) / self.limit

    def percentile(self, distance: float) -> float | None:
        """Percent of the held-out training scans that lie nearer than ``distance``; None where it is not known."""
        if self.quantiles is None:
            return None
        return float(np.interp(distance, self.quantiles, np.linspace(0, 100, len(self.quantiles))))


@dataclass(frozen=True)
class ProbePanel:
    """All probes of a checkpoint, and the test of whether a scan resembles what they were fitted on."""

    probes: tuple[LinearProbe, ...]
    familiarity: Familiarity | None = None

    def read(self, latents: np.ndarray, embedding: np.ndarray, modality: str | None = None) -> list[Reading]:
        """One reading per probe from standardised latents (N,C) and embedding (D,).

        modality: leaves out the probes that were not fitted on it; None reads all.
        """
        features = {
            "latents": np.asarray(latents, dtype=np.float32).reshape(-1),
            "embedding": np.asarray(embedding, dtype=np.float32).reshape(-1),
        }
        far: dict[str, Any] = {}
        if self.familiarity is not None:
            distance = float(self.familiarity.distance(features[self.familiarity.features]))
            score = distance / self.familiarity.limit
            far = {
                "ood_score": score, "in_distribution": score <= 1.0,
                "ood_percentile": self.familiarity.percentile(distance),
            }
        return [
            dataclasses.replace(probe.read(features[probe.features]), **far)
            for probe in self.probes
            if modality is None or probe.is_for(modality)
        ]

    def probe(self, task: str) -> LinearProbe:
        """The probe of ``task``. Raises RequestError when there is none."""
        for probe in self.probes:
            if probe.task == task:
                return probe
        known = ", ".join(p.task for p in self.probes) or "none"
        raise RequestError("probe.task", f"There is no probe {task!r}.", f"Known probes: {known}.")

    def save_arrays(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(config, arrays) for a checkpoint of kind ``probes``, to be saved with dtype ``keep``.

        Matrices are float16 of a row's largest value, which keeps small ridge weights out of the subnormal range.
        """
        arrays: dict[str, np.ndarray] = {}
        for probe in self.probes:
            _pack(arrays, f"{probe.task}.weights", probe.weights)
            arrays[f"{probe.task}.bias"] = probe.bias.astype(np.float32)
        config: dict[str, Any] = {"probes": [_plain(p, "weights", "bias") for p in self.probes], "familiarity": None}
        if self.familiarity is not None:
            model = self.familiarity
            _pack(arrays, "familiarity.mean", model.mean[None])
            _pack(arrays, "familiarity.components", model.components)
            arrays["familiarity.scales"] = model.scales.astype(np.float32)
            if model.quantiles is not None:
                arrays["familiarity.quantiles"] = model.quantiles.astype(np.float32)
            config["familiarity"] = _plain(model, "mean", "components", "scales", "quantiles")
        return config, arrays

    @classmethod
    def from_arrays(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ProbePanel:
        """The panel back from :meth:`save_arrays`. Raises CheckpointError when a part is missing."""
        try:
            probes = [_probe(entry, arrays) for entry in config["probes"]]
            model = config.get("familiarity")
            if model is not None:
                model = Familiarity(
                    **model, mean=_unpack(arrays, "familiarity.mean")[0], scales=arrays["familiarity.scales"],
                    components=_unpack(arrays, "familiarity.components"),
                    quantiles=arrays.get("familiarity.quantiles"),
                )
        except (KeyError, TypeError) as error:
            raise CheckpointError("probe.checkpoint", f"The probes lack or do not know {error}.", "Fit them again.") \
                from error
        return cls(tuple(probes), model)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def two_sided(scores: np.ndarray) -> np.ndarray:
    """Logits (..., K); the log-odds (..., 1) of a two-class probe become (..., 2)."""
    return np.concatenate([np.zeros_like(scores), scores], axis=-1) if scores.shape[-1] == 1 else scores


def _probe(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> LinearProbe:
    entry = {**entry, "classes": tuple(entry["classes"]), "modalities": tuple(entry["modalities"])}
    task = entry["task"]
    return LinearProbe(**entry, weights=_unpack(arrays, f"{task}.weights"), bias=arrays[f"{task}.bias"])


def _plain(item: Any, *leave_out: str) -> dict[str, Any]:
    names: Iterable[str] = (f.name for f in dataclasses.fields(item) if f.name not in leave_out)
    return {name: getattr(item, name) for name in names}


def _pack(arrays: dict[str, np.ndarray], name: str, matrix: np.ndarray) -> None:
    largest = np.abs(matrix).max(axis=1, keepdims=True).astype(np.float32)
    scale = np.where(largest > 0, largest, np.float32(1))
    arrays[name] = (matrix / scale).astype(np.float16)
    arrays[f"{name}.scale"] = scale


def _unpack(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return arrays[name].astype(np.float32) * arrays[f"{name}.scale"]
