"""A forecaster without context is the paper's bridge, and the engine integrates it from the baseline itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from braing3n_core.checkpoint import CheckpointSpec, load_checkpoint, save_checkpoint
from braing3n_core.engine import Engine
from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.models.dit import DiT
from braing3n_core.schema import ForecastRequest
from braing3n_core.volume import Volume

from .tiny_checkpoint import CARD, FORECASTER, make_tiny_checkpoint

HORIZONS = (0.0, 4.0)


def make_bridge(folder: Path) -> DiT:
    """A tiny checkpoint whose forecaster is a bridge with random weights that answer something."""
    make_tiny_checkpoint(folder)
    parent = load_checkpoint(folder / "tokenizer", "tokenizer").id
    torch.manual_seed(4)
    model = DiT(dataclasses.replace(FORECASTER, context_channels=0, prior="none", prior_components=0))
    for layer in (model.tokens_out, model.modulation_out, model.blocks[0].modulation):
        torch.nn.init.normal_(layer.weight, std=0.05)
    config = dataclasses.asdict(model.config)
    spec = CheckpointSpec("forecaster", config, model.state_dict(), CARD, {"tokenizer": parent}, dtype="float32")
    save_checkpoint(folder / "forecaster", spec, overwrite=True)
    return model.eval()


def test_the_engine_integrates_a_bridge_by_a_hundred_euler_steps_from_the_baseline(
    registered_scan: Path, tmp_path: Path
) -> None:
    model = make_bridge(tmp_path / "set")
    engine = Engine(tmp_path / "set", "cpu", "float32")
    encoded = engine.encode(engine.preprocess(Volume.load(registered_scan, modality="T1")))
    request = ForecastRequest(
        str(registered_scan), horizons_years=HORIZONS, age_years=60.0, sex="F", disease="HC", cdr=0.0, samples=1,
        uncertainty=False,
    )
    points = engine.forecast(encoded, request).points

    baseline = torch.from_numpy(encoded.latents)[None]
    ends = []
    for horizon in HORIZONS:
        row = {"disease": "HC", "sex": "F", "age_years": 60.0, "cdr": 0.0, "horizon_years": horizon}
        conditions, x = ConditionBatch.from_rows(model.spec, [row]), baseline
        with torch.inference_mode():
            for k in range(100):
                x = x + model(x, torch.tensor([k / 100]), conditions) / 100
        ends.append(x)
    expected = (baseline + ends[1] - ends[0])[0].numpy()  # relative to horizon 0, as in the paper's maps
    np.testing.assert_array_equal(points[0].latents, encoded.latents)
    change = expected - encoded.latents
    assert np.abs(change).max() > 1e-3
    # The engine's networks run in the precision of the device, this loop in float32.
    assert np.linalg.norm(points[1].latents - expected) < 0.05 * np.linalg.norm(change)
