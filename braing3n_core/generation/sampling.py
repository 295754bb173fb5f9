"""Integrators over a velocity, time grids and reproducible noise. Pure functions; no model is known here.

Legend: B batch, N tokens, C latent channels. See :mod:`.flow` for the direction of time.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..errors import RequestError
from ..progress import Cancel, Progress, silent
from ..schema import nearest
from .flow import Velocity, shift_time


def integrate(
    velocity: Velocity,
    x: Tensor,
    times: Tensor | Sequence[float],
    method: str = "euler",
    *,
    progress: Progress = silent,
    cancel: Cancel | None = None,
) -> Tensor:
    """Carry ``x`` (B,N,C) along ``velocity`` from ``times[0]`` to ``times[-1]``; returns (B,N,C).

    times: at least two knots, increasing or decreasing. method: one of :data:`METHODS`. The paper uses ``euler``;
    ``ab2``, ``fireflow`` and ``extrapolated`` have second order at one evaluation per step. Raises RequestError for a
    bad method or grid and Cancelled between steps.
    """
    knots = _checked_knots(times)
    step = _STEPPERS[_checked_method(method)](velocity)
    for i, (t, t_next) in enumerate(itertools.pairwise(knots)):
        if cancel is not None:
            cancel.check()
        x = step(x, t, t_next)
        progress((i + 1) / (len(knots) - 1), f"Step {i + 1} of {len(knots) - 1}")
    return x


def time_grid(num_steps: int, shift: float = 1.0, start: float = 0.0, stop: float = 1.0) -> Tensor:
    """Knots (num_steps+1,) float64 from ``start`` to ``stop``, uniform before the timestep shift."""
    _checked_steps(num_steps)
    ends = shift_time(torch.tensor([start, stop], dtype=torch.float64), 1 / shift)
    knots = shift_time(torch.linspace(float(ends[0]), float(ends[1]), num_steps + 1, dtype=torch.float64), shift)
    knots[0], knots[-1] = start, stop
    return knots


def log_odds_grid(num_steps: int) -> Tensor:
    """Knots (num_steps+1,) float64 from 0 to 1, even in the logarithm of ``(t + a) / (1 - t + b)``: finer at the noise,
    where everything is decided, and at the brain too, where details settle. The grid of brains drawn from noise.
    """
    # Unspecified in the paper: the spacing of the steps. Measured in ADR 18.
    at_noise, at_brain = 0.1, 0.3
    steps = _checked_steps(num_steps)
    ends = [math.log(at_noise / (1 + at_brain)), math.log((1 + at_noise) / at_brain)]
    odds = torch.linspace(ends[0], ends[1], steps + 1, dtype=torch.float64).exp()
    knots = (odds * (1 + at_brain) - at_noise) / (1 + odds)
    knots[0], knots[-1] = 0.0, 1.0
    return knots


def evaluations(method: str, num_steps: int) -> int:
    """How many evaluations of the velocity ``num_steps`` steps of ``method`` cost."""
    if _checked_method(method) in ("fireflow", "extrapolated"):
        return num_steps + 1
    return num_steps * (2 if method in ("midpoint", "heun") else 1)


def sample_seed(seed: int, *indices: int) -> int:
    """An independent 63-bit seed for each (seed, indices): the same on every machine."""
    digest = hashlib.sha256(":".join(str(int(v)) for v in (seed, *indices)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def noise(shape: Sequence[int], seed: int, index: int = 0) -> Tensor:
    """Standard normal float32 on the CPU from a local generator: sample number ``index`` of ``seed``."""
    generator = torch.Generator(device="cpu").manual_seed(sample_seed(seed, index))
    return torch.randn(tuple(shape), generator=generator)


def noise_batch(count: int, shape: Sequence[int], seed: int, first: int = 0) -> Tensor:
    """(count, *shape): row i is ``noise(shape, seed, first + i)`` whatever ``count`` is."""
    return torch.stack([noise(shape, seed, first + i) for i in range(count)])


def opposed_noise(count: int, shape: Sequence[int], seed: int) -> Tensor:
    """(count, *shape) in pairs of opposite sign: row 2i is ``noise(shape, seed, i)``, row 2i+1 its negative.

    What is linear in the noise cancels in the mean of an even ensemble (antithetic sampling).
    """
    return torch.stack([noise(shape, seed, index // 2) * (1 - 2 * (index % 2)) for index in range(count)])


def micro_batches(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` rows that cover ``count`` rows in order."""
    for start in range(0, count, max(size, 1)):
        yield slice(start, min(start + max(size, 1), count))


_Step = Callable[[Tensor, float, float], Tensor]


