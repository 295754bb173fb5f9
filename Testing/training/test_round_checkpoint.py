"""Rounded checkpoints: how far a number may move, what stays, and that the result compresses and still loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from braing3n_core.checkpoint import load_checkpoint, resolve
from training.round_checkpoint import compressed_mb, rounded, rounded_transformer


def test_a_number_moves_by_at_most_half_of_its_step() -> None:
    draw = torch.Generator().manual_seed(0)
    numbers, size = torch.randn(50, 400, generator=draw), torch.rand(400, generator=draw) + 1e-3
    moved = (rounded(numbers, size) - numbers).abs()
    assert (moved <= size / 2 + 1e-7).all() and (moved > size / 8).any()
    assert torch.equal(rounded(numbers, torch.full((1,), 2.0**-40)), numbers)


def test_what_hardly_varies_is_kept_more_exactly_than_what_varies_much() -> None:
    draw = torch.Generator().manual_seed(1)
    sigma = torch.tensor([[0.01, 1.0]])
    tensors = {"prior.sigma": sigma, "prior.weight": torch.randn(300, 2, generator=draw)}
    found = rounded_transformer(tensors, levels=8)
    moved = (found["prior.weight"] - tensors["prior.weight"]).abs().max(0).values
    assert (moved <= sigma[0] / 16).all() and moved[1] > 10 * moved[0]
    assert torch.equal(found["prior.sigma"], sigma)


def test_vectors_stay_and_a_row_of_zeros_is_no_trouble() -> None:
    tensors = {"bias": torch.linspace(-1, 1, 7), "weight": torch.zeros(3, 5), "prior.sigma": torch.ones(1, 1)}
    for name, tensor in rounded_transformer(tensors, levels=8).items():
        assert torch.equal(tensor, tensors[name])


def test_what_has_few_digits_already_or_is_small_stays_too() -> None:
    draw = torch.Generator().manual_seed(2)
    maps = torch.randint(-63, 64, (2, 9), generator=draw, dtype=torch.int8)
    tensors = {"prior.sigma": torch.ones(3, 3), "prior.maps": maps, "prior.shares": torch.randn(5, 2, generator=draw)}
    for name, tensor in rounded_transformer(tensors, levels=8).items():
        assert torch.equal(tensor, tensors[name])


def test_the_command_writes_a_checkpoint_that_loads_and_takes_less_room(tmp_path: Path) -> None:
    source = resolve("small") / "forecaster"
    command = [sys.executable, "-m", "training.round_checkpoint", "--checkpoint", str(source), "--levels", "4"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    new, old = load_checkpoint(tmp_path / "forecaster", "forecaster"), load_checkpoint(source)
    assert new.id != old.id and new.parents == old.parents and new.config == old.config
    assert compressed_mb(new.folder / "model.safetensors") < 0.8 * compressed_mb(source / "model.safetensors")


def test_maps_of_fields_are_rounded_by_the_sigma_of_their_group_and_the_mean_by_the_least() -> None:
    draw = torch.Generator().manual_seed(4)
    sigma = torch.tensor([0.01, 1.0]).reshape(2, 1, 1).expand(2, 3, 2).contiguous()
    maps = torch.randint(-127, 128, (2, 3, 2, 4), generator=draw, dtype=torch.int8)
    tensors = {"prior.sigma": sigma, "prior.fields.maps": maps, "prior.fields.steps": torch.full((2, 3, 2), 0.0005),
               "prior.fields.level": torch.rand(2, 4), "prior.weight": torch.randn(5, 6, generator=draw)}  # fmt: skip
    found = rounded_transformer(tensors, levels=8)
    exact = [t["prior.fields.maps"] * t["prior.fields.steps"][..., None].double() for t in (found, tensors)]
    moved = {name: (found[name] - tensors[name]).abs() for name in tensors} | {"maps": (exact[0] - exact[1]).abs()}
    assert moved["maps"][0].max() <= 0.01 / 16 < 0.02 < moved["maps"][1].max() <= 1 / 16
    assert found["prior.fields.maps"].dtype == torch.int8 and found["prior.fields.maps"].abs().max() <= 127
    assert moved["prior.weight"].max() <= 0.01 / 16 and moved["prior.fields.level"].max() == 0
