"""Validation latents to calibrate a tiny generator on, and the calibration as a command of this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.latents import LatentSet


def scans(tokenizer: str, subjects: int = 8, modality: str = "T1") -> LatentSet:
    generator = torch.Generator().manual_seed(0)
    records = [
        {"subject": f"s{i}", "visit": 0, "modality": modality, "disease": "HC", "sex": "FM"[i % 2],
         "age_years": 40.0 + i}
        for i in range(subjects)
    ]
    return LatentSet(torch.randn(subjects, 1200, 32, generator=generator), records, tokenizer)


class Calibration:
    """``main`` of a module, called as its command line would be."""

    def __init__(self, main: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
        self.main, self.monkeypatch = main, monkeypatch

    def __call__(self, checkpoint: Path, data: LatentSet, out: Path, *more: str) -> Path:
        """Calibrate on these latents, and return the folder of the new generator."""
        data.save(out / "latents")
        arguments = ["--checkpoint", checkpoint, "--latents", out / "latents", "--out", out, "--device", "cpu", *more]
        self.monkeypatch.setattr("sys.argv", ["calibrate", *map(str, arguments)])
        self.main()
        return out / "dit"
