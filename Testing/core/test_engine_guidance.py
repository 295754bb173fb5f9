"""What guidance amplifies in an edit of a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from braing3n_core.engine import Engine
from braing3n_core.schema import Conditions, CounterfactualRequest
from braing3n_core.volume import Volume


def test_an_edit_of_the_age_alone_does_not_depend_on_the_guidance(
    tiny_checkpoint: Path, registered_scan: Path
) -> None:
    engine = Engine(tiny_checkpoint, "cpu")
    encoded = engine.encode(engine.preprocess(Volume.load(registered_scan, modality="T1")))
    known = Conditions(disease="HC", sex="F", age_years=60.0)

    def edited(target: Conditions, guidance: float) -> np.ndarray:
        request = CounterfactualRequest(str(registered_scan), target=target, source=known,
                                        guidance_scale=guidance, num_steps=2)
        return engine.counterfactual(encoded, request).latents

    older, ill = Conditions(age_years=80.0), Conditions(disease="AD")
    assert np.array_equal(edited(older, 1.0), edited(older, 3.0))
    assert not np.array_equal(edited(older, 1.0), encoded.latents)
    assert not np.array_equal(edited(ill, 1.0), edited(ill, 3.0))
