"""Guidance: wrappers around a conditional velocity (paper, section 2; factored guidance, arXiv 2506.14399).

Legend: B batch, N tokens, C latent channels, G groups that share one call of the network.

All guidance here has one form, ``v = v_c + sum_i (s_i - 1) (v_c - v_without_i)``:

* without = all conditions null: classifier-free guidance, ``v_null + s (v_c - v_null)``;
* without = only the intervened conditions replaced (by null or by the source's values): factored guidance, which
  amplifies what is changed and leaves the rest alone;
* several contrasts: one scale per condition;
* CFG-Zero* (arXiv 2503.18886, ``zero_star``): v_without is first scaled, sample by sample, to where it comes nearest
  to v_c, so that guidance amplifies a direction and not a difference of lengths; and the velocity of a first share
  of the time may be zero, where a guided velocity is least to be trusted (``still_until`` of :func:`guide`).

A scale of 1 is off and costs nothing. All channels are guided. What guidance adds changes slowly along a path, and need
not be asked for at every evaluation (``every`` of :func:`guide`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import RequestError
from .flow import Velocity

ConditionalVelocity = Callable[[Tensor, Tensor, Sequence[Any]], Tensor]
"""``conditional(x (G*B,N,C), t (G*B,), conds) -> (G*B,N,C)``: ``conds`` holds G condition batches of B rows each; the
g-th governs rows g*B..(g+1)*B. What a condition batch is, only the model knows."""


@dataclass(frozen=True)
class Guidance:
    """How strongly, and when. scale: 1 is off. interval: times [lo, hi] in which it acts; outside the scale is 1.

    zero_star: scale the contrast by least squares first (CFG-Zero*).
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    zero_star: bool = False

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise RequestError(
                "guidance.interval", f"The guidance interval must lie in 0..1, got {self.interval}.", "Give (lo, hi)."
            )

    def at(self, t: float) -> float:
        """The scale at time ``t``."""
        return self.scale if self.interval[0] <= t <= self.interval[1] else 1.0


@dataclass(frozen=True)
class Contrast:
    """One direction to amplify: away from the prediction under the conditions ``without``."""

    without: Any
    guidance: Guidance = field(default_factory=Guidance)


def guide(
    conditional: ConditionalVelocity, cond: Any, contrasts: Sequence[Contrast] = (), still_until: float = 0.0,
    every: int = 1,
) -> Velocity:
    """A velocity under ``cond``, amplified along each contrast; one call of the network per evaluation.

    still_until: before this time the velocity is zero and nothing is evaluated (0 is off). every: at each so many-th
    evaluation the contrasts are evaluated too, between them what they add goes on in a straight line (1: always).
    The returned velocity expects one time for the whole batch, as the integrators give it, and with ``every`` above 1
    one path after the other.
    """
    line = _Line(every)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time = float(t[0])
        if time < still_until:
            return torch.zeros_like(x)
        active = active_contrasts(contrasts, time)
        if not active:
            return evaluate(conditional, t, [(x, cond)])[0]
        scales = [c.guidance.at(time) for c in contrasts]
        added = line.expected(time, scales)
        if added is not None:
            return evaluate(conditional, t, [(x, cond)])[0] + added
        v, *without = evaluate(conditional, t, [(x, cond), *((x, c.without) for c in active)])
        ends = [closest(v, w) if c.guidance.zero_star else w for w, c in zip(without, active, strict=True)]
        guided = amplify(v, [(w, c.guidance.at(time)) for w, c in zip(ends, active, strict=True)])
        line.keep(time, guided - v)
        return guided

    return velocity


class _Line:
    """What guidance adds along one path: asked for at every ``every``-th evaluation, in a straight line between."""

    def __init__(self, every: int) -> None:
        self.every, self.waited, self.last = every, 0, -math.inf
        self.scales: list[float] = []
        self.known: list[tuple[float, Tensor]] = []

    def expected(self, time: float, scales: list[float]) -> Tensor | None:
        """(B,N,C) by the last two that are known, or None when it must be asked for: in its turn, when other scales act
        than before, and when time went back, for that is another path.
        """
        if time < self.last or scales != self.scales:
            self.known = []
        self.last, self.scales, self.waited = time, scales, self.waited + 1
        if not self.known or self.waited >= self.every:
            return None
        (t1, added) = self.known[-1]
        t0, before = self.known[0]
        return added if t0 == t1 else added + (time - t1) / (t1 - t0) * (added - before)

    def keep(self, time: float, added: Tensor) -> None:
        """Remember what was asked for."""
        self.known, self.waited = [*self.known[-1:], (time, added)], 0


def active_contrasts(contrasts: Sequence[Contrast], t: float) -> list[Contrast]:
    """Those whose scale at time ``t`` is not 1: the only ones worth evaluating."""
    return [c for c in contrasts if c.guidance.at(t) != 1.0]


def evaluate(conditional: ConditionalVelocity, t: Tensor, groups: Sequence[tuple[Tensor, Any]]) -> list[Tensor]:
    """The velocity of each group (x (B,N,C), conditions) at times ``t`` (B,), in one call of the network."""
    x = torch.cat([x for x, _ in groups]) if len(groups) > 1 else groups[0][0]
    velocities = conditional(x, t.repeat(len(groups)), [cond for _, cond in groups])
    return list(velocities.chunk(len(groups)))


def closest(v: Tensor, without: Tensor) -> Tensor:
    """``a without`` (B,N,C) with the a of each row that makes it closest to ``v``: ``<v, w> / <w, w>``; 0 stays 0."""
    dims = tuple(range(1, v.ndim))
    square = without.square().sum(dims, keepdim=True)
    tiny = torch.finfo(square.dtype).tiny
    return without * ((v * without).sum(dims, keepdim=True) / square.clamp_min(tiny))


def amplify(v: Tensor, contrasts: Sequence[tuple[Tensor, float]]) -> Tensor:
    """``v + sum (s-1)(v - w)`` over contrasts (w, s); all tensors (B,N,C)."""
    result = v
    for without, scale in contrasts:
        result = result + (scale - 1.0) * (v - without)
    return result
