"""Forecasts against the real follow-ups of held-out phantoms (paper, section 3.4).

The ventricle probe reads the change in the forecast and in the real follow-up. The ratio of their slopes says how much
of the true change a forecast makes: over the true change of the phantom's ventricles (ml per ml), and over time
(ml per year, the paper's kind of slope). The baseline to beat is a linear regression of the latents' change.
"""

from __future__ import annotations

import numpy as np
import torch

from braing3n_core.generation.forecast import ForecastOptions, change_scale, forecast
from braing3n_core.models.conditions import ConditionBatch

from ..conditions import conditions_of
from ..loop import autocast
from ..store import Record
from ..train_forecaster import visit_pairs
from .bench import Bench, bench, show
from .metrics.change import slope


@torch.no_grad()
def predict(table: Bench, baseline: torch.Tensor, record: Record, horizon_years: float, samples: int) -> torch.Tensor:
    """Mean forecast latents (1200,C) of one scan, and its prior mean alone when ``samples`` is 0."""
    model = table.forecaster

    def conditions(horizons: list[float]) -> ConditionBatch:
        return conditions_of([record] * len(horizons), model.spec, horizon_years=horizons).to(table.device)

    if samples == 0:
        if model.prior is None:
            raise ValueError("This forecaster has no prior to compare with.")
        change = model.prior.mean(conditions([horizon_years]), baseline[None])[0]
        return baseline + change_scale(horizon_years) * change

    def velocity(x: torch.Tensor, t: torch.Tensor, conds: list[ConditionBatch]) -> torch.Tensor:
        rows = ConditionBatch.cat(conds)
        with autocast(table.device, "bfloat16"):
            return model(x, t.to(x), rows, baseline.expand(len(x), -1, -1))

    options = ForecastOptions(samples=samples, shift=1.0)
    return forecast(velocity, baseline, [horizon_years], conditions, options)[0].mean(0)  # type: ignore[arg-type]


def evaluate(table: Bench, count: int, samples: int = 4) -> list[tuple[str, object]]:
    """Slopes over ``count`` held-out forward pairs."""
    store = table.store
    pairs = visit_pairs(store.records)
    forward = torch.nonzero(pairs.horizon_years > 0).flatten()
    forward = forward[torch.linspace(0, len(forward) - 1, min(count, len(forward))).long()]
    before, after = pairs.baseline[forward].tolist(), pairs.follow_up[forward].tolist()
    horizon = pairs.horizon_years[forward].numpy()
    z_before, _ = table.encode(before)
    z_after, _ = table.encode(after)
    probe = table.panel.probe("ventricle_volume")

    def ventricles(latents: torch.Tensor) -> np.ndarray:
        return probe.scores(latents.flatten(1).numpy())[:, 0]

    records = [store.records[i] for i in before]
    forecasts = {
        name: torch.stack([
            predict(table, z.to(table.device), r, float(h), n).cpu()
            for z, r, h in zip(z_before, records, horizon, strict=True)
        ])
        for name, n in (("flow of change", samples), ("linear regression", 0))
    }
    volumes = [np.array([store.records[i]["truth"]["ventricles_ml"] for i in index]) for index in (before, after)]
    truth = volumes[1] - volumes[0]
    real = ventricles(z_after) - ventricles(z_before)
    rows: list[tuple[str, object]] = [
        ("pairs", len(before)),
        ("real follow-up: slope on true change", slope(truth, real)),
        ("real follow-up: r with true change", float(np.corrcoef(truth, real)[0, 1])),
        ("real follow-up: ml per year", slope(horizon, real)),
    ]
    for name, latents in forecasts.items():
        read = ventricles(latents) - ventricles(z_before)
        rows += [
            (f"{name}: slope on true change", slope(truth, read)),
            (f"{name}: slope over the real one", slope(truth, read) / slope(truth, real)),
            (f"{name}: r with true change", float(np.corrcoef(truth, read)[0, 1])),
            (f"{name}: ml per year over the real one", slope(horizon, read) / slope(horizon, real)),
        ]
    return rows


if __name__ == "__main__":
    BENCH, OPTIONS = bench(__doc__ or "")
    show(evaluate(BENCH, OPTIONS.count), OPTIONS.json)
