"""Probability paths, training times and the flow-matching loss (paper, section 2 "Conditional generation").

Legend: B batch, N = 1200 tokens, C latent channels. Latents are standardised and have no unit.

Time. ``x_0`` is the source (noise, or the baseline of a forecast), ``x_1`` the target, ``t`` runs from 0 to 1 and
``velocity = dx_t/dt``; on the linear path that is ``x_1 - x_0``. The paper writes time the other way round
(``v = eps - x1``, noise at t = 1): its target is the negative of ours, and its t is our ``1 - t``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import RequestError

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``velocity(x (B,N,C), t (B,)) -> (B,N,C)``, conditions closed over."""

# Unspecified in the paper: the timestep shift of RAE (arXiv 2510.11690), sqrt(numbers in our latent / 4096).
DEFAULT_SHIFT: float = math.sqrt(1200 * 32 / 4096)

ENVELOPES: tuple[str, ...] = ("parabolic", "brownian")
TIME_DISTRIBUTIONS: tuple[str, ...] = ("uniform", "logit-normal")


@dataclass(frozen=True)
class PathPoint:
    """A point of a path and its derivative. x_t, dx_t: (B,N,C)."""

    x_t: Tensor
    dx_t: Tensor


class Path(Protocol):
    """A way from ``x_0`` to ``x_1``; both are reached exactly at t = 0 and t = 1."""

    def at(self, x_0: Tensor, x_1: Tensor, t: Tensor, eps: Tensor | None = None) -> PathPoint:
        """The point at ``t`` (B,). ``eps`` (B,N,C) is the noise of a stochastic path."""
        ...


@dataclass(frozen=True)
class LinearPath:
    """``x_t = (1-t) x_0 + t x_1``: rectified flow."""

    def at(self, x_0: Tensor, x_1: Tensor, t: Tensor, eps: Tensor | None = None) -> PathPoint:
        """The point at ``t`` (B,) of the straight line; ``eps`` is not used."""
        t = _over(t, x_0)
        return PathPoint((1 - t) * x_0 + t * x_1, x_1 - x_0)


@dataclass(frozen=True)
class BridgePath:
    """``x_t = (1-t) z_b + t z_f + sigma envelope(t) eps``: the paper's longitudinal interpolant (section 2).

    sigma: scale of the training noise. envelope: ``parabolic`` 2t(1-t) or ``brownian`` sqrt(t(1-t)); both vanish at
    the ends and are 1/2 in the middle.
    """

    # Unspecified in the paper: sigma and the envelope. The parabola is the default because the derivative of the
    # Brownian envelope is unbounded at both ends, so that its squared loss has no finite expectation over t.
    sigma: float = 0.1
    envelope: str = "parabolic"

    def __post_init__(self) -> None:
        if self.envelope not in ENVELOPES:
            raise RequestError("flow.envelope", f"Unknown envelope {self.envelope!r}.", f"Use one of {ENVELOPES}.")

    def at(self, x_0: Tensor, x_1: Tensor, t: Tensor, eps: Tensor | None = None) -> PathPoint:
        """The point at ``t`` (B,) between baseline ``x_0`` and follow-up ``x_1``; without ``eps`` the straight line."""
        line = LinearPath().at(x_0, x_1, t)
        if eps is None or self.sigma == 0:
            return line
        height, slope = self._envelope(_over(t, x_0))
        return PathPoint(line.x_t + self.sigma * height * eps, line.dx_t + self.sigma * slope * eps)

    def _envelope(self, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.envelope == "parabolic":
            return 2 * t * (1 - t), 2 - 4 * t
        height = (t * (1 - t)).sqrt()
        tiny = torch.finfo(t.dtype).eps
        return height, (1 - 2 * t) / (2 * height.clamp_min(math.sqrt(tiny)))


def shift_time(t: Tensor, shift: float = DEFAULT_SHIFT) -> Tensor:
    """Move times towards the noise end t = 0 for latents of many numbers; 0 and 1 stay, ``shift`` = 1 is the identity.

    With the noise level ``u = 1-t`` this is ``u -> shift u / (1 + (shift-1) u)``. The inverse is ``1/shift``.
    """
    if not shift > 0:
        raise RequestError("flow.shift", f"The timestep shift must be positive, got {shift}.", "1 is off.")
    return t / (t + shift * (1 - t))


def sample_times(
    count: int,
    distribution: str = "uniform",
    shift: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Training times (count,) in [0, 1] on the CPU. distribution: one of :data:`TIME_DISTRIBUTIONS`."""
    # Unspecified in the paper: the distribution of training times. Logit-normal is that of SD3 (arXiv 2403.03206).
    if distribution == "uniform":
        t = torch.rand(count, generator=generator)
    elif distribution == "logit-normal":
        t = torch.randn(count, generator=generator).sigmoid()
    else:
        raise RequestError(
            "flow.times", f"Unknown distribution of times {distribution!r}.", f"Use one of {TIME_DISTRIBUTIONS}."
        )
    return shift_time(t, shift)


def velocity_loss(predicted: Tensor, dx_t: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of a velocity (B,N,C), a scalar. weight: (B,), the weighted mean over the batch."""
    per_sample = (predicted.float() - dx_t.float()).square().flatten(1).mean(1)
    if weight is None:
        return per_sample.mean()
    return (weight * per_sample).sum() / weight.sum()


@dataclass(frozen=True)
class Pair:
    """A batch of ends of a path. x_0, x_1: (B,N,C); weight: (B,) or None; eps: (B,N,C) noise of a bridge or None."""

    x_0: Tensor
    x_1: Tensor
    weight: Tensor | None = None
    eps: Tensor | None = None


def flow_matching_loss(velocity: Velocity, path: Path, pair: Pair, t: Tensor) -> Tensor:
    """The conditional flow-matching loss of ``velocity`` at times ``t`` (B,), a scalar."""
    point = path.at(pair.x_0, pair.x_1, t, pair.eps)
    return velocity_loss(velocity(point.x_t, t), point.dx_t, pair.weight)


def _over(t: Tensor, x: Tensor) -> Tensor:
    """``t`` (B,) shaped to multiply ``x`` (B,...)."""
    return t.to(x).reshape(-1, *([1] * (x.ndim - 1)))
