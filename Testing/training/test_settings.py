"""Configurations are strict: a wrong name says the nearest, and the shipped files fill what they should."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from braing3n_core.errors import ConfigError
from braing3n_core.models.dit import DiTConfig
from braing3n_core.models.mae import MAEConfig
from braing3n_core.models.tokenizer import TokenizerConfig
from training.conditions import conditions_of
from training.loop import TrainConfig, TrainingError
from training.pretrain_mae import MAETraining
from training.stage import STAGES, Settings
from training.train_autoencoderkl import AutoencoderKLConfig
from training.train_decoder import DecoderTraining
from training.train_dit import require_channels
from training.train_forecaster import ForecasterTraining, require_preset
from training.train_tokenizer import TokenizerTraining

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
MODELS = {
    "mae": MAEConfig, "tokenizer": TokenizerConfig, "dit": DiTConfig, "forecaster": DiTConfig,
    "autoencoderkl": AutoencoderKLConfig,
}  # fmt: skip
EXTRAS = {
    "mae": MAETraining, "tokenizer": TokenizerTraining, "decoder": DecoderTraining, "forecaster": ForecasterTraining,
}  # fmt: skip


def settings(stage: str, file: Path, *changes: str) -> Settings:
    options = argparse.Namespace(
        config=file, out=Path("."), resume="auto", set=list(changes), device="cpu", minutes=None
    )
    return Settings(stage, options)


@pytest.mark.parametrize("name", ["paper", "small", "tiny"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_table_of_the_shipped_configurations_is_read_strictly(name: str, stage: str) -> None:
    read = settings(stage, CONFIGS / f"{name}.toml")
    model = read.model(stage, MODELS[stage]) if stage in MODELS else None
    # The small preset's forecaster is its Gaussian alone; train_decoder has the tokenizer's model.
    assert read.train.total_steps(1000) > 0 or (name, stage) == ("small", "forecaster")
    if stage in EXTRAS:
        extra = read.extra(EXTRAS[stage])
        if stage == "forecaster":
            require_preset(model, extra)


def test_the_papers_file_has_the_papers_values() -> None:
    file = CONFIGS / "paper.toml"
    mae = settings("mae", file)
    assert mae.model("mae", MAEConfig) == MAEConfig() and mae.train.epochs == 100
    tokenizer = settings("tokenizer", file)
    assert tokenizer.model("tokenizer", TokenizerConfig) == TokenizerConfig() and tokenizer.train.epochs == 80
    read = settings("dit", file).model("dit", DiTConfig)
    assert json.dumps(asdict(read)) == json.dumps(asdict(DiTConfig()))  # lists there, tuples here
    assert settings("forecaster", file).extra(ForecasterTraining).preset == "bridge"
    latent = settings("autoencoderkl", file).model("autoencoderkl", AutoencoderKLConfig).latent_shape
    assert torch.Size(latent).numel() == 614_400


@pytest.mark.parametrize(("change", "hint"), [
    ("mae.train.learnin_rate=1e-3", "Did you mean 'learning_rate'"),
    ("mae.model.encoder.dept=2", "Did you mean 'depth'"),
    ("mae.trian.steps=3", "Did you mean 'train'"),
    ("tokeniser.train.steps=3", "Did you mean 'tokenizer'"),
])  # fmt: skip
def test_a_wrong_name_says_the_nearest(change: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        settings("mae", CONFIGS / "tiny.toml", change).model("mae", MAEConfig)


def test_a_setting_can_be_changed_for_one_run() -> None:
    changed = settings("tokenizer", CONFIGS / "tiny.toml", "tokenizer.model.channels=128", "tokenizer.train.steps=7")
    assert changed.model("tokenizer", TokenizerConfig).channels == 128 and changed.train.steps == 7
    assert changed.model("tokenizer", TokenizerConfig).widths == (16, 8, 8)
    with pytest.raises(ConfigError, match="Write TABLE"):
        settings("tokenizer", CONFIGS / "tiny.toml", "tokenizer.model.channels")


def test_epochs_are_counted_in_samples() -> None:
    assert TrainConfig(epochs=100, batch_size=64).total_steps(35_309) == 55_171
    assert TrainConfig(steps=5).total_steps(35_309) == 5


def test_parts_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(TrainingError, match="32 channels"):
        require_channels(DiTConfig(channels=128), 32, "a.toml")
    with pytest.raises(ConfigError, match="context_channels = 32"):
        require_preset(DiTConfig(), ForecasterTraining("change"))
    with pytest.raises(ConfigError, match="neither context nor prior"):
        require_preset(DiTConfig(context_channels=32), ForecasterTraining("bridge"))
    with pytest.raises(ConfigError, match="Unknown preset"):
        require_preset(DiTConfig(), ForecasterTraining("brigde"))


def test_a_label_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(ConfigError, match="site='phantom-9' is not one of site-01"):
        conditions_of([{"site": "phantom-9"}], DiTConfig().spec())


@pytest.mark.parametrize("name", ["crd", "horizon_years"])
def test_what_cannot_be_left_out_of_a_forecast_is_refused_by_name(name: str) -> None:
    model = DiTConfig(context_channels=32, scalars={"cdr": (0.5, 0.5), "horizon_years": (0.0, 5.0)})
    require_preset(model, ForecasterTraining(left_out=("cdr",)))
    with pytest.raises(ConfigError, match=f"left_out names {name}"):
        require_preset(model, ForecasterTraining(left_out=("cdr", name)))
