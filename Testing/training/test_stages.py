"""Every training stage runs from a store to a checkpoint, in order, as a user would call it."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from braing3n_core.atlas import MODEL_SHAPE
from braing3n_core.checkpoint import load_checkpoint, require_parent
from braing3n_core.cli import main
from braing3n_core.models.mae import Encoder, EncoderConfig
from braing3n_core.volume import Volume
from training.latents import cache_tokens
from training.loop import TrainingError
from training.stage import save_again
from training.store import Store, StoreError
from training.train_autoencoderkl import load as load_baseline

from .balls import ball_volumes

CONFIG = Path(__file__).resolve().parents[2] / "training" / "configs" / "tiny.toml"


@pytest.fixture(scope="module")
def store(balls: Path) -> Store:
    return Store.open(balls)


def start(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"training.{name}", *(str(a) for a in arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=CONFIG.parents[2])


def stage(name: str, *arguments: object) -> None:
    done = start(name, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def runs(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages of the tiny configuration, one after another."""
    out = tmp_path_factory.mktemp("runs")
    stage("pretrain_mae", CONFIG, "--store", balls, "--out", out / "mae")
    stage("train_tokenizer", CONFIG, "--store", balls, "--encoder", out / "mae/encoder", "--out", out / "tokenizer")
    more = ["--encoder", out / "mae/encoder", "--tokenizer", out / "tokenizer/tokenizer"]
    stage("train_decoder", CONFIG, "--store", balls, *more, "--out", out / "decoder")
    latents = ["--tokenizer", out / "tokenizer/tokenizer", "--latents", out / "tokenizer"]
    stage("fit_probes", *latents, "--out", out / "probes")
    stage("train_dit", CONFIG, *latents, "--out", out / "dit")
    stage("train_forecaster", CONFIG, *latents, "--out", out / "forecaster")
    return out


def test_a_store_gives_back_the_z_score_of_what_was_put_in(store: Store) -> None:
    array, _ = ball_volumes()[0]
    expected = (array - array.mean()) / array.std()
    error = np.abs(store.zscored([0])[0, 0].numpy() - expected).max()
    assert error < 0.5 * store.records[0]["scale"] / store.records[0]["std"] + 1e-4


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No finished training store"):
        Store.open(tmp_path)


def test_every_stage_writes_a_checkpoint_that_knows_its_parents(runs: Path) -> None:
    encoder = load_checkpoint(runs / "mae/encoder", "encoder")
    tokenizer = load_checkpoint(runs / "tokenizer/tokenizer", "tokenizer")
    require_parent(tokenizer, encoder)
    for kind in ("probes", "dit", "forecaster"):
        checkpoint = load_checkpoint(runs / kind / kind, kind)
        require_parent(checkpoint, tokenizer)
        first = checkpoint.card.splitlines()[0]
        assert "phantoms" in first and "not for clinical use" in first


def test_the_decoder_goes_on_learning_and_the_latents_stay(runs: Path) -> None:
    before = load_checkpoint(runs / "tokenizer/tokenizer", "tokenizer").tensors()
    after = load_checkpoint(runs / "decoder/tokenizer", "tokenizer").tensors()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed and all(name.startswith("decoder.") for name in changed)
    latents, kept = (np.load(runs / run / "latents.npy").astype(np.float32) for run in ("tokenizer", "decoder"))
    np.testing.assert_allclose(kept, latents, atol=0.02)  # the first were made before the weights became half precision


def test_cached_latents_are_standardised_per_channel(runs: Path) -> None:
    latents = np.load(runs / "tokenizer/latents.npy").astype(np.float32)
    np.testing.assert_allclose(latents.mean((0, 1)), 0, atol=5e-3)
    np.testing.assert_allclose(latents.std((0, 1)), 1, atol=5e-3)


