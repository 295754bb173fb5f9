"""What every table shares: the held-out store, the checkpoint, how much to compute, and what is kept between runs.

Everything goes through the product's own inference, so that the report is about what users run. Encodings and generated
latents are kept under ``OUT/cache``, by the checkpoint's ids.

Legend: n scans, m samples, N = 1200 tokens, C latent channels, D encoder width.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from braing3n_core.drawing import carry
from braing3n_core.generation.sampling import micro_batches
from braing3n_core.inference import Inference
from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.probes import LinearProbe
from braing3n_core.schema import GUIDANCE_SCALE, CounterfactualRequest, GenerateRequest

from ..latents import LatentSet
from ..store import Record, Store
from .features import Features
from .public_encoders import PublicEncoder
from .readers import Readers, of_common_ages
from .reconstructors import Reconstructor
from .scans import RealScans

DRAWN_TOGETHER = 4
"""Samples in one call of the network: more are no faster on a processor, and take memory."""
CONDITIONS = ("disease", "sex", "age_years", "modality", "site", "idh1")


@dataclass(frozen=True)
class Settings:
    """How much to compute. scans: of the store, at most (0: all); samples: an arm; contrasts: of the fidelity table;
    pairs: of visits; seed: of noise. Brains are drawn as users draw them: by the sampler of ``braing3n generate``, with
    its guidance.
    """

    scans: int = 0
    samples: int = 64
    steps: int = GenerateRequest.num_steps
    sampler: str = GenerateRequest.sampler
    guidance_scale: float | None = GenerateRequest.guidance_scale
    guide_numbers: bool = False
    exact_guidance: bool = False
    sweep: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    volumes: int = 60
    fidelity: int = 100
    contrasts: tuple[str, ...] = ("T1", "T1C", "T2", "FLAIR")
    halves: int = 20
    pairs: int = 100
    forecast_samples: int = 8
    forecast_steps: int = 6
    bridge_steps: int = 100
    edits: int = 24
    edit_steps: int = 12
    edit_guidance: float = CounterfactualRequest.guidance_scale
    cnn_epochs: int = 30
    bootstrap: int = 1000
    seed: int = 0

    def drawing(self, scale: float | None) -> list[object]:
        """What a drawn brain depends on but for checkpoint and conditions: a part of every key that keeps one."""
        return [self.steps, self.sampler, scale, self.guide_numbers, self.exact_guidance, self.seed]


QUICK = Settings(
    samples=3, steps=2, sweep=(1.0, 2.0), volumes=2, fidelity=4, contrasts=("T1", "FLAIR"), halves=2, pairs=4,
    forecast_samples=2, forecast_steps=2, bridge_steps=2, edits=2, edit_steps=2, cnn_epochs=1, bootstrap=40,
)
"""Every table whole, no number worth reading: for continuous integration."""


@dataclass(frozen=True, eq=False)
class Study:
    """store: held-out scans; label: what they are, in words; out: the report's folder; training: latents that the
    generator learnt from (n,N*C) with their subjects, for the memorisation audit; extractors: of the fidelity table;
    bridge: a forecaster of the paper's kind, beside the checkpoint's own; encoders: published ones with the user's
    weights; reconstructors: further rows of the reconstruction table; judges: latents of further real scans that the
    generator never saw, on which held-out probes are fitted (else on the evaluated ones).
    """

    store: Store | RealScans
    label: str
    inference: Inference
    out: Path
    settings: Settings = field(default_factory=Settings)
    training: tuple[np.ndarray, np.ndarray] | None = None
    extractors: tuple[Features, ...] = ()
    bridge: Inference | None = None
    encoders: tuple[PublicEncoder, ...] = ()
    reconstructors: tuple[Reconstructor, ...] = ()
    judges: LatentSet | None = None

    @property
    def pictures(self) -> Path:
        return self.out / "pictures"

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What every finished table must have been computed from to be kept."""
        return {"checkpoint": self.ids, "records": digest(self.store.records), "label": self.label,
                "settings": asdict(self.settings)}

    def fingerprint_of(self, table: str) -> dict[str, Any]:
        """The same with what this table alone is computed from besides."""
        beside: dict[str, Any] = {
            "memorisation": None if self.training is None else len(self.training[0]),
            "fidelity": [e.name for e in self.extractors], "encoders": [e.source for e in self.encoders],
            "bottleneck": [r.id for r in self.reconstructors],
            **dict.fromkeys(("controllability", "guidance", "counterfactual"), self._judged_by),
            "truncation": [self._judged_by, *(e.name for e in self.extractors)],
            "longitudinal": [
                None if self.bridge is None else self.bridge.parts.checkpoint("forecaster").id,
                self.inference.parts.checkpoint("forecaster").metrics.get("calibration")
                if self.inference.parts.has("forecaster") else None,  # its id does not know the calibration
            ],
        }
        return {**self.fingerprint, "beside": beside.get(table)}

    @property
    def _judged_by(self) -> str | None:
        return None if self.judges is None else digest(self.judges.records)

    @property
    def drawn_how(self) -> str:
        """How brains are drawn, in words."""
        config = self.inference.parts.dit.config
        noise = ", ".join(f"{size:g} in {contrast}" for contrast, size in config.noise_scales.items()) or "1"
        colour = " in the colour of scans" if config.noise_colour else ""
        s = self.settings
        asked = "" if s.exact_guidance else " asked at every second evaluation"
        guidance = guidance_in_words(config.disease_guidance, s.guidance_scale)
        parts = ", ".join(f"{a:g} and {b:g} in {contrast}" for contrast, (a, b) in config.reweighting.items())
        reweighted = f", put together from common and specific parts ({parts})" if parts else ""
        return f"guidance {guidance}{asked}, {s.steps} steps of {s.sampler}, noise of size {noise}{colour}{reweighted}"

    @cached_property
    def ids(self) -> dict[str, str]:
        """The ids of the checkpoint's parts."""
        parts = self.inference.parts
        return {kind: parts.checkpoint(kind).id for kind in parts.kinds}

    @cached_property
    def chosen(self) -> np.ndarray:
        """Rows of the store that are used: all, or the first ``scans``."""
        count = self.settings.scans
        return np.arange(len(self.store) if not count else min(count, len(self.store)))

    @cached_property
    def records(self) -> list[Record]:
        """Of the chosen rows, in order."""
        return [self.store.records[i] for i in self.chosen]

    @cached_property
    def subjects(self) -> np.ndarray:
        return np.array([str(r["subject"]) for r in self.records])

    def where(self, **labels: Any) -> np.ndarray:
        """Rows of :attr:`records` with these labels."""
        keep = [all(r.get(k) == v for k, v in labels.items()) for r in self.records]
        return np.flatnonzero(keep)

    def first_visits(self, modality: str = "T1") -> np.ndarray:
        """One row a subject: the earliest visit that has the contrast."""
        first: dict[str, int] = {}
        for i in sorted(self.where(modality=modality), key=lambda i: (visit_order(self.records[i]["visit"]), i)):
            first.setdefault(str(self.records[i]["subject"]), int(i))
        return np.array(sorted(first.values()), int)

    def column(self, path: str) -> np.ndarray:
        """A label of every record (n,), dotted for nested ones; None where it is missing."""
        return np.array([follow(r, path) for r in self.records], dtype=object)

    def volume(self, row: int) -> np.ndarray:
        """The z-scored scan (X,Y,Z) of a row."""
        return self.store.zscored([int(self.chosen[row])])[0, 0].numpy()

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Latents (N,C) as a z-scored volume (X,Y,Z)."""
        return self.inference.decode(np.asarray(latents, np.float32))

    @cached_property
    def encodings(self) -> tuple[np.ndarray, np.ndarray]:
        """Latents (n,N,C) and embeddings (n,D), float32, of every chosen scan."""
        key = [self.ids["tokenizer"], self.ids["encoder"], self.fingerprint["records"], len(self.chosen)]
        path = self.cache_path("encodings", key)
        if not path.is_file():
            ticker = Ticker("encoding", len(self.chosen))
            made = []
            for row in range(len(self.chosen)):
                tokens, latents = self.inference.encode(self.volume(row))
                made.append((latents, tokens.mean(0)))
                ticker(row + 1)
            latents, embeddings = (np.stack(part) for part in zip(*made, strict=True))
            save_arrays(path, latents=latents.astype(np.float16), embeddings=embeddings.astype(np.float32))
        with np.load(path) as found:
            return found["latents"].astype(np.float32), found["embeddings"]

    @property
    def latents(self) -> np.ndarray:
        return self.encodings[0]

    @property
    def embeddings(self) -> np.ndarray:
        return self.encodings[1]

    @cached_property
    def readers(self) -> Readers:
        """Held-out probes."""
        return Readers(LatentSet(torch.from_numpy(self.latents), self.records), self.judges)

    def generate(
        self, rows: Sequence[Record], scale: float | None = None, null: Sequence[str] = (), first: int = 0,
        truncation: float | None = None,
    ) -> np.ndarray:
        """Latents (m,N,C) float32, one sample a row of conditions. null: conditions set to the guidance null.

        Sample i starts at noise number ``first + i``: two calls with other conditions differ in those alone. Truncated
        are the same brains.
        """
        scale = self.settings.guidance_scale if scale is None else scale
        conditions = [{k: row.get(k) for k in CONDITIONS} for row in rows]
        if truncation is not None:
            mean = self.inference.mean_brain(self._given(conditions, null))
            whole = torch.from_numpy(self.generate(rows, scale, null, first)).to(mean)
            return mean.lerp(whole, truncation).cpu().numpy()
        key = [self.ids["dit"], conditions, list(null), first, *self.settings.drawing(scale)]
        path = self.cache_path("generated", key)
        if not path.is_file():
            ticker = Ticker("generating", len(rows))
            made = []
            for batch in micro_batches(len(rows), DRAWN_TOGETHER):
                made.append(self._draw(conditions[batch], scale, null, first + batch.start))
                ticker(batch.stop)
            save_arrays(path, latents=np.concatenate(made).astype(np.float16))
        with np.load(path) as found:
            return found["latents"].astype(np.float32)

    def _draw(self, rows: Sequence[Record], scale: float, null: Sequence[str], first: int) -> np.ndarray:
        run, settings, given = self.inference, self.settings, self._given(rows, null)
        start = run.source([str(row["modality"]) for row in rows], settings.seed, first)
        request = GenerateRequest(
            guidance_scale=scale, num_steps=settings.steps, sampler=settings.sampler,
            guide_numbers=settings.guide_numbers, exact_guidance=settings.exact_guidance,
        )
        return carry(run, given, start, request).cpu().numpy()

    def _given(self, rows: Sequence[Record], null: Sequence[str]) -> ConditionBatch:
        run = self.inference
        given = run.conditions("dit", [{k: row[k] for k in run.parts.dit.spec.names} for row in rows])
        return given.null(null) if null else given

    def shipped_probe(self, task: str) -> LinearProbe | None:
        """The checkpoint's own probe of ``task``; None where it has none."""
        parts = self.inference.parts
        if not parts.has("probes") or task not in [p.task for p in parts.probes.probes]:
            return None
        return parts.probes.probe(task)

    def bases(self, count: int, diseases: Sequence[str]) -> list[Record]:
        """``count`` records to take conditions from, spread over first visits with these diseases at ages that all of
        them have, else over all.
        """
        first = list(self.first_visits())
        ill = [i for i in first if self.records[i].get("disease") in diseases]
        rows = of_common_ages(self.records, ill, "disease") or first
        return [self.records[rows[int(i)]] for i in np.linspace(0, len(rows) - 1, count).round()] if rows else []

    def cache_path(self, kind: str, key: Any) -> Path:
        """Where what belongs to this key is kept."""
        return self.out / "cache" / f"{kind}-{digest(key)}.npz"


