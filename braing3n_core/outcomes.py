"""What the engine's verbs answer in memory: arrays and readings, before anything is written.

Legend: N = 1200 tokens, C latent channels, D encoder width, S samples. Native: the input's own grid; atlas: SRI24's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .calibration import Calibration
from .schema import Conditions, Effect, Reading

if TYPE_CHECKING:
    from .preprocess.intensity import Normalisation
    from .preprocess.pipeline import Preprocessed
    from .volume import Volume


@dataclass(frozen=True, eq=False)
class Encoded:
    """A preprocessed scan as the models see it.

    tokens (N,D); embedding (D,), their mean; latents (N,C), standardised; normalisation: z-score of the model input.
    """

    preprocessed: Preprocessed
    tokens: np.ndarray
    embedding: np.ndarray
    latents: np.ndarray
    normalisation: Normalisation


@dataclass(frozen=True, eq=False)
class Rendered:
    """One synthetic image and its difference (synthetic minus scan), in both grids and in the scan's unit."""

    native: Volume
    atlas: Volume
    native_difference: Volume
    atlas_difference: Volume


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What the tokenizer keeps. mse: of the z-scored volume inside the brain; psnr_db: by the brain's own range."""

    rendered: Rendered
    mse: float
    psnr_db: float


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """An edited scan. source, target: all conditions of the two ends; read: which of the source the probes supplied.

    effects: every latent probe before and after, the conditions that were not asked to change included.
    """

    rendered: Rendered
    latents: np.ndarray
    source: Conditions
    target: Conditions
    read: tuple[str, ...]
    effects: tuple[Effect, ...]


@dataclass(frozen=True, eq=False)
class ForecastPoint:
    """The scan at one horizon. latents (N,C): the ensemble's mean. readings: on the mean; spread: 5-95 % by task.

    Both are calibrated where the checkpoint knows how; raw and raw_spread are the same without it.
    """

    horizon_years: float
    rendered: Rendered
    latents: np.ndarray
    readings: tuple[Reading, ...]
    spread: dict[str, tuple[float, float]]
    raw: tuple[Reading, ...] = ()
    raw_spread: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Standard deviation over the samples of the decoded change at one horizon, in the scan's unit."""

    horizon_years: float
    native: Volume
    atlas: Volume


@dataclass(frozen=True, eq=False)
class Forecast:
    """A trajectory. conditions: what was used, by name; read: which the probes supplied; baseline: readings now."""

    points: tuple[ForecastPoint, ...]
    baseline: tuple[Reading, ...]
    conditions: dict[str, str | float | None]
    read: tuple[str, ...]
    uncertainty: Uncertainty | None = None
    calibration: Calibration = field(default_factory=Calibration)


@dataclass(frozen=True, eq=False)
class Generated:
    """Brains drawn from noise, on the atlas grid. volumes: z-scored intensities, as many as were asked for.
    noise_scale: size of the noise they were drawn from. guidance_scale: that they were drawn with. truncation: how much
    was kept of what sets them apart from the mean brain. reweighting: weights of their common and specific parts.
    """

    volumes: tuple[Volume, ...]
    latents: np.ndarray
    readings: tuple[tuple[Reading, ...], ...]
    noise_scale: float
    guidance_scale: float
    truncation: float
    reweighting: tuple[float, float]