def test_the_prior_of_the_forecaster_is_fitted_not_left_at_zero(runs: Path) -> None:
    tensors = load_checkpoint(runs / "forecaster/forecaster", "forecaster").tensors()
    assert np.abs(tensors["prior.weight"]).max() > 0 and not np.allclose(tensors["prior.sigma"], 1)


def test_a_run_of_no_steps_leaves_the_forecaster_its_gaussian_alone(runs: Path, tmp_path: Path) -> None:
    latents = ["--tokenizer", runs / "tokenizer/tokenizer", "--latents", runs / "tokenizer"]
    stage("train_forecaster", CONFIG, *latents, "--out", tmp_path, "--set", "forecaster.train.steps=0")
    tensors = load_checkpoint(tmp_path / "forecaster", "forecaster").tensors()
    assert np.abs(tensors["prior.weight"]).max() > 0
    assert not any(np.any(value) for name, value in tensors.items() if name.startswith("out"))


def test_of_a_condition_that_is_left_out_the_forecaster_learns_nothing(runs: Path, tmp_path: Path) -> None:
    latents = ["--tokenizer", runs / "tokenizer/tokenizer", "--latents", runs / "tokenizer"]
    stage("train_forecaster", CONFIG, *latents, "--out", tmp_path, "--set", "forecaster.train.steps=0",
          "--set", 'forecaster.extra.left_out=["age_years"]', "--set", "forecaster.model.prior_components=0")
    opened = load_checkpoint(tmp_path / "forecaster", "forecaster")
    weight = torch.from_numpy(opened.tensors()["prior.weight"])
    words = sum(len(vocabulary) for vocabulary in opened.config["categories"].values())
    age = 1 + words + 2 * list(opened.config["scalars"]).index("age_years")
    assert not weight[age : age + 2].any() and weight[age + 2 :].any()


def test_training_writes_a_table_with_a_row_a_step(runs: Path) -> None:
    with (runs / "mae/log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"] and all(np.isfinite(float(row["loss"])) for row in rows)
    assert [row["samples"] for row in rows] == ["2", "4", "6"]


@pytest.mark.parametrize(("run", "name", "volumes"), [
    ("mae", "volume_seen_rebuilt", 3), ("tokenizer", "volume_reconstruction", 2),
    ("decoder", "volume_reconstruction", 2), ("dit", "sample", 1),
])  # fmt: skip
def test_a_stage_draws_pictures_of_what_it_makes(runs: Path, run: str, name: str, volumes: int) -> None:
    picture = np.asarray(Image.open(runs / run / "pictures" / f"step-00000002_{name}.png"))
    assert picture.shape == (volumes * 192, 192 + 160 + 160)  # sagittal y, coronal x, axial x; the tallest is y = 192
    assert picture.std() > 5


def test_latents_of_another_tokenizer_are_refused(runs: Path, tmp_path: Path) -> None:
    other = shutil.copytree(runs / "tokenizer", tmp_path / "tok", ignore=shutil.ignore_patterns("tokens*", "snapshots"))
    (other / "latents.json").write_text('{"tokenizer": "0123456789abcdef"}')
    for name in ("train_dit", "train_forecaster"):
        refused = start(
            name, CONFIG, "--tokenizer", runs / "tokenizer/tokenizer", "--latents", other, "--out", tmp_path / name
        )
        assert refused.returncode == 1 and "train.other_tokenizer" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_tokens_of_another_encoder_are_refused(runs: Path, store: Store, tmp_path: Path) -> None:
    encoder = Encoder(EncoderConfig(width=48, depth=1, num_heads=4))
    path = tmp_path / "tokens.npy"
    np.save(path, np.zeros(1))
    path.with_suffix(".json").write_text('{"encoder": "another", "volumes": 1}')
    with pytest.raises(TrainingError, match="another"):
        cache_tokens(store, encoder, path, torch.device("cpu"), "this one")


def collect(runs: Path, checkpoint: Path) -> None:
    script = CONFIG.parents[1] / "runs" / "collect.sh"
    subprocess.run(["bash", str(script), str(runs), str(checkpoint)], check=True, timeout=60)


