"""The panels, clicked as a user clicks them, with a real scene and a real engine in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")
try:
    from PySide6 import QtWidgets  # noqa: F401
except ImportError as missing:  # the library itself, or libEGL and its like
    remedy = "pip install PySide6-Essentials; apt-get install libegl1 libgl1 libxkbcommon0"
    pytest.skip(f"{missing}: {remedy}", allow_module_level=True)

from BrainG3NLib import Install
from BrainG3NLib.Jobs import Answer, Event
from BrainG3NLib.Stamp import PLACE

from .conftest import MODULE, REPOSITORY, SETTINGS, addNoise, choose
from .results import counterfactual, image


def idle(app):
    return lambda: not app.widget.panels.isRunning()


OPENED = """
import sys
from Testing.slicer.harness.application import Slicer
app = Slicer()
app.open()
assert "torch" not in sys.modules
app.close()
"""


def test_the_panel_opens_without_torch(tmp_path: Path) -> None:
    # A process of its own: another test may have imported torch into this one.
    folders = os.pathsep.join([str(MODULE), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": folders, "XDG_CONFIG_HOME": str(tmp_path)}
    opened = subprocess.run([sys.executable, "-c", OPENED], env=environment, capture_output=True, text=True)
    assert opened.returncode == 0, opened.stderr


def test_a_click_makes_the_counterfactual_and_apply_is_cancel_meanwhile(ready, tmp_path: Path) -> None:
    ui = ready.widget.ui
    choose(ui.targetDiseaseBox, "AD")
    ui.counterfactualButton.click()
    assert ui.counterfactualButton.text == "Cancel"
    assert ui.progressBar.isVisible() and not ui.forecastButton.enabled
    assert ready.wait(idle(ready), 300)
    assert ui.messageLabel.text.startswith("Done."), ui.messageLabel.text
    assert ui.counterfactualButton.text == "Make the counterfactual"
    assert ui.effectsTable.rowCount >= 4 and ui.readingsTable.rowCount >= 4
    named = ready.widget.panels.run.named
    assert {"counterfactual", "difference", "effects", "chart-probabilities"} <= set(named)
    assert not [n for n in ready.mrml.nodes() if "coarse" in ready.mrml.scene.GetNodeByID(n).GetName()]
    saveReadings(ready, tmp_path / "readings.tsv")


def saveReadings(app, path: Path) -> None:
    import qt

    qt.QFileDialog.chosen = str(path)
    app.widget.ui.exportButton.click()
    assert path.read_text().startswith("Task\tPrediction\tUnit")
    qt.QFileDialog.chosen = str(path / "under a file.tsv")
    app.widget.ui.exportButton.click()
    assert "Choose another folder" in app.widget.ui.messageLabel.text


def test_cancel_makes_the_panel_ready_and_leaves_no_node(ready) -> None:
    before, ui = ready.mrml.nodes(), ready.widget.ui
    choose(ui.targetDiseaseBox, "AD")
    ui.counterfactualButton.click()
    ready.turn(1.0)
    ui.counterfactualButton.click()
    assert ready.wait(idle(ready), 60)
    assert ready.mrml.nodes() == before
    assert "Cancelled" in ui.messageLabel.text


def test_closing_the_scene_twenty_times_during_a_run_leaves_nothing_behind(ready) -> None:
    ui = ready.widget.ui
    choose(ui.targetDiseaseBox, "AD")
    ui.counterfactualButton.click()
    ready.mrml.scene.Clear(0)
    ready.turn(0.1)
    base = len(ready.mrml.nodes())
    for _ in range(20):
        ui.inputSelector.setCurrentNode(addNoise(ready.mrml.scene, "small"))
        ui.probeButton.click()
        ready.mrml.scene.Clear(0)
        ready.turn(0.02)
    assert len(ready.mrml.nodes()) == base
    assert not ready.widget.panels.isRunning()


def test_every_button_without_a_volume_says_what_to_do(app) -> None:
    ui = app.widget.ui
    for button in ("preprocessButton", "probeButton", "counterfactualButton", "forecastButton"):
        getattr(ui, button).click()
        assert "Choose one under Input volume" in ui.messageLabel.text


def test_settings_are_kept_in_the_scene_and_the_token_nowhere(app, tmp_path: Path) -> None:
    ui = app.widget.ui
    ui.horizonsEdit.text, ui.guidanceSlider.value = "3, 7", 2.5
    choose(ui.targetDiseaseBox, "PD")
    ui.tokenEdit.text = "very-secret"
    ui.testButton.click()
    node = app.mrml.scene.GetFirstNodeByClass("vtkMRMLScriptedModuleNode")
    assert (node.GetParameter("horizons"), node.GetParameter("guidance")) == ("3, 7", "2.5")
    assert node.GetParameter("targetDisease") == "PD"
    written = [p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file()]
    assert not [text for text in written if "very-secret" in text]


def test_a_scan_goes_to_a_remote_worker_only_after_a_yes(ready) -> None:
    ui = ready.widget.ui
    ui.locationBox.currentIndex = 1
    ui.urlEdit.text = "https://worker.invalid:8443"
    slicer.app.answers.append(False)
    ui.probeButton.click()
    assert "https://worker.invalid:8443" in slicer.app.questions[0]
    assert "Nothing was sent" in ui.messageLabel.text
    assert not ready.widget.panels.isRunning()


def test_the_connection_test_fills_the_form_from_the_checkpoint(ready) -> None:
    ui = ready.widget.ui
    ui.testButton.click()
    assert ready.wait(lambda: "Ready" in ui.computeStatus.text, 300), ui.computeStatus.text
    assert "Random weights for tests" in ui.computeStatus.text
    words = [ui.targetDiseaseBox.itemData(i) for i in range(ui.targetDiseaseBox.count)]
    assert words == ["", "HC", "MCI", "AD", "GBM"]


def test_the_modules_own_test_passes(app) -> None:
    import BrainG3N

    BrainG3N.BrainG3NTest().runTest()


def test_the_coarse_answer_is_named_so_and_makes_room_for_the_full_one(ready) -> None:
    panels, node = ready.widget.panels, ready.mrml.scene.GetFirstNodeByName("Head")
    job = panels.logic.prepare("counterfactual", SimpleNamespace(**{**SETTINGS, "inputVolume": node,
                                                                    "targetDisease": "AD"}))  # fmt: skip
    answer = Answer(counterfactual(ready.mrml.scene, node).result, tuple(pair(node)), {}, coarse=True)
    panels.job = job
    panels._happened(Event("preview", value=answer))
    while panels._sketching is not None:
        panels.pump()
    coarse = list(panels.coarse.named.values())
    assert all("coarse" in n.GetName() for n in coarse)
    assert "coarse" in ready.widget.ui.messageLabel.text
    panels._happened(Event("done", value=replace(answer, coarse=False)))
    while panels._showing is not None:
        panels.pump()
    assert not [n for n in coarse if ready.mrml.scene.IsNodePresent(n)]
    assert "coarse" not in panels.run.named["counterfactual"].GetName()


def pair(node):
    return image(node, "counterfactual", 90.0), image(node, "difference", 10.0)


def test_a_remote_worker_needs_no_installation(app) -> None:
    ui = app.widget.ui
    ui.locationBox.currentIndex = 1
    ui.installButton.click()
    assert "Nothing is installed" in ui.computeStatus.text and not app.widget.panels.compute.judge.busy


def test_a_local_python_is_judged_and_nothing_is_installed_without_a_yes(app, tmp_path: Path) -> None:
    ui = app.widget.ui
    ui.pythonPath.currentPath = "/bin/true"
    ui.installButton.click()
    assert app.wait(lambda: not app.widget.panels.compute.busy, 60)
    assert "could not be asked" in ui.computeStatus.text
    state = Install.State(sys.executable, True, {"scipy": Install.ABSENT})
    slicer.app.answers.append(False)
    assert "Nothing was installed" in app.widget.panels.compute._offer(state)
    assert "scipy" in slicer.app.questions[-1]


def test_the_downloads_are_shown_and_removed_after_a_yes(app, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "braing3n").mkdir()
    (tmp_path / "braing3n" / "weights").write_bytes(b"x" * 2_000_000)
    ui, panel = app.widget.ui, app.widget.panels.compute
    panel.showCache()
    assert ui.cacheLabel.text == "2.0 MB"
    slicer.app.answers += [False, True]
    ui.clearCacheButton.click()
    assert ui.cacheLabel.text == "2.0 MB"
    ui.clearCacheButton.click()
    assert ui.cacheLabel.text == "0.0 MB" and "2.0 MB were removed" in ui.computeStatus.text


@pytest.mark.parametrize("button", ["copyButton", "exportButton", "compareButton"])
def test_a_button_that_has_nothing_to_work_on_says_so(app, button: str) -> None:
    getattr(app.widget.ui, button).click()
    assert "There" in app.widget.ui.messageLabel.text


def test_the_views_that_show_a_result_say_synthetic(ready) -> None:
    scene = ready.mrml.scene
    for name in ("Red", "Yellow", "Green"):
        scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode").SetLayoutName(name)
    panels = ready.widget.panels
    panels.run = counterfactual(scene, scene.GetFirstNodeByName("Head"))
    ready.widget.ui.compareButton.click()
    manager = slicer.app.layoutManager()
    texts = [manager.sliceWidget(n).sliceView().cornerAnnotation().GetText(PLACE) for n in manager.sliceViewNames()]
    assert [text or "" for text in texts] == ["", "SYNTHETIC", "SYNTHETIC"]


def test_a_name_that_slicer_does_not_have_is_an_error_in_the_harness(app) -> None:
    with pytest.raises(AttributeError):
        app.widget.ui.probeButton.label = "x"
    with pytest.raises(ValueError, match="no signal"):
        app.widget.ui.probeButton.connect("pushed(bool)", print)
