"""A probe reads only the contrasts that it was fitted on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from braing3n_core.engine import Engine
from braing3n_core.outcomes import Encoded
from braing3n_core.probes import ProbePanel
from braing3n_core.schema import Conditions, CounterfactualRequest
from braing3n_core.volume import Volume

KNOWN = Conditions(disease="HC", sex="F", age_years=60.0)


@pytest.fixture(scope="module")
def encoded(tiny_checkpoint: Path, registered_scan: Path) -> Encoded:
    engine = Engine(tiny_checkpoint, "cpu")
    return engine.encode(engine.preprocess(Volume.load(registered_scan, modality="T1")))


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
