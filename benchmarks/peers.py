"""BrainG3N beside the published architectures of its field, in one run: ``python -m benchmarks.peers``.

Every row is measured in a child process of its own, with a memory limit: the median of a few calls after one to warm
up, and the largest memory. **All weights are random**: time and memory do not depend on them, and nothing here says how
good an image is. A total is the sum of its steps and one decode and is not run as a whole. Run it on an idle machine.

--size paper|small: of BrainG3N. --device cpu|cuda. --only NAME [NAME...]: some rows. --memory-gb: limit of a child.
--repeats N: calls of a row. --rounds N: go through all rows so many times; the median is over the calls of all rounds,
so that a minute in which something else had the machine does not decide a row. --out FILE: also as JSON. --list: the
rows and the sizes of their networks, nothing is run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .peer_networks import Workload
from .peer_networks import rows as workloads_of

if TYPE_CHECKING:
    from torch import nn

Total = tuple[str, dict[str, int]]
"""What a volume costs: rows, and how often each is paid."""

OURS: tuple[Total, ...] = (
    ("BrainG3N, 50 steps of Euler (paper), guidance off", {"ours: step": 50, "ours: decode": 1}),
    ("BrainG3N, 50 steps of Euler (paper), guided", {"ours: guided step": 50, "ours: decode": 1}),
)
"""Beside these our default's, which is counted: :func:`default_total`."""

PEERS: tuple[Total, ...] = (
    ("UK Biobank LDM, 50 steps of DDIM", {"UKB LDM: step": 50, "UKB LDM: decode": 1}),
    ("UK Biobank LDM, with our care for memory", {"UKB LDM with care: step": 50, "UKB LDM with care: decode": 1}),
    ("BrLP, 50 steps of DDIM", {"BrLP: step": 50, "BrLP: decode": 1}),
    ("MAISI's rectified flow, 30 steps, on our grid", {"MAISI rflow: step": 30, "MAISI rflow: decode": 1}),
)


@dataclass(frozen=True)
class Row:
    """One measurement. seconds: median of a call; peak_gb: of the process, or of the GPU; error: why there is none;
    calls: seconds of each.
    """

    name: str
    millions: float = 0.0
    megavoxels: float = 0.0
    seconds: float | None = None
    peak_gb: float | None = None
    error: str = ""
    calls: Sequence[float] = ()


def limit_memory(gigabytes: float) -> None:
    """Make this process fail with an error, rather than the machine, when it asks for more."""
    import resource

    size = int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def parameters_in_millions(network: nn.Module) -> float:
    """How many numbers the network has learnt, or would have."""
    return sum(p.numel() for p in network.parameters()) / 1e6


def measure(name: str, load: Workload, device: str, repeats: int) -> Row:
    """The median time of a call and the peak memory of this process, or of the GPU. bfloat16 where it is fast."""
    import resource

    import torch

    from braing3n_core.loading import choose_runtime

    runtime = choose_runtime(device)
    with torch.inference_mode(), runtime.autocast():
        network = load.build()
        millions = parameters_in_millions(network)  # before it is made ready: packed weights are no parameters
        network = load.ready(network, runtime)
        call = load.prepare(network, runtime.device)
        seconds = [timed(call, runtime.device) for _ in range(repeats + 1)][1:]
    unit = 1e9 if sys.platform == "darwin" else 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if runtime.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e9
    return Row(name, millions, load.megavoxels, statistics.median(seconds), peak, calls=seconds)


