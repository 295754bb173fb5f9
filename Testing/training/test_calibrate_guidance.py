"""The guidance that brains with a disease are drawn with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.loading import Parts
from braing3n_core.probes import LinearProbe
from training.calibrate_guidance import FEWEST, enough, read_as, worth_trying
from training.latents import LatentSet
from training.stage import save_again

from ..core.tiny_checkpoint import DISEASES, make_tiny_checkpoint, with_another_generator

ROOT = Path(__file__).resolve().parents[2]
SCALES = (1.5, 3.0, 6.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose T1 brains with AD are, but for a few, to the side that its probe takes for AD."""
    folder = tmp_path_factory.mktemp("tiny")
    old = load_checkpoint(make_tiny_checkpoint(folder / "before") / "dit")
    tensors = old.tensors("pt", dtype=None)
    tensors["prior.weight"][1 + DISEASES.index("AD")] += 0.1 * side_of("AD", folder / "before").flatten()
    new = save_again(old, folder, tensors)
    return with_another_generator(folder / "before", new.folder, folder / "set")


def side_of(word: str, checkpoint: Path) -> torch.Tensor:
    """Latents (1,N,C) of length 1 that the probe takes for this disease."""
    probe = Parts(checkpoint, "cpu").probes.probe("disease")
    row = torch.from_numpy(probe.weights[probe.classes.index(word)]).reshape(1, 1200, 32)
    return row / row.norm()


def calibrate(checkpoint: Path, data: LatentSet, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    data.save(out / "latents")
    command = ["-m", "training.calibrate_guidance", "--checkpoint", checkpoint, "--latents", out / "latents"]
    return subprocess.run(
        [sys.executable, *map(str, command), "--out", str(out), "--device", "cpu", *more],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def scans(checkpoint: Path, latents: torch.Tensor, disease: str) -> LatentSet:
    records = [
        {"subject": f"s{i}", "visit": 0, "modality": "T1", "disease": disease, "sex": "FM"[i % 2],
         "age_years": 60.0 + i}
        for i in range(len(latents))
    ]
    return LatentSet(latents, records, load_checkpoint(checkpoint / "tokenizer").id)


def test_a_disease_is_read_against_the_healthy_and_the_healthy_against_all() -> None:
    weights = np.eye(3, dtype=np.float32)
    probe = LinearProbe("disease", "classification", "latents", weights, np.zeros(3, np.float32),
                        classes=("HC", "AD", "PD"))  # fmt: skip
    latents = np.array([[[5.0, 1.0, 2.0]], [[3.0, 4.0, 9.0]], [[1.0, 4.0, 0.0]], [[2.0, 1.0, 3.0]]])
    assert [read_as(probe, latents, word) for word in probe.classes] == [0.25, 0.5, 0.5]


def test_the_least_guidance_that_is_enough_is_kept_and_else_the_best_there_is() -> None:
    shares = {3.0: 0.95, 1.0: 0.2, 2.0: 0.9, 4.0: 0.95}
    assert [enough(shares, wanted) for wanted in (0.1, 0.2, 0.9, 0.92, 0.99)] == [1.0, 1.0, 2.0, 3.0, 3.0]


def test_a_disease_has_at_least_the_papers_guidance_and_the_healthy_may_have_none() -> None:
    scales = [2.0, 1.0, 1.5, 1.25]
    assert worth_trying(scales, "AD") == [1.5, 2.0] and worth_trying(scales, "HC") == [1.0, 1.25, 1.5, 2.0]


def test_brains_of_the_calibrated_generator_are_read_as_asked(checkpoint: Path, tmp_path: Path) -> None:
    data = scans(checkpoint, side_of("AD", checkpoint).repeat(FEWEST, 1, 1), "AD")
    done = calibrate(checkpoint, data, tmp_path, "--scales", *(f"{scale:g}" for scale in SCALES))
    assert done.returncode == 0, done.stderr
    before, after = load_checkpoint(checkpoint / "dit"), load_checkpoint(tmp_path / "dit")
    shares = dict(after.metrics["disease_guidance"]["AD"])
    assert shares.pop("scans") == 1.0  # they are all of them on that side
    assert set(shares) == {"1.5", "3"} and shares["1.5"] < 0.9 <= shares["3"]  # more was not tried
    assert after.config["disease_guidance"] == {"AD": 3.0}
    assert "AD: 3" in done.stdout and "HC: 0 subjects" in done.stderr
    assert after.id != before.id and after.config["noise_scales"] == before.config["noise_scales"]
    assert all(np.array_equal(a, before.tensors()[name]) for name, a in after.tensors().items())


def test_of_brains_no_more_is_asked_than_the_probe_says_of_scans(checkpoint: Path, tmp_path: Path) -> None:
    mixed = torch.cat([side_of("AD", checkpoint), side_of("HC", checkpoint)]).repeat(FEWEST, 1, 1)
    done = calibrate(checkpoint, scans(checkpoint, mixed, "AD"), tmp_path, "--scales", *(f"{s:g}" for s in SCALES))
    assert done.returncode == 0, done.stderr
    after = load_checkpoint(tmp_path / "dit")
    shares = after.metrics["disease_guidance"]["AD"]
    assert shares["scans"] == 0.5 <= shares["1.5"] < 0.95  # what is asked of brains of a disease that every scan shows
    assert after.config["disease_guidance"] == {"AD": 1.5} and "3" not in shares


def test_a_disease_that_the_probe_does_not_see_in_scans_keeps_the_papers_guidance(
    checkpoint: Path, tmp_path: Path
) -> None:
    healthier = side_of("HC", checkpoint) - side_of("GBM", checkpoint)  # than the probe would call a GBM
    data = scans(checkpoint, torch.cat([side_of("AD", checkpoint), healthier]).repeat(FEWEST, 1, 1), "AD")
    records = [{**r, "disease": ("AD", "GBM")[i % 2]} for i, r in enumerate(data.records)]
    done = calibrate(checkpoint, LatentSet(data.latents, records, data.tokenizer), tmp_path, "--scales", "1.5")
    assert done.returncode == 0, done.stderr
    after = load_checkpoint(tmp_path / "dit")
    assert "GBM: too few scans are read as it, it keeps 1.5" in done.stderr
    assert set(after.config["disease_guidance"]) == {"AD"} == set(after.metrics["disease_guidance"])


def test_too_few_subjects_and_guidance_that_is_none_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    few = scans(checkpoint, torch.zeros(FEWEST - 1, 1200, 32), "AD")
    refused = calibrate(checkpoint, few, tmp_path / "few")
    assert refused.returncode == 1 and f"No disease has {FEWEST} subjects" in refused.stderr
    refused = calibrate(checkpoint, few, tmp_path / "scales", "--scales", "0.5")
    assert refused.returncode == 1 and "from 1 to 10, got [0.5]" in refused.stderr
