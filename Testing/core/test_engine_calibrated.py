"""Forecasters that say of themselves that they are calibrated, or that they are the paper's bridge."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from braing3n_core.calibration import Calibration
from braing3n_core.checkpoint import CheckpointSpec, load_checkpoint, save_checkpoint
from braing3n_core.engine import Engine
from braing3n_core.models.dit import DiT
from braing3n_core.outcomes import Encoded, Forecast
from braing3n_core.schema import ForecastRequest
from braing3n_core.volume import Volume
from braing3n_core.writing import trajectory

from .tiny_checkpoint import CARD, FORECASTER

ASKED = ForecastRequest(
    "scan", horizons_years=(0.0, 4.0), age_years=60.0, sex="F", disease="HC", samples=4, num_steps=1, uncertainty=False
)


@pytest.fixture(scope="module")
def encoded(tiny_checkpoint: Path, registered_scan: Path) -> Encoded:
    engine = Engine(tiny_checkpoint, "cpu", "float32")
    return engine.encode(engine.preprocess(Volume.load(registered_scan, modality="T1")))


def forecast(checkpoint: Path, encoded: Encoded) -> Forecast:
    return Engine(checkpoint, "cpu", "float32").forecast(encoded, ASKED)


def with_forecaster(tiny: Path, folder: Path, spec: CheckpointSpec) -> Path:
    shutil.copytree(tiny, folder)
    save_checkpoint(folder / "forecaster", spec, overwrite=True)
    return folder


def test_a_calibrated_forecast_is_the_raw_one_with_its_gain_and_wider_intervals_and_both_are_told(
    tiny_checkpoint: Path, encoded: Encoded, tmp_path: Path
) -> None:
    old = load_checkpoint(tiny_checkpoint / "forecaster")
    known = Calibration(2.0, {"age": 3.0}, {"pairs": 7})
    spec = CheckpointSpec("forecaster", old.config, old.tensors("pt"), CARD, old.parents, dtype="float32",
                          metrics={"calibration": known.to_dict()})
    raw, mended = forecast(tiny_checkpoint, encoded), forecast(
        with_forecaster(tiny_checkpoint, tmp_path / "set", spec), encoded
    )
    change = raw.points[1].latents - encoded.latents
    np.testing.assert_allclose(mended.points[1].latents - encoded.latents, 2 * change, atol=1e-4)
    told = trajectory(mended)["horizons"][1]
    plain = trajectory(raw)["horizons"][1]
    assert told["raw"]["age"]["value"] == pytest.approx(plain["readings"]["age"]["value"], abs=1e-2)
    assert told["raw"]["age"]["interval"] == pytest.approx(plain["readings"]["age"]["interval"], abs=1e-2)
    wide, narrow = (np.ptp(row["age"]["interval"]) for row in (told["readings"], plain["readings"]))
    assert wide == pytest.approx(2.0 * 3.0 * narrow, rel=0.01)
    assert plain["raw"] == plain["readings"] and trajectory(mended)["calibration"]["fitted"] == {"pairs": 7}


def test_a_forecaster_without_context_is_a_bridge_integrated_from_the_baseline_without_noise(
    tiny_checkpoint: Path, encoded: Encoded, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(FORECASTER, context_channels=0, prior="none", prior_components=0)
    model = DiT(config)
    torch.nn.init.normal_(model.tokens_out.weight, std=0.02)
    torch.nn.init.normal_(model.modulation_out.weight, std=0.02)
    spec = CheckpointSpec("forecaster", dataclasses.asdict(config), model.state_dict(), CARD,
                          load_checkpoint(tiny_checkpoint / "forecaster").parents, dtype="float32")
    checkpoint = with_forecaster(tiny_checkpoint, tmp_path / "set", spec)
    found = forecast(checkpoint, encoded)
    np.testing.assert_array_equal(found.points[0].latents, encoded.latents)
    assert np.abs(found.points[1].latents - encoded.latents).max() > 0
    assert all(low == pytest.approx(high) for low, high in found.points[1].spread.values())
    again = Engine(checkpoint, "cpu", "float32").forecast(encoded, dataclasses.replace(ASKED, seed=9))
    np.testing.assert_array_equal(again.points[1].latents, found.points[1].latents)