def digest(key: Any) -> str:
    """16 hex digits that are the same for the same key."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]


def guidance_in_words(by_disease: Mapping[str, float], asked: float | None = None) -> str:
    """``1.5``, or ``1 of HC, 2 of AD, else 1.5``."""
    own = [f"{scale:g} of {disease}" for disease, scale in by_disease.items()] if asked is None else []
    common = GUIDANCE_SCALE if asked is None else asked
    return f"{', '.join(own)}, else {common:g}" if own else f"{common:g}"


def follow(record: Record, path: str) -> Any:
    """A label by its dotted path; None when it is missing."""
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def spread(count: int, wanted: int) -> np.ndarray:
    """At most so many of the rows below ``count``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))


def visit_order(visit: Any) -> tuple[float, str]:
    """Visits in their order, whether they are counted (0, 1), numbered (ses-2, M06) or named."""
    digits = "".join(c for c in str(visit) if c.isdigit())
    return float(digits) if digits else 0.0, str(visit)


class Ticker:
    """A line on standard error every few seconds, with the time left."""

    def __init__(self, what: str, total: int, every_seconds: float = 10.0) -> None:
        self.what, self.total, self.every = what, total, every_seconds
        self.begin = self.last = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        left = (now - self.begin) * (self.total - done) / done
        print(f"  {self.what} {done}/{self.total}, {left / 60:.1f} min left", file=sys.stderr, flush=True)


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(path)
