"""What a run tells while it goes: ``log.csv``, a line of progress, TensorBoard scalars and pictures."""

from __future__ import annotations

import csv
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = (
    "step", "loss", "grad_norm", "learning_rate", "samples", "samples_per_second", "seconds", "memory_gb", "mfu",
)
_WINDOW = 20
"""Steps over which throughput is averaged, and between two lines of progress."""


@dataclass(frozen=True)
class Hardware:
    """flops: of one step on this process, 0 when not counted. peak: of the GPU, None when not known."""

    flops: float = 0.0
    peak: float | None = None


class Journal:
    """One run's log. Only the first process writes; the others hold a journal that is silent."""

    def __init__(self, run: Path, step: int, *, writes: bool = True, hardware: Hardware | None = None) -> None:
        self.run, self.writes, self.hardware = run, writes, hardware or Hardware()
        self.times: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self.board: Any = None
        if writes:
            self._trim(step)
            self.file = (run / "log.csv").open("a", newline="")
            self.table = csv.writer(self.file)
            self.board = _board(run / "tensorboard", step)

    def record(self, row: dict[str, float], done: float) -> None:
        """One step; ``row`` lacks the throughput, done is the share of the run."""
        self.times.append((time.monotonic(), int(row["samples"])))
        if not self.writes:
            return
        row = {**row, **self._throughput()}
        self.table.writerow([row.get(name, "") for name in COLUMNS])
        self.file.flush()
        if self.board is not None:
            for name, value in row.items():
                if name not in ("step", "samples"):
                    self.board.add_scalar(f"training/{name}", value, int(row["step"]))
        if row["step"] % _WINDOW == 0 or done >= 1:
            print(line_of(row, done), file=sys.stderr, flush=True)

    def picture(self, name: str, step: int, picture: np.ndarray) -> None:
        """A grey picture (H,W) uint8 as PNG beside the log, and in TensorBoard."""
        from PIL import Image

        folder = self.run / "pictures"
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"step-{step:08d}_{name}.png")
        if self.board is not None:
            self.board.add_image(name, picture, step, dataformats="HW")

    def close(self) -> None:
        """Finish the files."""
        if self.writes:
            self.file.close()
        if self.board is not None:
            self.board.close()

    def _throughput(self) -> dict[str, float]:
        (first, before), (last, now) = self.times[0], self.times[-1]
        if last <= first:
            return {}
        row = {"samples_per_second": (now - before) / (last - first)}
        if self.hardware.flops and self.hardware.peak:
            row["mfu"] = self.hardware.flops * (len(self.times) - 1) / (last - first) / self.hardware.peak
        return row

    def _trim(self, step: int) -> None:
        """Forget what was logged after the snapshot that the run goes on from."""
        path = self.run / "log.csv"
        rows = []
        if step and path.is_file():
            with path.open(newline="") as file:
                rows = [r for r in list(csv.reader(file))[1:] if len(r) == len(COLUMNS) and int(r[0]) <= step]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


def line_of(row: dict[str, float], done: float) -> str:
    """The row as a line for people."""
    bar = "#" * round(20 * min(done, 1))
    left = row["seconds"] * (1 - done) / max(done, 1e-9)
    parts = [
        f"[{bar:<20}] {100 * min(done, 1):3.0f}%  step {int(row['step'])}", f"loss {row['loss']:.4f}",
        f"{int(row['samples'])} samples", f"{row.get('samples_per_second', 0.0):.2f}/s",
        f"{row['seconds']:.0f} s, {max(left, 0):.0f} s left",
    ]
    if "memory_gb" in row:
        parts.append(f"{row['memory_gb']:.1f} GB")
    if "mfu" in row:
        parts.append(f"model FLOPs {100 * row['mfu']:.0f}% of peak")
    return "  ".join(parts)


def _board(folder: Path, step: int) -> Any:
    """A TensorBoard writer, or None where TensorBoard is not installed: the CSV file has the same numbers."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("no TensorBoard here (pip install tensorboard); see log.csv", file=sys.stderr, flush=True)
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
