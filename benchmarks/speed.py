"""Seconds and peak memory of what a user waits for: ``python -m benchmarks.speed`` (or ``make benchmark``).

The demo runs in a process of its own, as on the command line. An edit and a forecast are then asked of a scan that is
already preprocessed and encoded, once cold (weights are read) and once warm. Run it on an idle machine.

--scan FILE: a T1 instead of ICBM152. --checkpoint DIR: instead of the embedded default. --out FILE: also as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from braing3n_core import Conditions, CounterfactualRequest, Engine, ForecastRequest
from braing3n_core.demo import HORIZONS_YEARS, save_icbm152
from braing3n_core.schema import AnyRequest, EncodeRequest


@dataclass(frozen=True)
class Row:
    """One measurement. peak_gb: largest resident memory of the process, None where it is not its own process."""

    what: str
    seconds: float
    peak_gb: float | None = None


def measure_command(what: str, *arguments: str) -> Row:
    """A command line in a child process. Raises CalledProcessError when it fails."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "braing3n_core", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes there, kilobytes elsewhere
    return Row(what, seconds, usage.ru_maxrss / unit)


def measure_call(what: str, call: Callable[[], object]) -> Row:
    """A call in this process."""
    start = time.perf_counter()
    call()
    return Row(what, time.perf_counter() - start)


def measure_requests(scan: Path, checkpoint: str, folder: Path) -> list[Row]:
    """An edit and a forecast of a scan that the engine holds already, files written."""
    engine = Engine(checkpoint)
    rows = [measure_call("preprocess and encode", lambda: engine.run(EncodeRequest(str(scan)), folder / "encode"))]
    requests: dict[str, AnyRequest] = {
        "counterfactual": CounterfactualRequest(str(scan), target=Conditions(disease="AD")),
        f"forecast, {len(HORIZONS_YEARS)} horizons x 8 samples": ForecastRequest(
            str(scan), horizons_years=HORIZONS_YEARS, samples=8
        ),
    }
    for what, request in requests.items():
        for state in ("cold", "warm"):
            out = folder / f"{type(request).__name__}_{state}"
            rows.append(measure_call(f"{what}, {state}", lambda r=request, o=out: engine.run(r, o)))  # type: ignore[misc]
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--checkpoint", default="small")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="braing3n-speed-") as name:
        folder = Path(name)
        scan = options.scan or save_icbm152(folder / "input")
        common = ("--checkpoint", options.checkpoint, "--quiet")
        rows = [
            measure_command("demo, whole", "demo", str(scan), "-o", str(folder / "demo"), *common),
            *measure_requests(scan, options.checkpoint, folder),
        ]
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}")
    for row in rows:
        memory = "" if row.peak_gb is None else f"   {row.peak_gb:.1f} GB"
        print(f"{row.what:<40} {row.seconds:7.1f} s{memory}")
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
