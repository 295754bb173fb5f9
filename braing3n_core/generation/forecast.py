"""Forecasts in latent space: a flow of change (ours) and the paper's bridge (paper, "Longitudinal forecasting").

Flow of change. The network carries noise to the change per unit of time, ``x_1 = (z_f - z_b) / s(h)``, given the
baseline's tokens and the signed horizon h; so the horizon scales the answer, ``z_f = z_b + s(h) x_1``, and h = 0 is the
baseline exactly. # Deviation: ADR 9. The paper's bridge lets the velocity be read off x_t (slope 0.27).

Legend: N tokens, C latent channels, H horizons, S samples, R rows of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import RequestError
from ..progress import Cancel, Progress, part, silent
from .flow import DEFAULT_SHIFT
from .guidance import ConditionalVelocity, Contrast, Guidance, guide
from .sampling import integrate, micro_batches, opposed_noise, time_grid

ConditionsAt = Callable[[Sequence[float]], Any]
"""``conditions([h_1 .. h_R] years) -> condition batch of R rows``: everything is fixed but the horizon."""

YEARS_PER_UNIT = 10.0
"""Years of change that make one unit of ``x_1``: training and forecasting must agree on it."""


def change_scale(horizon_years: float) -> float:
    """``s(h)``: signed, linear, 0 at horizon 0; one unit is ten years."""
    return horizon_years / YEARS_PER_UNIT


@dataclass(frozen=True)
class ForecastOptions:
    """samples: size S of the ensemble. batch_rows: rows per call of the network, which bounds memory.

    gain: factor on the change, fitted on held-out subjects (1 is raw). guidance acts against ``without`` (see
    :func:`forecast`). Noise is shared over the horizons, so that each sample is one smooth trajectory, and comes in
    pairs of opposite sign, so that little of it is left in the mean of an even ensemble.
    """

    samples: int = 8
    num_steps: int = 6
    seed: int = 0
    method: str = "ab2"
    shift: float = DEFAULT_SHIFT
    gain: float = 1.0
    guidance: Guidance = Guidance()
    batch_rows: int = 8

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise RequestError("forecast.samples", f"At least one sample is needed, got {self.samples}.", "Use 1..32.")


def forecast(
    conditional: ConditionalVelocity,
    baseline: Tensor,
    horizons_years: Sequence[float],
    conditions: ConditionsAt,
    options: ForecastOptions | None = None,
    *,
    without: ConditionsAt | None = None,
    progress: Progress = silent,
    cancel: Cancel | None = None,
) -> Tensor:
    """Latents (H,S,N,C) of ``baseline`` (N,C) after each horizon; negative horizons look back.

    without: conditions to guide away from, as in :class:`Contrast`. Horizon 0 is the baseline bit for bit and costs
    nothing. The result lies on the baseline's device. Raises Cancelled between steps.
    """
    options = options or ForecastOptions()
    result = baseline.expand(len(horizons_years), options.samples, *baseline.shape).clone()
    noises = opposed_noise(options.samples, baseline.shape, options.seed).to(baseline)
    rows = [(i, k) for i, h in enumerate(horizons_years) if h != 0 for k in range(options.samples)]
    times = time_grid(options.num_steps, options.shift)
    for batch in micro_batches(len(rows), options.batch_rows):
        horizons = [horizons_years[i] for i, _ in rows[batch]]
        contrasts = [Contrast(without(horizons), options.guidance)] if without is not None else []
        change = integrate(
            guide(conditional, conditions(horizons), contrasts), noises[[k for _, k in rows[batch]]], times,
            options.method, cancel=cancel,
            progress=part(progress, batch.start / len(rows), batch.stop / len(rows)),
        )
        for (i, k), h, x_1 in zip(rows[batch], horizons, change, strict=True):
            result[i, k] = baseline + options.gain * change_scale(h) * x_1
    progress(1.0, "Forecast done")
    return result


# Unspecified in the paper: guidance of the bridge ("low"); off here.
BRIDGE = ForecastOptions(samples=1, num_steps=100, method="euler", shift=1.0)
"""The paper's preset: deterministic Euler, 100 steps, from the baseline itself."""


def forecast_bridge(
    conditional: ConditionalVelocity,
    baseline: Tensor,
    horizons_years: Sequence[float],
    conditions: ConditionsAt,
    options: ForecastOptions = BRIDGE,
    *,
    progress: Progress = silent,
    cancel: Cancel | None = None,
) -> Tensor:
    """The paper's forecast: latents (H,1,N,C) by integrating a :class:`BridgePath` velocity from ``baseline`` (N,C).

    As in the paper's maps, each forecast is taken relative to the horizon-0 sample, which removes the sampler's own
    noise floor; so horizon 0 is the baseline exactly.
    """
    horizons = [0.0, *horizons_years]
    times = time_grid(options.num_steps, options.shift)
    ends = []
    for batch in micro_batches(len(horizons), options.batch_rows):
        start = baseline.expand(batch.stop - batch.start, *baseline.shape)
        ends.append(integrate(
            guide(conditional, conditions(horizons[batch])), start, times, options.method, cancel=cancel,
            progress=part(progress, batch.start / len(horizons), batch.stop / len(horizons)),
        ))
    end = torch.cat(ends)
    result = baseline + options.gain * (end[1:] - end[:1])
    result[[i for i, h in enumerate(horizons_years) if h == 0]] = baseline
    return result[:, None]
