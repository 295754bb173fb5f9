"""The size of the noise that brains are drawn from, by contrast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from training.calibrate_generator import best, main
from training.latents import LatentSet
from training.likeness import Likeness
from training.loop import TrainingError

from ..core.tiny_checkpoint import make_tiny_checkpoint, with_another_generator
from .validation_scans import Calibration, scans


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def calibrate(monkeypatch: pytest.MonkeyPatch) -> Calibration:
    return Calibration(main, monkeypatch)


def test_the_noise_scale_at_which_brains_are_least_apart_is_the_best() -> None:
    pairs = {0.7: (1.0, 1.9), 0.8: (1.2, 1.3), 1.0: (0.9, 2.0)}
    assert best({(scale,): [Likeness(apart, 1, 1) for apart in pair] for scale, pair in pairs.items()}) == (0.8,)


def test_the_calibrated_generator_draws_from_the_best_noise_scale_and_keeps_its_weights(
    checkpoint: Path, tmp_path: Path, calibrate: Calibration, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_checkpoint(checkpoint / "dit")
    data = scans(load_checkpoint(checkpoint / "tokenizer").id)
    after = load_checkpoint(calibrate(checkpoint, data, tmp_path, "--scales", "0.5", "1"))
    table = after.metrics["noise_scales"]["T1"]
    chosen = after.config["noise_scales"]["T1"]
    means = {scale: np.mean([found["apart"] for found in row.values()]) for scale, row in table.items()}
    assert set(table) == {"0.5", "1"} and set(table["1"]) == {"own encoder", "slices, 8 mm"}
    assert means[f"{chosen:g}"] == min(means.values())
    assert after.id != before.id and after.parents == before.parents
    assert all(np.array_equal(a, before.tensors()[name]) for name, a in after.tensors().items())
    printed = capsys.readouterr()
    assert f"T1: {chosen:g}" in printed.out and "FLAIR: 0 subjects are too few, it stays as it is" in printed.err
    renewed = with_another_generator(checkpoint, after.folder, tmp_path / "set")
    old, new = (Inference(Parts(folder, "cpu")).source(["T1", "T2"], seed=3) for folder in (checkpoint, renewed))
    torch.testing.assert_close(new[0], chosen * old[0])
    assert torch.equal(new[1], old[1])
    data = LatentSet(data.latents, [{**r, "modality": "FLAIR"} for r in data.records], data.tokenizer)
    again = load_checkpoint(calibrate(renewed, data, tmp_path / "again", "--scales", "0.7", "--contrasts", "FLAIR"))
    assert again.config["noise_scales"] == {"T1": chosen, "FLAIR": 0.7}  # what is not asked for stays
    assert again.metrics["noise_scales"]["T1"] == table and "T1:" not in capsys.readouterr().out


def test_too_few_subjects_and_sizes_that_are_none_are_refused(
    checkpoint: Path, tmp_path: Path, calibrate: Calibration
) -> None:
    tokenizer = load_checkpoint(checkpoint / "tokenizer").id
    with pytest.raises(TrainingError, match="No contrast has 8 subjects"):
        calibrate(checkpoint, scans(tokenizer, 7), tmp_path)
    with pytest.raises(TrainingError, match=r"above 0 and up to 2, got \[0\.0\]"):
        calibrate(checkpoint, scans(tokenizer), tmp_path, "--scales", "0")
