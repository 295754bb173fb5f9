"""The Logic on real MRML, with a real engine in another process and a small checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")

from BrainG3NLib.Logic import Logic, saveRun
from BrainG3NLib.Scene import PREFIX
from BrainG3NLib.Volumes import affineOf
from BrainG3NLib.Worker import Compute, ComputeSettings

from braing3n_core.errors import BrainG3NError, Cancelled, RequestError, VolumeError
from braing3n_core.progress import Cancel
from braing3n_core.volume import Volume


@pytest.fixture
def logic(mrml, python: str, tinyCheckpoint: Path):
    compute = Compute(ComputeSettings(python=python, checkpoint=str(tinyCheckpoint), device="cpu"))
    yield Logic(mrml.scene, compute)
    compute.stop()


@pytest.fixture
def moved(mrml, scan):
    """The scan under a parent transform."""
    transform = mrml.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registered elsewhere")
    scan.SetAndObserveTransformNodeID(transform.GetID())
    return scan


def test_a_counterfactual_lies_on_the_scans_grid_under_its_transform_with_its_window(logic, moved, settings) -> None:
    run = logic.process("counterfactual", settings(inputVolume=moved, targetDisease="AD"))
    for role in ("counterfactual", "difference"):
        node = run.named[role]
        assert np.array_equal(affineOf(node), affineOf(moved))
        assert node.GetTransformNodeID() == moved.GetTransformNodeID()
        assert node.GetName().endswith("[SYNTHETIC]")
        assert node.GetAttribute(PREFIX + "Synthetic") == "true"
    edited, change = (slicer.util.arrayFromVolume(run.named[r]) for r in ("counterfactual", "difference"))
    assert np.abs(change).max() > 0
    assert np.allclose(edited - slicer.util.arrayFromVolume(moved), change, atol=1e-3)
    shown, own = run.named["counterfactual"].GetScalarVolumeDisplayNode(), moved.GetScalarVolumeDisplayNode()
    assert (shown.GetWindow(), shown.GetLevel()) == (own.GetWindow(), own.GetLevel())


def test_the_difference_is_centred_on_zero_and_has_a_legend(logic, scan, settings) -> None:
    run = logic.process("counterfactual", settings(inputVolume=scan, targetDisease="AD", targetAge=80.0))
    display = run.named["difference"].GetScalarVolumeDisplayNode()
    assert display.GetWindowLevelMin() == -display.GetWindowLevelMax() < 0
    assert display.GetColorNode().GetName() == "BrainG3N difference"
    legend = [n for n in run.nodes if n.IsA("vtkMRMLColorLegendDisplayNode")]
    assert len(legend) == 1 and legend[0].GetPrimaryDisplayNode() is display
    assert "unit" in legend[0].GetTitleText()


def test_all_nodes_of_a_run_lie_in_one_folder_and_say_where_they_come_from(logic, scan, settings) -> None:
    run = logic.process("counterfactual", settings(inputVolume=scan, targetDisease="AD", seed=7))
    assert "SYNTHETIC" in run.hierarchy.GetItemName(run.folder)
    for node in run.named.values():
        item = run.hierarchy.GetItemByDataNode(node)
        assert run.hierarchy.GetItemParent(item) == run.folder
        facts = json.loads(node.GetAttribute(PREFIX + "Provenance"))
        assert facts["seed"] == 7 and facts["checkpoint"]["ids"]
        assert "BrainG3N-" not in node.GetAttribute(PREFIX + "Provenance").replace("BrainG3N-core", "")


def test_a_forecast_is_a_sequence_over_years_that_plays(logic, mrml, scan, settings) -> None:
    run = logic.process("forecast", settings(inputVolume=scan, horizons="1, 5"))
    sequence = run.named["sequence"]
    assert [sequence.GetNthIndexValue(i) for i in range(3)] == ["0", "1", "5"]
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("time", "years")
    browser, change = run.named["browser"], run.named["difference"]
    seen = []
    for index in range(3):
        browser.SetSelectedItemNumber(index)
        mrml.logics["vtkSlicerSequencesLogic"].UpdateProxyNodesFromSequences(browser)
        seen.append(float(np.abs(slicer.util.arrayFromVolume(change)).mean()))
    assert seen[0] == 0.0 < seen[1]
    assert change.GetScalarVolumeDisplayNode().GetColorNode().GetName() == "BrainG3N difference"
    assert run.named["uncertainty"].GetScalarVolumeDisplayNode().GetWindowLevelMin() == 0.0
    assert run.named["chart-age"].GetNumberOfPlotSeriesNodes() == 3
    assert run.named["trajectory-age"].GetNumberOfRows() == 3


def test_readings_become_a_table_with_interval_quality_and_familiarity(logic, scan, settings, tmp_path: Path) -> None:
    run = logic.process("probe", settings(inputVolume=scan))
    table = run.named["readings"]
    assert table.GetNumberOfRows() >= 4 and table.GetNumberOfColumns() == 6
    files = {file.name.rpartition("_")[2]: file for file in saveRun(run, tmp_path)}
    assert set(files) == {"readings.tsv", "probabilities.tsv"}
    assert files["readings.tsv"].read_text().splitlines()[0].startswith("Task\tPrediction\tUnit")


def test_preprocessing_gives_the_atlas_volume_the_mask_and_the_transform(logic, scan, settings) -> None:
    run = logic.process("preprocess", settings(inputVolume=scan))
    assert run.named["mask"].IsA("vtkMRMLLabelMapVolumeNode")
    assert np.array_equal(affineOf(run.named["mask"]), affineOf(scan))
    matrix = slicer.util.arrayFromTransformMatrix(run.named["transform"])
    assert np.allclose(matrix, np.eye(4), atol=1e-6)  # the template is registered already
    assert "SYNTHETIC" not in run.named["preprocessed"].GetName()


def test_a_result_can_be_saved_and_read_back_with_its_warning(logic, scan, settings, tmp_path: Path) -> None:
    run = logic.process("counterfactual", settings(inputVolume=scan, targetSex="M", knownSex="F"))
    (path,) = [p for p in saveRun(run, tmp_path) if "counterfactual" in p.name]
    saved = Volume.load(path)
    assert saved.description.startswith("SYNTHETIC")
    assert np.allclose(saved.affine, affineOf(scan), atol=1e-3)


def test_a_cancelled_run_leaves_no_node_and_no_file(logic, mrml, scan, settings) -> None:
    before, cancel = mrml.nodes(), Cancel()
    with pytest.raises(Cancelled):
        logic.process("counterfactual", settings(inputVolume=scan, targetDisease="AD"), cancel=cancel,
                      progress=lambda *_: cancel.cancel())  # fmt: skip
    assert mrml.nodes() == before


def test_stopping_while_nodes_are_made_takes_all_of_them_away(logic, mrml, scan, settings) -> None:
    before = mrml.nodes()
    job = logic.prepare("counterfactual", settings(inputVolume=scan, targetDisease="AD"))
    steps = logic.accept(job, job.run(logic.compute.engine(), lambda *_: None))
    run = next(steps)
    folder = run.folder
    steps.close()
    assert mrml.nodes() == before
    assert not job.folder.exists()
    assert run.hierarchy.GetItemName(folder) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"targetDisease": "plague"}, "plague"), ({}, "Nothing is to be changed"), ({"targetAge": 400.0}, "age_years"),
        ({"targetDisease": "AD", "modality": "PET"}, "PET"), ({"targetDisease": "AD", "guidance": -3.0}, "guidance"),
        ({"targetDisease": "AD", "strength": 7.0}, "strength"), ({"targetDisease": "AD", "stage": "boiled"}, "boiled"),
        ({"targetDisease": "AD", "brain": "spoon"}, "spoon"), ({"targetSite": "Mars"}, "site"),
        ({"targetDisease": "AD", "knownAge": -4.0}, "age_years"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_a_sentence_and_change_nothing(logic, mrml, scan, settings, changes, sentence):
    before = mrml.nodes()
    with pytest.raises((RequestError, VolumeError), match=sentence):
        logic.process("counterfactual", settings(inputVolume=scan, **changes))
    assert mrml.nodes() == before


@pytest.mark.parametrize("horizons", ["", "soon", "1; later", "400", "nan"])
def test_horizons_that_are_no_years_are_a_sentence(logic, scan, settings, horizons: str) -> None:
    with pytest.raises(RequestError, match=r"(?i)horizon"):
        logic.process("forecast", settings(inputVolume=scan, horizons=horizons))


@pytest.mark.parametrize(
    "compute", [ComputeSettings(python="/nowhere/python"), ComputeSettings(location="remote", url="server"),
                ComputeSettings(location="remote", url="")],
)  # fmt: skip
def test_a_place_that_cannot_compute_is_a_sentence(mrml, scan, settings, compute: ComputeSettings) -> None:
    with pytest.raises(BrainG3NError) as caught:
        Logic(mrml.scene, Compute(compute)).process("probe", settings(inputVolume=scan))
    assert caught.value.hint


def test_a_mask_on_another_grid_is_refused(logic, mrml, scan, settings) -> None:
    from BrainG3NLib.Volumes import fillNode

    mask = mrml.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "elsewhere")
    fillNode(mask, np.ones((9, 9, 9), np.uint8), np.eye(4))
    with pytest.raises(VolumeError, match="elsewhere is not on the grid"):
        logic.process("probe", settings(inputVolume=scan, maskVolume=mask))
