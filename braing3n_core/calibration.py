"""What held-out subjects taught about a forecaster: a gain on its change and, by variable, a factor on its spread.

Standard library only. Fitted by ``training/calibrate_forecaster.py``, kept in the forecaster's ``metrics``; without it
a checkpoint is raw (every factor 1). Raw and calibrated numbers are both reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Calibration:
    """gain: factor on the change of latents. spread: by task, factor on the width of an interval on each side.

    fitted: how it was found (subjects, pairs, level, raw and calibrated slope and coverage), for people to read, and
    the ``names`` of the subjects, for evaluations to leave them out.
    """

    gain: float = 1.0
    spread: Mapping[str, float] = field(default_factory=dict)
    fitted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_raw(self) -> bool:
        """Whether nothing was fitted."""
        return self.gain == 1.0 and not self.spread

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Calibration:
        """From a forecaster's metrics; those of older checkpoints know a ``gain`` at most."""
        known = metrics.get("calibration", {})
        return cls(
            float(known.get("gain", metrics.get("gain", 1.0))), dict(known.get("spread", {})),
            dict(known.get("fitted", {})),
        )

    def widen(self, task: str, centre: float, interval: tuple[float, float]) -> tuple[float, float]:
        """The interval with its ends moved away from ``centre`` by the task's factor (1 for a task without one)."""
        factor = self.spread.get(task, 1.0)
        return centre + factor * (interval[0] - centre), centre + factor * (interval[1] - centre)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)
