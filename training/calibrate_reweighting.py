"""Find the weights of the common and the specific part that brains are best put together from, contrast by contrast, on
validation subjects (ADR 31).

    python -m training.calibrate_reweighting --checkpoint SET --latents VALIDATION --out RUN

Under the conditions of at most ``--samples`` validation scans of a contrast brains are drawn once, and put together
again with every weight in ``--common`` and ``--specific``. Kept are those at which they are hardest to tell from the
scans (``training.likeness``); of weights between which that decides nothing, those with the least specific part: it is
what a generator draws for each token alone, and where it is wrong, coarse features do not see it. ``RUN/dit`` is the
generator with these weights in its config, and with what was compared in its metrics.

Give scans of everybody that brains are to be drawn of: more of the common part suits one group and not another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from braing3n_core.checking import RANGES
from braing3n_core.inference import Inference

from .drawn import drawn_like, reweighted_like
from .likeness import Compared, Way, find, mean_apart, search
from .loop import TrainingError
from .stage import command
from .store import Record

AS_DRAWN = (1.0, 1.0)
NOTHING = 0.1
"""A difference that decides nothing, in units of what the distance varies by between two halves of the scans."""


def best(compared: Compared) -> Way:
    """Of the weights (common, specific) those at which brains are least apart from scans, in the mean over the
    extractors. Where these cannot be told from scans, of all that are as near but for :data:`NOTHING` those with the
    least specific part.
    """
    distance = {way: mean_apart(row) for way, row in compared.items()}
    nearest = min(distance, key=distance.__getitem__)
    near = [way for way in distance if distance[way] <= min(0, distance[nearest] + NOTHING)]
    return min(near, key=lambda way: (way[1], distance[way])) if near else nearest


def main() -> None:
    """Compare, print and write ``RUN/dit``."""
    parser = search(__doc__ or "", 48)
    parser.add_argument("--common", type=float, nargs="+", default=[1.0, 1.25, 1.5])
    parser.add_argument("--specific", type=float, nargs="+", default=[0.8, 0.6, 0.4, 0.2])
    options = parser.parse_args()
    low, high = RANGES["reweighting"]
    if not all(low <= weight <= high for weight in (*options.common, *options.specific)):
        raise TrainingError(
            "calibrate.weights",
            f"Weights lie from {low:g} to {high:g}, got {options.common} and {options.specific}.",
            "1 is as much as was drawn, and is always tried.",
        )
    ways = dict.fromkeys([AS_DRAWN, *((a, b) for a in options.common for b in options.specific)])

    def draw(inference: Inference, records: Sequence[Record]) -> Iterator[tuple[Way, np.ndarray]]:
        drawn = drawn_like(inference, records, reweighting=AS_DRAWN)
        for way in ways:
            yield way, reweighted_like(inference, records, drawn, way)

    print(find(options, "reweighting", draw, best).id)


if __name__ == "__main__":
    command(main)
