"""From outcomes in memory to the files of a run, each image with what it is in words."""

from __future__ import annotations

import dataclasses
from typing import Any

from .outcomes import Counterfactual, Encoded, Forecast, ForecastPoint, Generated, Reconstruction, Rendered
from .outputs import OutputFolder
from .preprocess.pipeline import Preprocessed
from .schema import Output, Reading

UNIT = "the input's intensity"
DIFFERENCE = f"synthetic minus input, in {UNIT}; positive is brighter"


def write_preprocessed(folder: OutputFolder, preprocessed: Preprocessed) -> None:
    """The scan and its brain mask on the atlas grid, and the mask in the input's grid."""
    atlas = preprocessed.volume
    folder.image(
        atlas, Output("preprocessed", "", "SRI24"), "preproc", "The input on the SRI24 grid, brain only.", Units=UNIT
    )
    about = "Brain mask: 1 inside."
    folder.image(preprocessed.mask, Output("mask", "", "SRI24"), "brain", about)
    folder.image(preprocessed.native_mask, Output("mask", "", "native"), "brain", about)


def write_encoded(folder: OutputFolder, encoded: Encoded) -> None:
    """``desc-encoding.npz``: tokens (1200,D) float16, embedding (D,) and latents (1200,C) float32."""
    folder.arrays("encoding", "encoding", {
        "tokens": encoded.tokens.astype("float16"), "embedding": encoded.embedding, "latents": encoded.latents,
    })


def write_readings(folder: OutputFolder, readings: tuple[Reading, ...]) -> None:
    """``probes.json``."""
    folder.json("probes.json", "readings", {"readings": [dataclasses.asdict(r) for r in readings]})


def write_reconstruction(folder: OutputFolder, outcome: Reconstruction) -> None:
    """The decoded scan in both grids."""
    quality = {"mse_zscored_brain": outcome.mse, "psnr_db_brain": outcome.psnr_db}
    for space, volume in (("native", outcome.rendered.native), ("SRI24", outcome.rendered.atlas)):
        output = Output("reconstruction", "", space, synthetic=True)
        folder.image(volume, output, "reconstruction", "The input encoded and decoded.", Units=UNIT, Quality=quality)


def write_counterfactual(folder: OutputFolder, outcome: Counterfactual) -> None:
    """The edited scan and its difference in both grids, and ``effects.json``: every probe before and after."""
    conditions = {"source": outcome.source.known(), "target": outcome.target.known(), "read": list(outcome.read)}
    _write_rendered(folder, outcome.rendered, "counterfactual", "The input edited.", None, {"Conditions": conditions})
    folder.json("effects.json", "effects", {
        "conditions": conditions, "effects": [dataclasses.asdict(effect) for effect in outcome.effects],
        "drift": "change of the value, or of the probability of word: the class asked for, else the one that gained",
    })


def write_forecast(folder: OutputFolder, outcome: Forecast) -> None:
    """Each horizon's scan and difference in both grids, the spread of the samples, and ``forecast.json``."""
    conditions = {"conditions": outcome.conditions, "read": list(outcome.read)}
    for point in outcome.points:
        when = "later" if point.horizon_years >= 0 else "earlier"
        about = f"The input {abs(point.horizon_years):g} years {when}."
        _write_rendered(folder, point.rendered, "forecast", about, point.horizon_years, {"Conditions": conditions})
    if outcome.uncertainty is not None:
        about = "Standard deviation over the samples of the forecast's change."
        for space, volume in (("native", outcome.uncertainty.native), ("SRI24", outcome.uncertainty.atlas)):
            output = Output("uncertainty", "", space, True, outcome.uncertainty.horizon_years)
            folder.image(volume, output, "uncertainty", about, Units=UNIT, Conditions=conditions)
    folder.json("forecast.json", "trajectory", trajectory(outcome))


def write_generated(folder: OutputFolder, outcome: Generated) -> None:
    """The drawn brains on the atlas grid and their latents (N,C), numbered from 1."""
    stem = folder.stem
    for number, volume in enumerate(outcome.volumes, start=1):
        folder.stem = f"{stem}{number:02d}"
        output = Output("generated", "", "SRI24", synthetic=True)
        folder.image(volume, output, "generated", "A brain drawn from noise.", Units="arbitrary", Sample=number)
        folder.arrays("latents", "latents", {"latents": outcome.latents[number - 1].astype("float16")})
    folder.stem = stem
    samples = [[dataclasses.asdict(r) for r in readings] for readings in outcome.readings]
    folder.json("probes.json", "readings", {"samples": samples})


def trajectory(outcome: Forecast) -> dict[str, Any]:
    """Per horizon the probes' readings on the mean forecast and the 5-95 % interval over the samples.

    ``readings`` are calibrated where the checkpoint is; ``raw`` are what the forecaster says by itself.
    """
    calibration = outcome.calibration.to_dict()
    calibration["fitted"].pop("names", None)  # hundreds of keys that only evaluations ask for
    return {
        "conditions": outcome.conditions, "read_from_probes": list(outcome.read), "interval_percent": [5, 95],
        "calibration": calibration, "baseline": {r.task: _value(r) for r in outcome.baseline},
        "horizons": [_row(point) for point in outcome.points],
    }


def _row(point: ForecastPoint) -> dict[str, Any]:
    readings = {r.task: {**_value(r), "interval": point.spread.get(r.task)} for r in point.readings}
    raw = {r.task: {**_value(r), "interval": point.raw_spread.get(r.task)} for r in point.raw}
    return {"horizon_years": point.horizon_years, "readings": readings, "raw": raw}


def _value(reading: Reading) -> dict[str, Any]:
    return {"value": reading.value, "unit": reading.unit}


def _write_rendered(
    folder: OutputFolder, rendered: Rendered, role: str, about: str, horizon: float | None, facts: dict[str, Any]
) -> None:
    images = (
        ("native", rendered.native, rendered.native_difference), ("SRI24", rendered.atlas, rendered.atlas_difference),
    )
    for space, volume, change in images:
        folder.image(volume, Output(role, "", space, True, horizon), role, about, Units=UNIT, **facts)
        output = Output("difference", "", space, True, horizon)
        folder.image(change, output, "difference", f"{about} {DIFFERENCE}.", Units=UNIT, **facts)
