"""Editing by way of the noise: inversion there and back (midpoint, FireFlow), and SDEdit's noise that is added.

An inversion carries the latents z from t = 1 to t = t_0 under the source's conditions, which gives the noise that the
model would have made them from, and back under the target's. The way back under the source's own conditions does not
end exactly at z either; what it misses is the integrator's error and no edit, so it is taken off:

    z_edit = z + (back under the target) - (back under the source),

and equal conditions give z itself. SDEdit (arXiv 2108.01073) adds random noise instead and keeps of the scan what is
left at t_0. Legend: B batch, N tokens, C latent channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..progress import Cancel, Progress, part, silent
from .flow import Velocity
from .sampling import integrate, noise

INVERSIONS: tuple[str, ...] = ("midpoint", "fireflow")
"""Integrators that serve as inversions: FireFlow (arXiv 2412.07517) is the midpoint rule at half the evaluations."""


def invert_and_return(
    ends: tuple[Velocity, Velocity], latents: Tensor, times: Tensor, method: str, *, progress: Progress = silent,
    cancel: Cancel | None = None,
) -> Tensor:
    """The edited latents (B,N,C). ends: velocities under source and target. times: knots from t_0 to 1.

    Costs three integrations. Raises Cancelled between steps.
    """
    source, target = ends
    found = integrate(source, latents, times.flip(0), method, progress=part(progress, 0.0, 0.33), cancel=cancel)
    kept = integrate(source, found, times, method, progress=part(progress, 0.33, 0.66), cancel=cancel)
    moved = integrate(target, found, times, method, progress=part(progress, 0.66, 1.0), cancel=cancel)
    return latents + (moved - kept)


def renoised(latents: Tensor, t: float, seed: int) -> Tensor:
    """The latents (B,N,C) at time ``t`` of the linear path from noise, the same noise for every row."""
    eps = noise(latents.shape[1:], seed).to(latents)[None]
    return torch.lerp(eps, latents, t)
