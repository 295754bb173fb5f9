"""What a worker costs beside the engine in process: ``python -m benchmarks.worker``.

One probe of a 160x192x160 scan, over HTTPS on loopback and in this process, in turns. Both engines have the prepared
scan in memory, so that the difference is what the worker adds: hashing, upload, the parser, the queue, the download.
Run it on an idle machine; the promise is at most 0.5 s. --rounds N: how many of each (default 10).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from braing3n_core import Engine
from braing3n_core.demo import save_icbm152
from braing3n_core.protocol import TOKEN_VARIABLE
from braing3n_core.remote import RemoteEngine
from braing3n_core.schema import ProbeRequest
from braing3n_core.volume import Volume
from braing3n_core.worker.certificate import make_certificate

SHAPE = (160, 192, 160)


@contextmanager
def tls_worker(folder: Path) -> Iterator[RemoteEngine]:
    """A worker with TLS on a free port, and its client."""
    cert, key = make_certificate(folder, "127.0.0.1")
    token = secrets.token_urlsafe(32)
    command = [sys.executable, "-m", "braing3n_core.worker", "--child", "--port", "0",
               "--tls-cert", str(cert), "--tls-key", str(key)]  # fmt: skip
    environment = os.environ | {TOKEN_VARIABLE: token}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        said = json.loads(process.stdout.readline()) if process.stdout else {}
        engine = RemoteEngine(said["url"], token, said["fingerprint"])
        try:
            yield engine
        finally:
            engine.close()
            if process.stdin is not None:
                process.stdin.close()


def cropped_scan(folder: Path) -> Path:
    """ICBM152 cut to the size of a usual scan, around its middle."""
    volume = Volume.load(save_icbm152(folder))
    starts = [(have - want) // 2 for have, want in zip(volume.array.shape, SHAPE, strict=True)]
    cut = volume.array[tuple(slice(max(s, 0), max(s, 0) + n) for s, n in zip(starts, SHAPE, strict=True))]
    return Volume.from_array(cut, volume.affine).save(folder / "sub-01_T1w.nii.gz")


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = ProbeRequest(str(cropped_scan(folder)))
        near = Engine()
        with tls_worker(folder) as far:
            near.run(request, folder / "near")
            far.run(request, folder / "far")
            times = [(seconds(lambda: near.run(request, folder / "near")),
                      seconds(lambda: far.run(request, folder / "far"))) for _ in range(rounds)]  # fmt: skip
    here, there = (statistics.median(column) for column in zip(*times, strict=True))
    print("| probe of 160x192x160 | median of", rounds, "|\n|---|---|")
    print(f"| in process | {here:.3f} s |\n| worker, TLS on loopback | {there:.3f} s |")
    print(f"| overhead | {there - here:.3f} s, {there / here:.2f} x |")


if __name__ == "__main__":
    main()