def generated(folder: Path, asked: str) -> Volume:
    """A brain by the checkpoint ``folder/tiny``, through the command line."""
    arguments = ["generate", "--set", asked, "--steps", "2", "--checkpoint", str(folder / "tiny"), "--quiet"]
    assert main([*arguments, "--device", "cpu", "-o", str(folder / "out")]) == 0
    (made,) = (folder / "out").glob("*desc-generated_*.nii.gz")
    return Volume.load(made)


def test_what_was_trained_is_a_checkpoint_that_the_command_line_uses(runs: Path, tmp_path: Path) -> None:
    collect(runs, tmp_path / "tiny")
    assert generated(tmp_path, "disease=AD").array.std() > 0


@pytest.mark.slow
@pytest.mark.parametrize("script", ["tiny.sh", "cohort.sh"])
def test_a_script_goes_from_phantoms_to_a_checkpoint(script: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "SUBJECTS": "8", "JOBS": "2", "MODALITIES": "T1"}
    path = CONFIG.parents[1] / "runs" / script
    subprocess.run(["bash", str(path), str(tmp_path)], check=True, cwd=CONFIG.parents[2], env=environment)
    assert main(["capabilities", "--checkpoint", str(tmp_path / "tiny"), "--json"]) == 0


@pytest.mark.slow
def test_the_bottleneck_sweep_ends_in_one_table_of_all_its_models(runs: Path, balls: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "CONFIG": str(CONFIG), "PROCESSES": "1",
                   "CHANNELS": "32 16", "VOLUMES": "2"}
    script = CONFIG.parents[1] / "runs" / "bottlenecks.sh"
    command = ["bash", str(script), str(balls), str(balls), str(runs / "mae/encoder"), str(tmp_path)]
    subprocess.run(command, check=True, cwd=CONFIG.parents[2], env=environment)
    with (tmp_path / "report/tables/bottleneck.tsv").open(newline="") as file:
        found = {row["model"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert found["this checkpoint"]["numbers"] == "38.4K" and found["d16, 16 channels"]["numbers"] == "19.2K"
    assert found["AutoencoderKL"]["scans"] == "2" and float(found["AutoencoderKL"]["MSE"].split()[0]) > 0


def test_the_papers_bridge_trains_and_forecasts_from_the_baseline_itself(runs: Path, tmp_path: Path) -> None:
    changes = ['forecaster.extra.preset="bridge"', "forecaster.model.context_channels=0",
               'forecaster.model.prior="none"', "forecaster.model.prior_components=0"]  # fmt: skip
    latents = ["--tokenizer", runs / "tokenizer/tokenizer", "--latents", runs / "tokenizer"]
    stage("train_forecaster", CONFIG, *latents, "--out", tmp_path, *(w for c in changes for w in ("--set", c)))
    checkpoint = load_checkpoint(tmp_path / "forecaster", "forecaster")
    assert checkpoint.metrics["preset"] == "bridge" and checkpoint.config["context_channels"] == 0
    assert not any(name.startswith("prior") for name in checkpoint.tensors())


@pytest.mark.slow
def test_the_autoencoderkl_baseline_trains_by_the_same_loop(balls: Path, tmp_path: Path) -> None:
    stage("train_autoencoderkl", CONFIG, "--store", balls, "--out", tmp_path)
    baseline = load_baseline(tmp_path / "autoencoderkl")
    with torch.inference_mode():
        rebuilt = baseline.reconstruct(Store.open(balls).zscored([0]))
    assert rebuilt.shape == (1, 1, *MODEL_SHAPE) and rebuilt.std() > 0


def test_a_generator_learns_on_from_another_and_keeps_its_gaussian(runs: Path, tmp_path: Path) -> None:
    latents = ["--tokenizer", runs / "tokenizer/tokenizer", "--latents", runs / "tokenizer"]
    plain = load_checkpoint(runs / "dit/dit", "dit")
    plain.config.update(noise_scales={"T1": 0.9}, disease_guidance={"HC": 1.0}, reweighting={"T1": (1.5, 0.5)})
    calibrated = save_again(plain, tmp_path / "calibrated", plain.tensors("pt", dtype=None))
    started = ["train_dit", CONFIG, *latents, "--start", calibrated.folder, "--out", tmp_path]
    refused = start(*started, "--set", "dit.model.condition_dropout=0.2")
    assert refused.returncode == 1 and "train.start" in refused.stderr and "Traceback" not in refused.stderr
    stage(*started, "--set", "dit.train.learning_rate=1e-3", "--set", "dit.train.ema=0.5")
    before, after = (load_checkpoint(folder, "dit").tensors() for folder in (runs / "dit/dit", tmp_path / "dit"))
    assert set(before) == set(after)
    for name, was in before.items():
        if name.startswith("prior"):
            np.testing.assert_array_equal(after[name], was)
    moved = np.abs(after["tokens_out.weight"] - before["tokens_out.weight"]).max()
    assert 0 < moved < 0.1 and np.abs(before["tokens_out.weight"]).max() > 0


def test_a_generator_without_fields_gets_them_on_top_of_its_mean_and_its_network_starts_silent(
    runs: Path, tmp_path: Path
) -> None:
    plain = load_checkpoint(runs / "dit/dit", "dit")
    before = plain.tensors("pt", dtype=None)
    before["tokens_out.weight"] += 1.0
    loud = save_again(plain, tmp_path / "loud", before)
    stage(
        "train_dit", CONFIG, "--tokenizer", runs / "tokenizer/tokenizer", "--latents", runs / "tokenizer",
        "--start", loud.folder, "--out", tmp_path, "--set", "dit.model.prior_fields=2",
        "--set", "dit.model.prior_waves=9",
    )  # fmt: skip
    after = load_checkpoint(tmp_path / "dit", "dit").tensors()
    np.testing.assert_array_equal(after["prior.weight"], before["prior.weight"])
    assert np.abs(after["positions"] - before["positions"].float().numpy()).max() < 0.01
    assert after["prior.fields.maps"].shape == (4, 1200, 32, 2) and np.abs(after["prior.fields.maps"]).max() > 0
    assert after["prior.fields.spectrum"].shape == (4, 9, 2) and after["prior.sigma"].shape == (4, 1200, 32)
    assert 0 < np.abs(after["tokens_out.weight"]).max() < 0.01
    stage(
        "train_dit", CONFIG, "--tokenizer", runs / "tokenizer/tokenizer", "--latents", runs / "tokenizer",
        "--start", tmp_path / "dit", "--out", tmp_path / "more", "--set", "dit.model.prior_fields=3",
        "--set", "dit.model.prior_waves=5", "--set", "dit.train.steps=0",
    )  # fmt: skip
    more = load_checkpoint(tmp_path / "more/dit", "dit").tensors()
    assert more["prior.fields.maps"].shape == (4, 1200, 32, 3) and more["prior.fields.spectrum"].shape == (4, 5, 3)
    np.testing.assert_array_equal(more["tokens_out.weight"], after["tokens_out.weight"])
    collect(runs, tmp_path / "tiny")
    shutil.rmtree(tmp_path / "tiny" / "dit")
    shutil.copytree(tmp_path / "dit", tmp_path / "tiny" / "dit")
    assert generated(tmp_path, "modality=FLAIR").array.std() > 0


def test_a_generator_that_is_to_learn_from_volumes_that_are_not_there_says_what_there_is(
    runs: Path, tmp_path: Path
) -> None:
    refused = start(
        "train_dit", CONFIG, "--tokenizer", runs / "tokenizer/tokenizer", "--latents", runs / "tokenizer",
        "--out", tmp_path, "--set", 'dit.extra.only={anatomy="nowhere"}',
    )
    assert refused.returncode == 1 and "train.only" in refused.stderr and "nowhere" in refused.stderr