def timed(call: Callable[[], Any], device: str) -> float:
    """Seconds of one call, to its end on the GPU."""
    import torch

    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_a_child(name: str, options: argparse.Namespace) -> Row:
    """:func:`measure` in a process of its own; one that fails is a row with its reason."""
    command = [
        sys.executable, "-m", "benchmarks.peers", "--child", name, "--size", options.size, "--device", options.device,
        "--repeats", str(options.repeats), "--memory-gb", str(options.memory_gb),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return Row(**json.loads(done.stdout.splitlines()[-1]))
    return Row(name, error=(done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:100])


def together(rounds: Sequence[Row]) -> Row:
    """One row of the measurements of all rounds; one that failed in a round failed."""
    failed = [row for row in rounds if row.seconds is None]
    if failed:
        return failed[0]
    calls = [seconds for row in rounds for seconds in row.calls]
    peak = max(row.peak_gb or 0.0 for row in rounds)
    return replace(rounds[0], seconds=statistics.median(calls), peak_gb=peak, calls=calls)


def default_total() -> Total:
    """What a volume costs by the defaults of a request: its sampler is run once on a velocity that only counts."""
    import torch

    from braing3n_core.drawing import guided_velocity
    from braing3n_core.generation.sampling import integrate, log_odds_grid
    from braing3n_core.models.conditions import ConditionBatch
    from braing3n_core.models.dit import DiTConfig
    from braing3n_core.schema import GUIDANCE_SCALE, GenerateRequest

    request, groups = GenerateRequest(), []

    def zero(x: torch.Tensor, _t: torch.Tensor, conditions: Sequence[ConditionBatch]) -> torch.Tensor:
        groups.append(len(conditions))
        return torch.zeros_like(x)

    class Counting:
        """In the place of the networks."""

        def velocity(self, _kind: str) -> Callable[..., torch.Tensor]:
            """Zero, with a note of how many sets of conditions it was asked under."""
            return zero

    given = ConditionBatch.from_rows(DiTConfig().spec(), [{}])
    velocity = guided_velocity(Counting(), given, request, GUIDANCE_SCALE)  # type: ignore[arg-type]
    integrate(velocity, torch.zeros(1, 1, 1), log_odds_grid(request.num_steps), request.sampler)
    paid = {"ours: step": groups.count(1), "ours: guided step": groups.count(2), "ours: decode": 1}
    return f"BrainG3N, its default: {len(groups)} evaluations, guided", paid


def totals(rows: Sequence[Row]) -> list[tuple[str, float]]:
    """Seconds of a whole volume where all of its parts were measured."""
    measured = {row.name: row.seconds for row in rows if row.seconds is not None}
    return [
        (name, sum(times * measured[row] for row, times in parts.items()))
        for name, parts in (*OURS, default_total(), *PEERS) if parts.keys() <= measured.keys()
    ]


def show(rows: Sequence[Row]) -> None:
    """The table, the totals, and their ratios to the first peer."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}; all weights random")
    print(f"{'':<34} {'M numbers':>10} {'seconds':>9} {'s/Mvoxel':>9} {'peak GB':>8}")
    for row in rows:
        if row.seconds is None:
            print(f"{row.name:<34} not measured: {row.error}")
            continue
        rate = f"{row.seconds / row.megavoxels:9.3f}" if row.megavoxels else " " * 9
        print(f"{row.name:<34} {row.millions:10.1f} {row.seconds:9.3f} {rate} {row.peak_gb or 0:8.1f}")
    whole = totals(rows)
    peer = next((seconds for name, seconds in whole if name.startswith("UK Biobank")), None)
    for name, seconds in whole:
        ratio = f", {peer / seconds:.1f} times as fast as the UK Biobank LDM" if peer else ""
        print(f"one volume, its steps and one decode: {name}: {seconds:.1f} s{ratio}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("paper", "small"), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--memory-gb", type=float, default=12.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    workloads = workloads_of(options.size)
    if options.child:
        limit_memory(options.memory_gb)
        print(json.dumps(asdict(measure(options.child, workloads[options.child], options.device, options.repeats))))
        return
    if options.list:
        list_networks(workloads)
        return
    names = [n for n in workloads if options.only is None or n in options.only]
    measured: dict[str, list[Row]] = {name: [] for name in names}
    for turn in range(options.rounds):
        for name in names:
            print(f"[{turn + 1}/{options.rounds}] measuring {name}", file=sys.stderr, flush=True)
            measured[name].append(in_a_child(name, options))
    rows = [together(rounds) for rounds in measured.values()]
    show(rows)
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


def list_networks(workloads: dict[str, Workload]) -> None:
    """The rows with the sizes of their networks."""
    for name, load in workloads.items():
        print(f"{name:<34} {size_in_millions(load):9.1f} million numbers")


def size_in_millions(load: Workload) -> float:
    """Of a network that is built without memory, where its constructor does not look at its numbers."""
    import torch

    try:
        with torch.device("meta"):
            return parameters_in_millions(load.build())
    except RuntimeError:  # MONAI's Swin looks
        return parameters_in_millions(load.build())


if __name__ == "__main__":
    main()
