"""What cannot be done is refused before minutes of work, and says what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from braing3n_core.engine import Engine
from braing3n_core.errors import BrainG3NError, CheckpointError, RequestError
from braing3n_core.schema import Conditions, CounterfactualRequest, ProbeRequest

from .tiny_checkpoint import make_tiny_checkpoint


def test_a_bad_request_is_refused_before_torch_is_imported(tiny_checkpoint: Path, registered_scan: Path) -> None:
    code = (
        "import sys\n"
        "from braing3n_core.engine import Engine\n"
        "from braing3n_core.schema import *\n"
        "from braing3n_core.errors import RequestError\n"
        "try:\n"
        f"    Engine({str(tiny_checkpoint)!r}).run(CounterfactualRequest({str(registered_scan)!r},"
        " target=Conditions(disease='flu')), 'nowhere')\n"
        "except RequestError:\n"
        "    sys.exit(3 if 'torch' in sys.modules else 0)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
    with pytest.raises(CheckpointError) as caught:
        Engine(checkpoint).run(CounterfactualRequest(str(registered_scan), target=Conditions(disease="AD")), tmp_path)
    assert caught.value.code == "checkpoint.parent"


@pytest.mark.parametrize(("device", "precision"), [("gpu", "auto"), ("cpu", "float8")])
def test_an_unknown_device_or_precision_is_refused_at_once(device: str, precision: str) -> None:
    with pytest.raises(RequestError):
        Engine(device=device, precision=precision)


def test_an_output_folder_that_is_a_file_is_refused(
    tiny_checkpoint: Path, registered_scan: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BrainG3NError) as caught:
        Engine(tiny_checkpoint, "cpu").run(ProbeRequest(str(registered_scan)), tmp_path / "out")
    assert caught.value.code == "output.folder"
