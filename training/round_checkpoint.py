"""Round a transformer's numbers so that a repository that carries it grows by less.

    python -m training.round_checkpoint --checkpoint RUN/dit --levels 8 --out ROUNDED

A matrix keeps multiples of powers of two. They are between 1/LEVELS and 1/(2 LEVELS) of what a number may be off by
without harm: of the root mean square of its row in the network, and in the Gaussian of the standard deviation of the
element that it moves (what hardly varies must stay exact). The file stays as long as it was; but few different numbers
compress, and git stores files compressed.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import torch
from torch import Tensor

from braing3n_core.checkpoint import load_checkpoint

from .loop import TrainingError
from .stage import command, save_again


def rounded(tensor: Tensor, size: Tensor) -> Tensor:
    """The tensor with each number at the nearest multiple of the largest power of two up to ``size``, its own."""
    step = 2.0 ** torch.floor(torch.log2(size.double()))
    return ((tensor.double() / step).round() * step).to(tensor.dtype)


def rounded_maps(maps: Tensor, steps: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (...,K) in whole numbers of their steps (...,), with powers of two up to ``size`` (...,) as steps: larger
    ones where more than 127 of them would be needed.
    """
    exact = maps.double() * steps.double()[..., None]
    fine = 2.0 ** torch.floor(torch.log2(size.double()))
    needed = 2.0 ** torch.ceil(torch.log2((exact.abs().amax(-1) / 127).clamp(min=2.0**-20)))
    step = torch.maximum(fine, needed)
    return (exact / step[..., None]).round().to(torch.int8), step.to(steps.dtype)


def rounded_transformer(tensors: dict[str, Tensor], levels: float) -> dict[str, Tensor]:
    """All matrices of a transformer's weights rounded; what is small, has few digits or is sigma stays as it is."""
    found = dict(tensors)
    for name, tensor in tensors.items():
        if name in ("prior.weight", "prior.factors", "prior.components"):
            sigma = tensors["prior.sigma"]
            sigma = sigma if sigma.ndim == 2 else sigma.amin(0)  # with fields each group has its own
            found[name] = rounded(tensor, sigma.flatten() / levels)
        elif name == "prior.fields.maps":
            found[name], found["prior.fields.steps"] = rounded_maps(
                tensor, tensors["prior.fields.steps"], tensors["prior.sigma"] / levels
            )
        elif tensor.ndim == 2 and not name.startswith("prior."):
            rms = tensor.double().square().mean(1, keepdim=True).sqrt().clamp(min=2.0**-20)
            found[name] = rounded(tensor, rms / levels)
    return found


def compressed_mb(file: Path) -> float:
    """Size in MB as git would store it."""
    return len(zlib.compress(file.read_bytes())) / 1e6


def main() -> None:
    """Round and write ``OUT/dit`` or ``OUT/forecaster``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--levels", type=float, default=8.0)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    if not options.levels >= 1:
        raise TrainingError("round.levels", f"--levels is {options.levels:g}.", "Give 1 or more.")
    old = load_checkpoint(options.checkpoint)
    tensors = rounded_transformer(old.tensors("pt", dtype=None), options.levels)
    new = save_again(old, options.out, tensors, rounded_to_levels=options.levels)
    files = [folder / "model.safetensors" for folder in (options.checkpoint, new.folder)]
    print(f"{new.id}: {compressed_mb(files[0]):.1f} -> {compressed_mb(files[1]):.1f} MB compressed")


if __name__ == "__main__":
    command(main)
