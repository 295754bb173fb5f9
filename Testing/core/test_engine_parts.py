"""What an engine says of a checkpoint, a part or a device that is missing or does not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from braing3n_core.engine import Engine
from braing3n_core.errors import BrainG3NError, CheckpointError, RequestError
from braing3n_core.schema import Conditions, CounterfactualRequest, ForecastRequest, ProbeRequest

from .tiny_checkpoint import make_tiny_checkpoint


@pytest.mark.parametrize("code", ["checkpoint.missing", "checkpoint.part", "device.cuda"])
def test_what_is_missing_for_the_models_is_told_before_the_scan_is_preprocessed(
    registered_scan: Path, tmp_path: Path, code: str
) -> None:
    checkpoint, device = make_tiny_checkpoint(tmp_path / "set"), "cpu"
    if code == "checkpoint.missing":
        checkpoint = tmp_path / "nowhere"
    elif code == "checkpoint.part":
        shutil.rmtree(checkpoint / "tokenizer")
    elif torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA device")
    else:
        device = "cuda"
    engine = Engine(checkpoint, device)
    heard: list[str] = []
    with pytest.raises(BrainG3NError) as caught:
        engine.run(ProbeRequest(str(registered_scan)), tmp_path / "out", progress=lambda _, said: heard.append(said))
    assert caught.value.code == code
    assert heard == []


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path, registered_scan: Path) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "mixed")
    config = checkpoint / "dit" / "config.json"
    stranger = make_tiny_checkpoint(tmp_path / "other", seed=2)
    (stranger / "dit").rename(tmp_path / "stranger")
    (checkpoint / "dit").rename(tmp_path / "own")
    (tmp_path / "stranger").rename(config.parent)
    request = CounterfactualRequest(str(registered_scan), target=Conditions(disease="AD"))
    with pytest.raises(CheckpointError) as caught:
        Engine(checkpoint).run(request, tmp_path / "out")
    assert caught.value.code == "checkpoint.parent"


def test_a_checkpoint_without_a_part_says_which_verb_it_lacks(tmp_path: Path) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "part")
    (checkpoint / "forecaster").rename(tmp_path / "away")
    engine = Engine(checkpoint)
    assert not engine.capabilities()["verbs"]["forecast"]["available"]
    with pytest.raises(CheckpointError) as caught:
        engine.run(ForecastRequest("scan.nii.gz"), tmp_path / "out")
    assert caught.value.code == "checkpoint.part"


@pytest.mark.parametrize(("device", "precision"), [("gpu", "auto"), ("cpu", "float8")])
def test_an_unknown_device_or_precision_is_refused_at_once(device: str, precision: str) -> None:
    with pytest.raises(RequestError):
        Engine(device=device, precision=precision)
