"""Three users on a real scan, from the file to what they came for, with the embedded checkpoint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")

from BrainG3NLib.Logic import Logic
from BrainG3NLib.Volumes import affineOf
from BrainG3NLib.Worker import Compute, ComputeSettings

from braing3n_core.volume import Volume

from .conftest import MODULE, addScan, choose

pytestmark = pytest.mark.slow
SECONDS = 3600.0


@pytest.fixture
def scanFile(test_data: Path) -> Path:
    path = test_data / "ds002748" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    if not path.is_file():
        pytest.skip("Needs ds002748 in the folder of real test MRI (see CONTRIBUTING.md).")
    return path


def test_a_clinician_sees_the_scan_read_edited_and_moved_in_time(scanFile, python: str, app) -> None:
    ui = app.widget.ui
    head = addScan(app.mrml.scene, scanFile)
    ui.pythonPath.currentPath = python
    ui.inputSelector.setCurrentNode(head)
    choose(ui.targetDiseaseBox, "AD")
    ui.horizonsEdit.text, ui.samplesBox.value = "2, 5", 2
    made = {}
    for button in ("preprocessButton", "probeButton", "counterfactualButton", "forecastButton"):
        getattr(ui, button).click()
        assert app.wait(lambda: not app.widget.panels.isRunning(), SECONDS)
        assert ui.messageLabel.text.startswith("Done."), ui.messageLabel.text
        made[button] = app.widget.panels.run.named
    assert ui.readingsTable.rowCount >= 4 and ui.effectsTable.rowCount >= 2
    assert np.allclose(affineOf(made["counterfactualButton"]["difference"]), affineOf(head))
    assert made["forecastButton"]["sequence"].GetNumberOfDataNodes() == 3


def test_a_researcher_overlays_what_a_forecast_changes(mrml, scanFile, python: str, settings) -> None:
    from .harness.views import SliceView

    head = addScan(mrml.scene, scanFile)
    logic = Logic(mrml.scene, Compute(ComputeSettings(python=python)))
    try:
        run = logic.process("forecast", settings(inputVolume=head, horizons="2, 5", samples=2, stage="auto",
                                                 brain="auto"))  # fmt: skip
    finally:
        logic.compute.stop()
    view = SliceView(mrml, "Red")
    view.show(head)
    plain = view.blended().astype(float)
    view.show(head, run.named["difference"])
    shown = view.blended().astype(float)
    coloured = np.ptp(shown, axis=2) > 20
    assert np.ptp(plain, axis=2).max() == 0 and 0.001 < coloured.mean() < 0.5
    beside = ~(plain.max(axis=(1, 2)) > 0)[:, None] | ~(plain.max(axis=(0, 2)) > 0)[None, :]
    assert beside.any() and np.allclose(plain[beside], shown[beside], atol=1)  # nothing beside the head


def test_a_batch_script_turns_a_folder_into_forecasts_and_tables(scanFile, python: str, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    shutil.copy(scanFile, tmp_path / "scans")
    script = MODULE / "Examples" / "forecasts.py"
    command = [sys.executable, script, tmp_path / "scans", tmp_path / "out", "--years", "2, 5", "--samples", 2,
               "--python", python]  # fmt: skip
    done = subprocess.run([str(w) for w in command], env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (forecast,) = (tmp_path / "out").rglob("*_forecast.nii.gz")
    assert np.allclose(Volume.load(forecast).affine, Volume.load(scanFile).affine, atol=1e-3)
    assert len(list((tmp_path / "out").rglob("*_trajectory-*.tsv"))) >= 2
