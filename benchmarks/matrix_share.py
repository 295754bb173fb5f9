"""Where the time of the sampling loop goes: ``python -m benchmarks.matrix_share --size paper``.

A guided generation of a few steps runs under torch's profiler, and each operator's own time is counted for what it is:
the matrix products of the linear layers (where they are packed, with the GELU that the same pass computes), attention
(its two products with the softmax between them, one kernel), and the rest by name. Weights are random: time does not
depend on them. Run it on an idle machine.

--size paper|small: of the transformer. --device cpu|cuda. --steps N: of the integrator, at guidance 1.5.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.profiler import profile

LINEAR: tuple[str, ...] = (
    "aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm", "aten::linear", "mkldnn::_linear_pointwise",
)
ATTENTION = "scaled_dot_product"


def shares(times: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Shares by kind, the largest first, of (operator, own time)."""
    found: dict[str, float] = {}
    for name, seconds in times:
        kind = name.removeprefix("aten::")
        if name in LINEAR:
            kind = "linear layers"
        elif ATTENTION in name:
            kind = "attention"
        found[kind] = found.get(kind, 0.0) + seconds
    total = sum(found.values())
    return {kind: seconds / total for kind, seconds in sorted(found.items(), key=lambda item: -item[1])}


def own_times(profiled: profile, device: str) -> list[tuple[str, float]]:
    """Each operator's own seconds, on the device where it computed."""
    name = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    return [(event.key, getattr(event, name) / 1e6) for event in profiled.key_averages()]


def profiled_sampling(size: str, device: str, steps: int) -> list[tuple[str, float]]:
    """The operators' own times in a guided generation of one brain; a step to warm up is not counted."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from braing3n_core.generation.guidance import Contrast, Guidance, guide
    from braing3n_core.generation.sampling import integrate, noise_batch, time_grid
    from braing3n_core.loading import choose_runtime
    from braing3n_core.models.conditions import ConditionBatch
    from braing3n_core.models.dit import DiT

    from .peer_networks import transformer_config

    runtime = choose_runtime(device)
    config = transformer_config(size, "dit")
    with torch.inference_mode(), runtime.autocast():
        network = runtime.prepare("dit", DiT(config))
        given = ConditionBatch.from_rows(network.spec, [{}]).to(runtime.device)
        start = noise_batch(1, (1200, config.channels), seed=0).to(runtime.device)
        contrasts = [Contrast(given.null(network.spec.amplified), Guidance(1.5))]
        velocity = guide(lambda x, t, conds: network(x, t, ConditionBatch.cat(list(conds))), given, contrasts)
        integrate(velocity, start, time_grid(1))
        kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if runtime.device == "cuda" else [])
        with profile(activities=kinds) as profiled:
            integrate(velocity, start, time_grid(steps))
    return own_times(profiled, runtime.device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("paper", "small"), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    found = shares(profiled_sampling(options.size, options.device, options.steps))
    products = found.get("linear layers", 0.0) + found.get("attention", 0.0)
    print(f"{products:.1%} of the sampling loop in linear layers and attention")
    for kind, share in found.items():
        if share >= 0.005:
            print(f"{share:7.1%}  {kind}")


if __name__ == "__main__":
    main()
