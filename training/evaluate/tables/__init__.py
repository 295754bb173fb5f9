"""The tables of the report, one file each, in the paper's order. Each is ``compute(study) -> Table``."""

from __future__ import annotations

from collections.abc import Callable

from ..study import Study
from ..table import Table
from . import (
    bottleneck,
    control,
    counterfactual,
    encoders,
    fidelity,
    longitudinal,
    memorisation,
    probing,
    shipped,
    sweep,
    truncation,
)

TABLES: dict[str, Callable[[Study], Table]] = {
    "probing": probing.compute,
    "encoders": encoders.compute,
    "shipped": shipped.compute,
    "bottleneck": bottleneck.compute,
    "controllability": control.compute,
    "guidance": sweep.compute,
    "truncation": truncation.compute,
    "fidelity": fidelity.compute,
    "memorisation": memorisation.compute,
    "longitudinal": longitudinal.compute,
    "counterfactual": counterfactual.compute,
}
"""By name, in the paper's order."""
