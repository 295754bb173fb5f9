"""The two edits of a real scan, composed: conditions, latents, decoded change, rendering, what the probes then read.

Counterfactual: FlowEdit from the scan's own latents. Forecast: the ensemble's mean change per horizon.
Legend: N = 1200 tokens, C latent channels, H horizons, S samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .calibration import Calibration
from .checking import Vocabularies
from .conditioning import contrasts, effects, forecast_conditions, latent_probes, source_conditions
from .generation.counterfactual import Edit, EditOptions
from .generation.counterfactual import counterfactual as edit_latents
from .generation.forecast import BRIDGE, ForecastOptions, forecast_bridge
from .generation.forecast import forecast as forecast_latents
from .generation.guidance import Contrast, Guidance
from .generation.render import ensemble_statistics
from .inference import Inference
from .outcomes import Counterfactual, Encoded, Forecast, ForecastPoint, Rendered, Uncertainty
from .probes import ProbePanel
from .progress import Cancel, Progress, part
from .rendering import Renderer
from .schema import Conditions, CounterfactualRequest, ForecastRequest, Reading

RAW = Calibration()
INTERVAL = (5.0, 95.0)
"""Percentiles over the samples of a forecast."""


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """What an edit needs at hand. decoded: the scan's own latents decoded (X,Y,Z)."""

    inference: Inference
    panel: ProbePanel
    encoded: Encoded
    renderer: Renderer
    decoded: np.ndarray
    progress: Progress
    cancel: Cancel | None = None

    @cached_property
    def readings(self) -> list[Reading]:
        """Of the scan itself, by all probes."""
        return self.panel.read(self.encoded.latents, self.encoded.embedding, _modality(self))

    def read(self, latents: np.ndarray) -> list[Reading]:
        """The latent probes on any latents (N,C)."""
        return latent_probes(self.panel).read(latents, self.encoded.embedding, _modality(self))

    def render(self, latents: np.ndarray, rendering: str) -> Rendered:
        """Latents (N,C) as images in both grids."""
        if rendering == "full":
            return self.renderer.full(self.inference.decode(latents))
        if latents is self.encoded.latents:
            return self.renderer.residual(self.decoded, self.decoded)
        return self.renderer.residual(self.inference.decode(latents), self.decoded)


def counterfactual(bench: Bench, request: CounterfactualRequest, vocabularies: Vocabularies) -> Counterfactual:
    """Edit the scan towards ``request.target``. An empty target is the null edit: the scan itself."""
    source, read = source_conditions(request.source, _modality(bench), bench.readings, vocabularies)
    asked = request.target.known()
    target = source.replace(**asked)
    latents = bench.encoded.latents
    if target != source:
        latents = _edited_latents(bench, request, source, target)
    bench.progress(0.75, "Rendering")
    rendered = bench.render(latents, request.rendering)
    before, after = bench.read(bench.encoded.latents), bench.read(latents)
    return Counterfactual(rendered, latents, source, target, read, effects(before, after, asked))


def guided_edit(
    run: Inference, source: Mapping[str, Any], target: Mapping[str, Any], common: float,
    scales: Mapping[str, float] | None = None,
) -> Edit:
    """From conditions to conditions, with factored guidance (:func:`conditioning.contrasts`)."""

    def batch(conditions: Mapping[str, Any]) -> Any:
        return run.conditions("dit", [conditions])

    found = contrasts(source, target, scales or {}, common, run.parts.dit.spec.scalars)
    return Edit(batch(source), batch(target), [Contrast(batch(c), Guidance(scale)) for c, scale in found])


def _edited_latents(
    bench: Bench, request: CounterfactualRequest, source: Conditions, target: Conditions
) -> np.ndarray:
    import torch

    run = bench.inference
    before, after = dataclasses.asdict(source), dataclasses.asdict(target)
    edit = guided_edit(run, before, after, request.guidance_scale, request.guidance_scales)
    options = EditOptions(
        request.strength, request.num_steps, seed=request.seed, method=request.method, integrator=request.sampler
    )
    start = run.latents_tensor(bench.encoded.latents)[None]
    with torch.inference_mode():
        edited = edit_latents(
            run.velocity("dit"), start, edit, options, progress=part(bench.progress, 0.0, 0.75), cancel=bench.cancel
        )
    result: np.ndarray = edited[0].cpu().numpy()
    return result


