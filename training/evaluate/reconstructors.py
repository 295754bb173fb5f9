"""Models that rebuild a scan, for the reconstruction table: tokenizers of other widths, and the AutoencoderKL baseline.

Legend: a volume is z-scored (X,Y,Z) on the model grid.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from braing3n_core.errors import CheckpointError
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts

from ..train_autoencoderkl import load as load_baseline


class Reconstructor(Protocol):
    """name: of its row; numbers: how many a scan becomes; id: of its weights."""

    name: str
    numbers: int
    id: str

    def of(self, volume: np.ndarray) -> np.ndarray: ...


class TokenizerReconstructor:
    """A folder with ``encoder`` and ``tokenizer``."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        self.inference = Inference(Parts(folder, device))
        parts = self.inference.parts
        channels = parts.tokenizer.config.channels
        self.name, self.numbers = f"{name}, {channels} channels", 1200 * channels
        self.id = parts.checkpoint("tokenizer").id

    def of(self, volume: np.ndarray) -> np.ndarray:
        return self.inference.decode(self.inference.encode(volume)[1])


class BaselineReconstructor:
    """``RUN/autoencoderkl`` of training.train_autoencoderkl."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        self.network = load_baseline(folder)
        self.id = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
        self.name = "AutoencoderKL" if name == folder.name else f"AutoencoderKL ({name})"
        self.numbers = int(np.prod(self.network.config.latent_shape))

    @torch.inference_mode()
    def of(self, volume: np.ndarray) -> np.ndarray:
        return self.network.reconstruct(torch.from_numpy(volume)[None, None])[0, 0].numpy()


def open_reconstructor(folder: Path, device: str = "auto") -> Reconstructor:
    """By what lies in the folder; its row has the name of its run. Raises CheckpointError when it is neither."""
    name = folder.parent.name if folder.name in ("checkpoint", "autoencoderkl") else folder.name
    if (folder / "tokenizer").is_dir() and (folder / "encoder").is_dir():
        return TokenizerReconstructor(name, folder, device)
    if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
        return BaselineReconstructor(name, folder, device)
    raise CheckpointError(
        "evaluate.reconstructor", f"{folder} has neither encoder and tokenizer nor an AutoencoderKL.",
        "Give the folders that training/runs/bottlenecks.sh makes.",
    )
