"""The colour of the noise that scans are carried back to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.drawing import carry
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from braing3n_core.models.noise import NoiseColour, bands, to_frequencies
from braing3n_core.schema import GenerateRequest
from training.conditions import conditions_of
from training.fit_noise import FEWEST, carried_back, colour_roots, varying_tokens
from training.latents import LatentSet

from ..core.tiny_checkpoint import make_tiny_checkpoint, with_another_generator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def scans(tokenizer: str, contrasts: str = "T1 T1 T1 T1 T1 T1") -> LatentSet:
    generator = torch.Generator().manual_seed(0)
    records = [
        {"subject": f"s{i}", "visit": 0, "modality": modality, "disease": "HC", "sex": "F", "age_years": 50.0 + i}
        for i, modality in enumerate(contrasts.split())
    ]
    latents = torch.randn(len(records), 1200, 32, generator=generator)
    latents[:, 300:] = 0.01 * latents[:, 300:]
    return LatentSet(latents, records, tokenizer)


def fit(checkpoint: Path, data: LatentSet, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    data.save(out / "latents")
    command = [sys.executable, "-m", "training.fit_noise", "--checkpoint", checkpoint, "--latents", out / "latents"]
    return subprocess.run(
        [*map(str, command), "--out", str(out), "--device", "cpu", *more], cwd=ROOT, capture_output=True, text=True
    )


def test_the_colour_of_noise_that_was_coloured_is_found_in_the_tokens_that_count() -> None:
    planted = NoiseColour(("T1",), 2)
    planted.roots[0, 0] = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
    planted.roots[0, 4:] = 0.5 * torch.eye(2)
    generator = torch.Generator().manual_seed(0)
    noises = planted(torch.randn(400, 1200, 2, generator=generator), ["T1"] * 400) + 3
    found = colour_roots(noises, torch.arange(1200))
    torch.testing.assert_close(found, planted.roots[0], rtol=0.15, atol=0.05)
    noises[:, 900:] = 0
    left_out = colour_roots(noises, torch.arange(900))
    torch.testing.assert_close(left_out[4:], planted.roots[0, 4:], rtol=0.15, atol=0.1)


def test_tokens_around_the_brain_which_do_not_vary_are_left_out() -> None:
    assert varying_tokens(scans("t").latents).tolist() == list(range(300))


def test_a_scan_carried_back_to_noise_and_forth_again_is_the_scan(checkpoint: Path) -> None:
    inference = Inference(Parts(checkpoint, "cpu"))
    data = scans("t", "T1 FLAIR")
    noises = carried_back(inference, data, steps=60)
    given = conditions_of(data.records, inference.parts.dit.spec)
    back = carry(inference, given, noises, GenerateRequest(guidance_scale=1.0, num_steps=60))
    assert float((back - data.latents).norm() / data.latents.norm()) < 0.01
    assert float((noises - data.latents).norm() / data.latents.norm()) > 0.1


def test_brains_of_a_fitted_contrast_are_drawn_in_its_colour_and_white_noise_can_be_asked_for(
    checkpoint: Path, tmp_path: Path
) -> None:
    before = load_checkpoint(checkpoint / "dit")
    data = scans(load_checkpoint(checkpoint / "tokenizer").id, "T1 " * FEWEST + "T2 T2")
    done = fit(checkpoint, data, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"T1\t{FEWEST} scans" in done.stdout and "T2: 2 scans are too few, its noise stays white" in done.stderr
    after = load_checkpoint(tmp_path / "dit")
    assert after.id != before.id and after.config["noise_colour"] is True
    assert all(np.array_equal(after.tensors()[name], a) for name, a in before.tensors().items())
    inference = Inference(Parts(with_another_generator(checkpoint, after.folder, tmp_path / "set"), "cpu"))
    shaped, white = inference.source(["T1", "T2"], 5), inference.source(["T1", "T2"], 5, noise_scale=1.0)
    torch.testing.assert_close(shaped[1], white[1], rtol=0, atol=1e-5)
    half = inference.source(["T1", "T2"], 5, noise_scale=0.5, coloured=True)
    torch.testing.assert_close(half, 0.5 * shaped)
    roots = colour_roots(carried_back(inference, data.only({"modality": "T1"})), torch.arange(300))
    expected = torch.einsum("ncd,nd->nc", roots[bands()], to_frequencies(white[0]))
    torch.testing.assert_close(to_frequencies(shaped[0]), expected, rtol=2e-3, atol=2e-3)


def test_too_few_scans_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    done = fit(checkpoint, scans(load_checkpoint(checkpoint / "tokenizer").id, "T1 T2"), tmp_path)
    assert done.returncode == 1 and f"No contrast has {FEWEST} scans" in done.stderr


def test_a_contrast_that_is_not_asked_for_stays_white(checkpoint: Path, tmp_path: Path) -> None:
    enough = scans(load_checkpoint(checkpoint / "tokenizer").id, "T1 " * FEWEST)
    done = fit(checkpoint, enough, tmp_path, "--contrasts", "T2")
    assert done.returncode == 1 and "T2: 0 scans are too few" in done.stderr and "T1" not in done.stdout
