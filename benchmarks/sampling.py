"""Evaluations of the velocity that an integrator needs for the answer of Euler-200: ``python -m benchmarks.sampling``.

Brains are drawn from the same noise under the same conditions and guidance by every integrator at several costs. The
error is the relative L2 distance of the latents from those of Euler in 200 steps, with what guidance adds asked for at
every one; beside it stands the distance from a far finer solution, which tells how exact Euler-200 is itself. Compared
is what users get: latents whose parts have been put together again (ADR 31). Times are not measured.

--checkpoint DIR: instead of the embedded default. --as-drawn: compare what the sampler leaves, with weights of 1.
--count N: brains. --guidance S. --shift S: a time grid with this timestep shift in the place of the one that brains are
drawn on. --zero-star: CFG-Zero*. --prior-only: the closed-form part of the velocity (ADR 5) without its network.
--exact-guidance: ask for what guidance adds at every evaluation, not at every second as users do (ADR 24). --within
SHARE: the error to reach. --out FILE: the table also as TSV.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from braing3n_core.generation.flow import DEFAULT_SHIFT
from braing3n_core.generation.sampling import METHODS, evaluations, integrate, log_odds_grid, time_grid
from braing3n_core.schema import GUIDANCE_SCALE, GenerateRequest

if TYPE_CHECKING:
    from torch import Tensor

    from braing3n_core.generation.flow import Velocity

COSTS: tuple[int, ...] = (4, 6, 8, 10, 12, 13, 16, 20, 25, 50)
ASKED: tuple[dict[str, object], ...] = (
    {"disease": "HC", "sex": "F", "age_years": 30.0, "modality": "T1"},
    {"disease": "AD", "sex": "M", "age_years": 75.0, "modality": "T1"},
    {"disease": "MCI", "sex": "F", "age_years": 65.0, "modality": "FLAIR"},
    {"disease": "HC", "sex": "M", "age_years": 50.0, "modality": "T2"},
)
"""Conditions of the brains, taken in turn."""


@dataclass(frozen=True)
class Row:
    """One integrator at one cost. error, exact: relative L2 from Euler-200 and from the fine solution."""

    method: str
    evaluations: int
    error: float
    exact: float


def _unchanged(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, eq=False)
class Draw:
    """The velocities of brains and of the references, their noise (B,N,C), and what follows the sampler."""

    velocity: Velocity
    exact: Velocity
    start: Tensor
    finish: Callable[[Tensor], Tensor] = _unchanged


def relative(x: Tensor, reference: Tensor) -> float:
    """Relative L2 distance of all numbers."""
    return float((x - reference).norm() / reference.norm())


def measure(
    draw: Draw, costs: Iterable[int] = COSTS, grid: Callable[[int], Tensor] = log_odds_grid,
    told: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Every integrator at every cost it can have. grid: knots of so many steps. told: hears of each row as it is there.

    Euler in 200 steps is on the timestep shift of RAE whatever the grid: a reference must not move with what is tried.
    """
    euler = draw.finish(integrate(draw.exact, draw.start, time_grid(200, DEFAULT_SHIFT), "euler"))
    fine = draw.finish(integrate(draw.exact, draw.start, grid(100), "midpoint"))
    rows = [Row("euler", 200, 0.0, relative(euler, fine))]
    told(rows[0])
    for method in METHODS:
        for cost in costs:
            steps = next((n for n in range(1, cost + 1) if evaluations(method, n) == cost), None)
            if steps is None:
                continue
            x = draw.finish(integrate(draw.velocity, draw.start, grid(steps), method))
            rows.append(Row(method, cost, relative(x, euler), relative(x, fine)))
            told(rows[-1])
    return rows


def cheapest(rows: Sequence[Row], within: float, euler: float = 0.0) -> dict[str, int]:
    """By integrator: the smallest cost from which on every error is at most ``within``, or the answer is nearer to the
    fine solution than Euler-200 is, which lies ``euler`` from it.
    """
    best: dict[str, int] = {}
    for method in dict.fromkeys(row.method for row in rows):
        for row in sorted((r for r in rows if r.method == method), key=lambda r: -r.evaluations):
            if row.error > within and row.exact > euler:
                break
            best[method] = row.evaluations
    return best


def what_users_draw_by(
    checkpoint: str, count: int, request: GenerateRequest, prior_only: bool = False
) -> Draw:
    """The generator's guided velocity for ``count`` brains in float32, with exact guidance for the references."""
    import torch

    from braing3n_core.drawing import guided_velocity, reweighted
    from braing3n_core.inference import Inference
    from braing3n_core.loading import Parts

    run = Inference(Parts(checkpoint, precision="float32"))
    if prior_only:
        run.parts.dit.network = lambda x, *_: torch.zeros_like(x)  # type: ignore[method-assign]
    asked = [ASKED[i % len(ASKED)] for i in range(count)]
    known = run.parts.dit.spec.names
    given = run.conditions("dit", [{k: v for k, v in row.items() if k in known} for row in asked])
    scale = run.guidance_scale(None, request.guidance_scale)
    exact = guided_velocity(run, given, replace(request, exact_guidance=True), scale)
    source = run.source([str(row["modality"]) for row in asked], request.seed)
    velocity = guided_velocity(run, given, request, scale)
    return Draw(velocity, exact, source, lambda x: reweighted(run, given, x, replace(request, guidance_scale=scale)))


def main() -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="small")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=GUIDANCE_SCALE)
    parser.add_argument("--shift", type=float)
    parser.add_argument("--zero-star", action="store_true")
    parser.add_argument("--exact-guidance", action="store_true")
    parser.add_argument("--prior-only", action="store_true")
    parser.add_argument("--as-drawn", action="store_true")
    parser.add_argument("--within", type=float, default=0.01)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    grid = log_odds_grid if options.shift is None else lambda steps: time_grid(steps, options.shift)

    def tell(row: Row) -> None:
        print(f"{row.method}\t{row.evaluations}", file=sys.stderr, flush=True)

    with torch.inference_mode():
        request = GenerateRequest(
            guidance_scale=options.guidance, zero_star=options.zero_star, exact_guidance=options.exact_guidance,
            reweighting=(1.0, 1.0) if options.as_drawn else None,
        )
        draw = what_users_draw_by(options.checkpoint, options.count, request, options.prior_only)
        rows = measure(draw, grid=grid, told=tell)
    lines = ["integrator\tevaluations\tfrom Euler-200\tfrom the fine solution"]
    lines += [f"{r.method}\t{r.evaluations}\t{r.error:.5f}\t{r.exact:.5f}" for r in rows]
    print("\n".join(lines))
    for method, cost in cheapest(rows[1:], options.within, rows[0].exact).items():
        print(f"{method}: within {options.within:.1%} of Euler-200, or more exact than it, from {cost} evaluations on")
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