def _euler(velocity: Velocity) -> _Step:
    def step(x: Tensor, t: float, t_next: float) -> Tensor:
        return x + (t_next - t) * velocity(x, _batch_time(x, t))

    return step


def _midpoint(velocity: Velocity) -> _Step:
    def step(x: Tensor, t: float, t_next: float) -> Tensor:
        h = t_next - t
        middle = x + 0.5 * h * velocity(x, _batch_time(x, t))
        return x + h * velocity(middle, _batch_time(x, t + 0.5 * h))

    return step


def _heun(velocity: Velocity) -> _Step:
    def step(x: Tensor, t: float, t_next: float) -> Tensor:
        h = t_next - t
        v = velocity(x, _batch_time(x, t))
        v_next = velocity(x + h * v, _batch_time(x, t_next))
        return x + 0.5 * h * (v + v_next)

    return step


def _ab2(velocity: Velocity) -> _Step:
    """Adams-Bashforth of second order on uneven steps; the first step is Euler's, which keeps the order."""
    before: list[tuple[Tensor, float]] = []

    def step(x: Tensor, t: float, t_next: float) -> Tensor:
        h = t_next - t
        v = velocity(x, _batch_time(x, t))
        slope = v if not before else v + (0.5 * h / before[0][1]) * (v - before[0][0])
        before[:] = [(v, h)]
        return x + h * slope

    return step


def _fireflow(velocity: Velocity) -> _Step:
    """The midpoint rule, its half step taken with the slope of the midpoint before (FireFlow, arXiv 2412.07517).

    That slope is off by O(h), the midpoint by O(h^2), the step by O(h^3): second order for one evaluation a step, and
    one more at the start.
    """
    before: list[Tensor] = []

    def step(x: Tensor, t: float, t_next: float) -> Tensor:
        h = t_next - t
        slope = before[0] if before else velocity(x, _batch_time(x, t))
        before[:] = [velocity(x + 0.5 * h * slope, _batch_time(x, t + 0.5 * h))]
        return x + h * before[0]

    return step


def _extrapolated(velocity: Velocity) -> _Step:
    """The midpoint rule, its half step taken with the slope that a parabola through the last three predicts for it.

    FireFlow takes the last slope as it is, off by O(h); this one is off by O(h^3) from the third step on. What is left
    is the error of the midpoint rule and of the first two steps. It costs the same.
    """
    known: list[tuple[float, Tensor]] = []

    def step(x: Tensor, t: float, t_next: float) -> Tensor:
        h = t_next - t
        if not known:
            known.append((t, velocity(x, _batch_time(x, t))))
        middle = x + 0.5 * h * _through(known, t + 0.25 * h)
        known[:] = [*known[-2:], (t + 0.5 * h, velocity(middle, _batch_time(x, t + 0.5 * h)))]
        return x + h * known[-1][1]

    return step


def _through(known: Sequence[tuple[float, Tensor]], t: float) -> Tensor:
    """At ``t``, the polynomial of least degree through the values at their times (Lagrange)."""
    terms = [
        value * math.prod((t - other) / (time - other) for other, _ in known if other != time) for time, value in known
    ]
    return torch.stack(terms).sum(0)


_STEPPERS: dict[str, Callable[[Velocity], _Step]] = {
    "euler": _euler, "midpoint": _midpoint, "heun": _heun, "ab2": _ab2, "fireflow": _fireflow,
    "extrapolated": _extrapolated,
}
METHODS: tuple[str, ...] = tuple(_STEPPERS)


def _batch_time(x: Tensor, t: float) -> Tensor:
    # Half-precision latents keep float32 times: bfloat16 cannot tell neighbouring knots apart.
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.full((x.shape[0],), t, dtype=dtype, device=x.device)


def _checked_steps(num_steps: int) -> int:
    if num_steps < 1:
        raise RequestError("sampling.steps", f"At least one step is needed, got {num_steps}.", "Raise num_steps.")
    return num_steps


def _checked_method(method: str) -> str:
    if method not in _STEPPERS:
        raise RequestError(
            "sampling.method", f"Unknown integrator {method!r}.",
            f"{nearest(method, METHODS)}Known integrators: {', '.join(METHODS)}.",
        )
    return method


def _checked_knots(times: Tensor | Sequence[float]) -> list[float]:
    knots = [float(t) for t in times]
    steps = [b - a for a, b in itertools.pairwise(knots)]
    if not steps or not (all(h > 0 for h in steps) or all(h < 0 for h in steps)):
        raise RequestError(
            "sampling.times", f"Times must be two or more and strictly monotone, got {knots}.", "See time_grid."
        )
    return knots
