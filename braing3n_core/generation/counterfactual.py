"""Editing a real scan's latents under changed conditions: FlowEdit (arXiv 2412.08629), which needs no inversion.

:mod:`.inversion` holds the other ways, and :func:`counterfactual` chooses. FlowEdit is written from the equations of
its paper in our direction of time. At each t the scan is noised, ``z_src = t z + (1-t) eps``, the edit is carried to
the same noise, ``z_tgt = z_src + (z_edit - z)``, and the edit moves with the *difference* of the two velocities:
``dz_edit/dt = E_eps[ v(z_tgt | target) - v(z_src | source) ]``. Where nothing is changed the difference is zero, so the
scan stays what it is.

Legend: B batch, N tokens, C latent channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import RequestError
from ..progress import Cancel, Progress, silent
from ..schema import EDIT_METHODS, nearest
from .flow import DEFAULT_SHIFT, Velocity
from .guidance import ConditionalVelocity, Contrast, active_contrasts, amplify, evaluate, guide
from .inversion import INVERSIONS, invert_and_return, renoised
from .sampling import integrate, noise, sample_seed, time_grid


@dataclass(frozen=True)
class EditOptions:
    """How to edit. strength: share of the path that is edited, 0..1 (0 leaves the scan, 1 starts at pure noise).

    draws: noises averaged at each time (the ``n_avg`` of FlowEdit). seed: of those noises, the same for every row of a
    batch, so that a row's answer does not depend on its neighbours. shift: timestep shift of the grid.
    method: one of :data:`braing3n_core.schema.EDIT_METHODS`. integrator: of FlowEdit and SDEdit alone.
    """

    strength: float = 1.0
    num_steps: int = 12
    draws: int = 1
    seed: int = 0
    shift: float = DEFAULT_SHIFT
    method: str = "flowedit"
    integrator: str = "euler"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and 0 <= self.strength <= 1):
            raise RequestError("edit.strength", f"strength must lie in 0..1, got {self.strength}.", "1 edits it all.")
        if self.method not in EDIT_METHODS:
            raise RequestError(
                "edit.method", f"Unknown way of editing {self.method!r}.",
                f"{nearest(self.method, EDIT_METHODS)}Known: {', '.join(EDIT_METHODS)}.",
            )
        if self.draws < 1:
            raise RequestError("edit.draws", f"At least one noise draw is needed, got {self.draws}.", "Use 1 or more.")


@dataclass(frozen=True)
class Edit:
    """From which conditions to which. source, target: condition batches of B rows, opaque here.

    contrasts: guidance of the target velocity; factored guidance is ``Contrast(without=source, ...)``.
    ``target is source`` is the null edit.
    """

    source: Any
    target: Any
    contrasts: Sequence[Contrast] = ()


def counterfactual(
    conditional: ConditionalVelocity,
    latents: Tensor,
    edit: Edit,
    options: EditOptions | None = None,
    *,
    progress: Progress = silent,
    cancel: Cancel | None = None,
) -> Tensor:
    """The latents (B,N,C) of the same brains under ``edit.target``, by ``options.method``.

    The null edit and strength 0 return the input bit for bit. The same seed gives the same answer. Raises Cancelled.
    """
    options = options or EditOptions()
    if edit.target is edit.source or options.strength == 0:
        progress(1.0, "Nothing to change")
        return latents.clone()
    times = time_grid(options.num_steps, options.shift, start=1 - options.strength)
    if options.method == "sdedit":
        velocity = guide(conditional, edit.target, edit.contrasts)
        start = renoised(latents, float(times[0]), options.seed)
        return integrate(velocity, start, times, options.integrator, progress=progress, cancel=cancel)
    if options.method in INVERSIONS:
        ends = (guide(conditional, edit.source), guide(conditional, edit.target, edit.contrasts))
        return invert_and_return(ends, latents, times, options.method, progress=progress, cancel=cancel)
    velocity = edit_velocity(conditional, latents, edit, options)
    return integrate(velocity, latents, times, options.integrator, progress=progress, cancel=cancel)


def edit_velocity(
    conditional: ConditionalVelocity, latents: Tensor, edit: Edit, options: EditOptions
) -> Velocity:
    """``dz_edit/dt`` of FlowEdit for the scans ``latents`` (B,N,C): a pure function of (z_edit, t)."""

    def velocity(z_edit: Tensor, t: Tensor) -> Tensor:
        time = float(t[0])
        difference = torch.zeros_like(z_edit)
        for draw in range(options.draws):
            eps = _noise_at(time, draw, latents, options.seed)
            z_src = time * latents + (1 - time) * eps
            # In this order of sums z_tgt equals z_src bit for bit as long as nothing was edited.
            z_tgt = z_src + (z_edit - latents)
            difference = difference + _difference(conditional, z_tgt, z_src, t, edit)
        return difference / options.draws

    return velocity


def _difference(conditional: ConditionalVelocity, z_tgt: Tensor, z_src: Tensor, t: Tensor, edit: Edit) -> Tensor:
    active = active_contrasts(edit.contrasts, float(t[0]))
    groups = [(z_tgt, edit.target), (z_src, edit.source), *((z_tgt, c.without) for c in active)]
    v_tgt, v_src, *without = evaluate(conditional, t, groups)
    scales = [c.guidance.at(float(t[0])) for c in active]
    return amplify(v_tgt, list(zip(without, scales, strict=True))) - v_src


def _noise_at(time: float, draw: int, latents: Tensor, seed: int) -> Tensor:
    """Fresh noise (1,N,C) for each time and draw, as FlowEdit asks, yet a pure function of them."""
    eps = noise(latents.shape[1:], sample_seed(seed, round(time * 1_000_000)), draw)
    return eps.to(latents)[None]
