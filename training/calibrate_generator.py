"""Find the size of the noise that brains are best drawn from, contrast by contrast, on validation subjects (ADR 23).

    python -m training.calibrate_generator --checkpoint SET --latents VALIDATION --out RUN

Under the conditions of at most ``--samples`` validation scans of a contrast brains are drawn from noise of every size
in ``--scales``. Kept is the size at which they are hardest to tell from those scans (``training.likeness``). The noise
has the colour of the generator, if that has one (``training.fit_noise``). ``RUN/dit`` is the generator with these sizes
in its config, and with what was compared in its metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from braing3n_core.inference import Inference

from .drawn import drawn_like
from .likeness import Compared, Way, find, mean_apart, search
from .loop import TrainingError
from .stage import command
from .store import Record


def best(compared: Compared) -> Way:
    """The size of the noise at which brains are least apart, in the mean over the extractors."""
    return min(compared, key=lambda way: mean_apart(compared[way]))


def main() -> None:
    """Compare, print and write ``RUN/dit``."""
    parser = search(__doc__ or "", 48)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.6, 0.7, 0.8, 0.9, 1.0])
    options = parser.parse_args()
    if not all(0 < scale <= 2 for scale in options.scales):
        raise TrainingError(
            "calibrate.scales", f"Sizes of the noise lie above 0 and up to 2, got {options.scales}.",
            "1 is what the flow was trained with.",
        )

    def draw(inference: Inference, records: Sequence[Record]) -> Iterator[tuple[Way, np.ndarray]]:
        for scale in options.scales:
            yield (scale,), drawn_like(inference, records, noise_scale=scale)

    print(find(options, "noise_scales", draw, best).id)


if __name__ == "__main__":
    command(main)
