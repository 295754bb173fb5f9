"""Answers as the engine gives them, for tests of what the scene makes of them: small, of any orientation."""

from __future__ import annotations

from typing import Any

import numpy as np
from BrainG3NLib.Jobs import Answer, Image, Job
from BrainG3NLib.Logic import Logic
from BrainG3NLib.Volumes import affineOf

from braing3n_core.schema import (
    Conditions,
    CounterfactualRequest,
    Effect,
    ForecastRequest,
    Output,
    ProbeRequest,
    Reading,
    Result,
)

READINGS = (
    Reading("age", 61.5, "years", (50.0, 73.0), quality={"mae": 7.5, "data": "held-out phantoms"}),
    Reading("disease", "AD", probabilities={"AD": 0.7, "HC": 0.2, "MCI": 0.1}, quality={"accuracy": 0.8}),
    Reading("ventricle_volume", 31.0, "mL", (20.0, 40.0), quality={"mae": 4.0}),
)
EFFECTS = (
    Effect("age", 61.5, 66.0, "years", drift=4.5), Effect("disease", "HC", "AD", asked=True, drift=0.6),
    Effect("ventricle_volume", 31.0, 39.0, "mL", drift=8.0),
)  # fmt: skip
PROVENANCE = {"seed": 7, "checkpoint": {"ids": {"dit": "abc"}}, "request": {"input": "/tmp/x", "strength": 1.0}}


def accept(scene: Any, node: Any, request: Any, answer: Answer) -> Any:
    """The nodes that the module makes of an answer."""
    kind = {CounterfactualRequest: "counterfactual", ForecastRequest: "forecast", ProbeRequest: "probe"}[type(request)]
    job = Job(kind, request, None, None, None, node.GetID())  # type: ignore[arg-type]
    *_, run = Logic(scene).accept(job, answer)
    return run


def image(node: Any, role: str, amount: float, years: float | None = None) -> Image:
    """An image on the node's grid that grows along its first axis."""
    k, j, i = node.GetImageData().GetDimensions()[::-1]
    array = np.broadcast_to(np.linspace(-amount, amount, i, dtype=np.float32), (k, j, i)).copy()
    return Image(Output(role, "", "native", True, years), array, affineOf(node), amount)


def counterfactual(scene: Any, node: Any, samples: int = 1) -> Any:
    """A run of an edit towards AD."""
    answers = [
        Answer(Result("counterfactual", readings=READINGS, effects=EFFECTS, provenance={**PROVENANCE, "seed": 7 + n}),
               (image(node, "counterfactual", 90.0 + n), image(node, "difference", 10.0 + n)), {})
        for n in range(samples)
    ]  # fmt: skip
    first, *others = answers
    spread = image(node, "uncertainty", 3.0) if others else None
    whole = Answer(first.result, first.images, {}, tuple(others), spread)
    return accept(scene, node, CounterfactualRequest("x", target=Conditions(disease="AD")), whole)


def forecast(scene: Any, node: Any) -> Any:
    """A run of a forecast of one and five years."""
    images = [image(node, role, amount * years, years) for role, amount in (("forecast", 50.0), ("difference", 4.0))
              for years in (1.0, 5.0)]  # fmt: skip
    base = {"age": {"value": 61.5, "unit": "years"}}
    later = [{"horizon_years": y, "readings": {"age": {"value": 61.5 + y, "interval": [60.0, 70.0]}}} for y in (1, 5)]
    answer = Answer(Result("forecast", provenance=PROVENANCE), tuple([*images, image(node, "uncertainty", 2.0, 5.0)]),
                    {"trajectory": {"baseline": base, "horizons": later}})  # fmt: skip
    return accept(scene, node, ForecastRequest("x", horizons_years=(1.0, 5.0)), answer)
