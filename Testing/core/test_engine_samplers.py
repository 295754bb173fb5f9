"""Edits and forecasts are made by the sampler that was asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.engine import Engine
from braing3n_core.errors import RequestError
from braing3n_core.outcomes import Encoded
from braing3n_core.schema import Conditions, CounterfactualRequest, ForecastRequest
from braing3n_core.volume import Volume

KNOWN = Conditions(disease="HC", sex="F", age_years=60.0)


@pytest.fixture(scope="module")
def encoded(tiny_checkpoint: Path, registered_scan: Path) -> Encoded:
    engine = Engine(tiny_checkpoint, "cpu")
    return engine.encode(engine.preprocess(Volume.load(registered_scan, modality="T1")))


def test_edits_and_forecasts_are_made_by_the_sampler_that_was_asked_for(
    tiny_checkpoint: Path, encoded: Encoded
) -> None:
    engine, scan = Engine(tiny_checkpoint, "cpu"), "scan.nii.gz"
    edit = CounterfactualRequest(scan, target=Conditions(disease="AD"), source=KNOWN, num_steps=2)
    ahead = ForecastRequest(scan, horizons_years=(5.0,), age_years=60.0, sex="F", disease="HC", samples=1, num_steps=2)

    def edited(**changes: str) -> np.ndarray:
        return engine.counterfactual(encoded, dataclasses.replace(edit, **changes)).latents  # type: ignore[arg-type]

    def moved(sampler: str) -> np.ndarray:
        return engine.forecast(encoded, dataclasses.replace(ahead, sampler=sampler)).points[0].latents

    assert np.array_equal(edited(), edited(sampler="euler")) and np.array_equal(moved("ab2"), moved("ab2"))
    assert not np.array_equal(edited(), edited(sampler="heun")) and not np.array_equal(moved("ab2"), moved("heun"))
    inverted = [edited(method="fireflow", sampler=sampler) for sampler in ("euler", "heun")]
    assert np.array_equal(*inverted)  # an inversion is an integrator of its own
    for request, act in ((edit, engine.counterfactual), (ahead, engine.forecast)):
        with pytest.raises(RequestError, match="sampler"):
            act(encoded, dataclasses.replace(request, sampler="eulr"))  # type: ignore[type-var, operator]
