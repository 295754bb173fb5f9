"""A MONAI bundle of a checkpoint loads and runs by MONAI's own tools, and computes what the engine computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.cli import main

from .tiny_checkpoint import make_tiny_checkpoint

pytest.importorskip("monai.bundle", reason="the bundle is MONAI's: pip install monai")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    assert main(["export-bundle", str(folder), "--checkpoint", str(make_tiny_checkpoint(folder.parent / "set"))]) == 0
    return folder


def monai_bundle(bundle: Path, command: str, **options: object) -> None:
    """What ``python -m monai.bundle COMMAND`` calls; the command line itself would need the package fire."""
    words = {"config_file": "configs/inference.json", **{name: str(value) for name, value in options.items()}}
    line = [sys.executable, "-c", f"import monai.bundle; monai.bundle.{command}(**{words!r})"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(line, cwd=bundle, env=environment, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]


def test_monai_runs_the_bundle_and_it_computes_what_the_engine_does(
    bundle: Path, registered_scan: Path, tmp_path: Path
) -> None:
    from braing3n_core import Engine
    from braing3n_core.schema import EncodeRequest, PreprocessOptions

    request = EncodeRequest(str(registered_scan), PreprocessOptions(stage="registered", n4=False))
    Engine(str(bundle.parent / "set"), "cpu").run(request, tmp_path / "ours")
    (ours,) = (tmp_path / "ours").glob("*encoding.npz")
    monai_bundle(bundle, "run", input=registered_scan, output=tmp_path / "theirs.npz")
    with np.load(ours) as expected, np.load(tmp_path / "theirs.npz") as found:
        assert found["reconstruction"].shape == (160, 192, 160) and found["reconstruction"].std() > 0
        error = np.abs(found["latents"] - expected["latents"].astype(np.float32)).max()
        assert error < 0.05 * expected["latents"].astype(np.float32).std()


@pytest.mark.slow
def test_monai_verifies_the_shapes_that_the_metadata_claims(bundle: Path) -> None:
    monai_bundle(bundle, "verify_net_in_out", net_id="network_def", meta_file="configs/metadata.json")


def test_a_folder_that_is_not_empty_is_left_alone(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(p.name for p in bundle.rglob("*"))
    assert main(["export-bundle", str(bundle)]) == 1
    assert "bundle.exists" in capsys.readouterr().err and sorted(p.name for p in bundle.rglob("*")) == before
