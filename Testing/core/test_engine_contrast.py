"""What an installation says of itself costs nothing, a probe reads only the contrasts that it was fitted on, and edits
and forecasts are made by the sampler that was asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.engine import Engine
from braing3n_core.errors import RequestError
from braing3n_core.outcomes import Encoded
from braing3n_core.probes import ProbePanel
from braing3n_core.schema import Conditions, CounterfactualRequest, ForecastRequest
from braing3n_core.volume import Volume

KNOWN = Conditions(disease="HC", sex="F", age_years=60.0)


@pytest.fixture(scope="module")
def encoded(tiny_checkpoint: Path, registered_scan: Path) -> Encoded:
    engine = Engine(tiny_checkpoint, "cpu")
    return engine.encode(engine.preprocess(Volume.load(registered_scan, modality="T1")))


def test_describing_an_installation_reads_no_template_and_opens_no_connection(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BRAING3N_MINDGRAB_WEIGHTS", raising=False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("A connection was opened."))
    monkeypatch.setattr("braing3n_core.volume.Volume.from_array", lambda *_, **__: pytest.fail("A volume was made."))
    backends = Engine(tiny_checkpoint).capabilities()["brain_backends"]
    assert not backends["mindgrab"]["available"] and "by name" in backends["mindgrab"]["why"]
    assert backends["template"]["available"] and "ICBM152" in backends["template"]["why"]


def test_a_probe_fitted_on_t1_alone_is_not_read_from_another_contrast(
    tiny_checkpoint: Path, encoded: Encoded
) -> None:
    engine = Engine(tiny_checkpoint, "cpu")
    probes = [dataclasses.replace(p, modalities=("T1",) if p.task == "age" else ()) for p in engine.parts.probes.probes]
    engine.parts.probes = ProbePanel(tuple(probes))
    scan = encoded.preprocessed
    for modality, read in (("T1", True), ("T2", False)):
        volume = dataclasses.replace(scan.volume, modality=modality)
        seen = dataclasses.replace(encoded, preprocessed=dataclasses.replace(scan, volume=volume))
        assert ("age" in {r.task for r in engine.probe(seen)}) is read
        edit = engine.counterfactual(seen, CounterfactualRequest("scan.nii.gz", source=KNOWN, num_steps=2))
        assert ("age" in {effect.task for effect in edit.effects}) is read
        assert "sex" in {effect.task for effect in edit.effects}


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