def forecast(
    bench: Bench, request: ForecastRequest, vocabularies: Vocabularies, calibration: Calibration = RAW
) -> Forecast:
    """Move the scan to each horizon. calibration: the checkpoint's own. A forecaster without context is a bridge."""
    conditions, read = forecast_conditions(request, bench.readings, vocabularies)
    samples = _forecast_latents(bench, request, conditions, calibration.gain)
    points = []
    for i, horizon in enumerate(request.horizons_years):
        bench.progress(0.7 + 0.2 * i / len(samples), f"Rendering {horizon:g} years")
        _check(bench)
        points.append(_point(bench, request, horizon, samples[i], calibration))
    return Forecast(
        tuple(points), tuple(bench.read(bench.encoded.latents)), conditions, read,
        _uncertainty(bench, request, samples), calibration,
    )


def _forecast_latents(
    bench: Bench, request: ForecastRequest, conditions: dict[str, Any], gain: float
) -> np.ndarray:
    """Latents (H,S,N,C), float32. The paper's bridge is deterministic, so that one sample is all there is of it."""
    import torch

    run = bench.inference
    baseline = run.latents_tensor(bench.encoded.latents)
    progress = part(bench.progress, 0.0, 0.7)

    def at(horizons: Sequence[float]) -> Any:
        return run.conditions("forecaster", [{**conditions, "horizon_years": h} for h in horizons])

    with torch.inference_mode():
        if run.reads_baseline("forecaster"):
            guidance = Guidance(request.guidance_scale)
            options = ForecastOptions(
                request.samples, request.num_steps, request.seed, request.sampler, gain=gain, guidance=guidance
            )
            result = forecast_latents(
                run.velocity("forecaster", baseline), baseline, request.horizons_years, at, options,
                without=(lambda horizons: at(horizons).null()) if guidance.scale != 1 else None,
                progress=progress, cancel=bench.cancel,
            )
        else:
            options = dataclasses.replace(BRIDGE, gain=gain)  # the paper's own steps, whatever the request's
            result = forecast_bridge(
                run.velocity("forecaster"), baseline, request.horizons_years, at, options,
                progress=progress, cancel=bench.cancel,
            )
    latents: np.ndarray = result.cpu().numpy()
    return latents


def _point(
    bench: Bench, request: ForecastRequest, horizon: float, samples: np.ndarray, calibration: Calibration
) -> ForecastPoint:
    mean = bench.encoded.latents if horizon == 0 else samples.mean(axis=0)
    readings = tuple(bench.read(mean))
    found = _spread(bench, samples)
    spread = {
        r.task: calibration.widen(r.task, r.value, found[r.task])
        for r in readings if r.task in found and isinstance(r.value, float)
    }
    raw, raw_spread = readings, spread
    if not calibration.is_raw:
        untouched = bench.encoded.latents + (samples - bench.encoded.latents) / np.float32(calibration.gain)
        raw, raw_spread = tuple(bench.read(untouched.mean(axis=0))), _spread(bench, untouched)
    return ForecastPoint(horizon, bench.render(mean, request.rendering), mean, readings, spread, raw, raw_spread)


def _spread(bench: Bench, samples: np.ndarray) -> dict[str, tuple[float, float]]:
    """By task of a number: 5-95 % of what the probes read in samples (S,N,C)."""
    values: dict[str, list[float]] = {}
    for sample in samples:
        for reading in bench.read(sample):
            if isinstance(reading.value, float):
                values.setdefault(reading.task, []).append(reading.value)
    return {task: _percentiles(v) for task, v in values.items()}


def _uncertainty(bench: Bench, request: ForecastRequest, samples: np.ndarray) -> Uncertainty | None:
    """The spread at the furthest horizon: the one map that costs a decoding of every sample."""
    furthest = int(np.argmax(np.abs(request.horizons_years)))
    if not request.uncertainty or samples.shape[1] < 2 or request.horizons_years[furthest] == 0:
        return None

    def decoded() -> Any:
        for k, sample in enumerate(samples[furthest]):
            _check(bench)
            bench.progress(0.9 + 0.1 * k / len(samples[furthest]), "Spread of the samples")
            yield bench.inference.decode(sample)

    native, atlas = bench.renderer.map(ensemble_statistics(decoded())[1])
    return Uncertainty(request.horizons_years[furthest], native, atlas)


def _percentiles(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)


def _modality(bench: Bench) -> str:
    return bench.encoded.preprocessed.volume.modality or "T1"


def _check(bench: Bench) -> None:
    if bench.cancel is not None:
        bench.cancel.check()
