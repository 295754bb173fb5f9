"""What the scene holds after a run, what the views write over it, and what of it survives being saved and loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")

import vtk
from BrainG3NLib.Colours import divergingTable
from BrainG3NLib.Jobs import Answer
from BrainG3NLib.Scene import PREFIX
from BrainG3NLib.Stamp import PLACE, Stamp
from BrainG3NLib.Tables import VERDICTS, effectRows, threshold
from BrainG3NLib.Volumes import affineOf, fillNode

from braing3n_core.schema import ProbeRequest, Result

from .conftest import addVolume
from .harness.mrml import Mrml
from .results import EFFECTS, READINGS, accept, counterfactual, forecast

OBLIQUE = np.array([[0.9, 0.1, 0.2, 40.0], [0.1, 1.1, -0.1, -30.0], [0.1, 0.2, 1.4, 12.0], [0.0, 0.0, 0.0, 1.0]])
"""Right-handed: Slicer's reader turns the voxels of a left-handed grid around, which keeps every point in place."""


@pytest.fixture
def head(mrml):
    array = np.random.default_rng(2).normal(100.0, 20.0, (6, 7, 8)).astype(np.float32)
    return addVolume(mrml.scene, "Head", array, OBLIQUE, fillNode)


@pytest.fixture
def reloaded(mrml, head, tmp_path: Path):
    """The scene of a counterfactual and a forecast, saved as an MRB and read by another scene."""
    transform = mrml.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "elsewhere")
    head.SetAndObserveTransformNodeID(transform.GetID())
    counterfactual(mrml.scene, head)
    forecast(mrml.scene, head)
    parameters = mrml.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "BrainG3N")
    parameters.SetParameter("guidance", "2.5")
    parameters.SetNodeReferenceID("inputVolume", head.GetID())
    bundle = str(tmp_path / "scene.mrb")
    assert mrml.scene.WriteToMRB(bundle)
    again = Mrml()
    assert again.scene.ReadFromMRB(bundle, True)
    yield again
    again.close()


def byRole(scene, role: str, verb: str):
    nodes = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
    (found,) = [n for n in nodes if n.GetAttribute(PREFIX + "Role") == role and n.GetAttribute(PREFIX + "Verb") == verb]
    return found


def test_a_saved_scene_keeps_voxels_grids_transform_and_provenance(reloaded, head) -> None:
    edited = byRole(reloaded.scene, "counterfactual", "counterfactual")
    scan = reloaded.scene.GetFirstNodeByName("Head")
    assert np.allclose(affineOf(edited), OBLIQUE, atol=1e-6)
    assert edited.GetTransformNodeID() == scan.GetTransformNodeID() != ""
    assert slicer.util.arrayFromVolume(edited).max() == pytest.approx(90.0)
    assert json.loads(edited.GetAttribute(PREFIX + "Provenance"))["seed"] == 7
    assert edited.GetName().endswith("[SYNTHETIC]")
    display = edited.GetScalarVolumeDisplayNode()
    own = head.GetScalarVolumeDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == pytest.approx((own.GetWindow(), own.GetLevel()), abs=0.01)


def test_a_saved_scene_keeps_colours_limits_and_legend(reloaded) -> None:
    change = byRole(reloaded.scene, "difference", "counterfactual")
    display = change.GetScalarVolumeDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-10.0, 10.0)
    colours = display.GetColorNode()
    assert colours.GetName() == "BrainG3N difference"
    read = np.zeros((255, 4))
    for index in range(255):
        colours.GetColor(index, read[index])
    assert np.allclose(read, divergingTable(), atol=1 / 255)
    legends = [change.GetNthDisplayNode(i) for i in range(change.GetNumberOfDisplayNodes())]
    (legend,) = [node for node in legends if node.IsA("vtkMRMLColorLegendDisplayNode")]
    assert legend.GetPrimaryDisplayNode() is display and "unit" in legend.GetTitleText()


def test_a_saved_scene_keeps_the_sequence_and_its_browser(reloaded) -> None:
    sequence = byRole(reloaded.scene, "sequence", "forecast")
    assert [sequence.GetNthIndexValue(i) for i in range(sequence.GetNumberOfDataNodes())] == ["0", "1", "5"]
    assert sequence.GetIndexUnit() == "years"
    browser = byRole(reloaded.scene, "browser", "forecast")
    shown = browser.GetProxyNode(byRole(reloaded.scene, "sequence-difference", "forecast"))
    assert (shown.GetAttribute(PREFIX + "Role"), shown.GetAttribute(PREFIX + "Synthetic")) == ("difference", "true")
    largest = []
    for number in range(3):
        browser.SetSelectedItemNumber(number)
        reloaded.logics["vtkSlicerSequencesLogic"].UpdateProxyNodesFromSequences(browser)
        largest.append(float(slicer.util.arrayFromVolume(shown).max()))
    assert largest == pytest.approx([0.0, 4.0, 20.0])


def test_a_saved_scene_keeps_tables_charts_parameters_and_the_folder(reloaded) -> None:
    scene = reloaded.scene
    assert byRole(scene, "effects", "counterfactual").GetNumberOfRows() == len(EFFECTS)
    assert byRole(scene, "chart-age", "forecast").GetNumberOfPlotSeriesNodes() == 3
    parameters = scene.GetFirstNodeByClass("vtkMRMLScriptedModuleNode")
    assert parameters.GetParameter("guidance") == "2.5"
    assert parameters.GetNodeReference("inputVolume").GetName() == "Head"
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(byRole(scene, "counterfactual", "counterfactual"))
    assert "SYNTHETIC" in hierarchy.GetItemName(hierarchy.GetItemParent(item))


def test_samples_share_their_limits_and_each_says_its_seed(mrml, head) -> None:
    run = counterfactual(mrml.scene, head, samples=3)
    changes = [run.named[role] for role in ("difference", "difference-2", "difference-3")]
    assert {node.GetScalarVolumeDisplayNode().GetWindowLevelMax() for node in changes} == {12.0}
    assert [node.GetAttribute(PREFIX + "Seed") for node in changes] == ["7", "8", "9"]
    assert run.named["uncertainty"].GetScalarVolumeDisplayNode().GetWindowLevelMin() == 0.0
    signed = {n.GetTitleText().split("\n")[0]: n.GetLabelFormat() for n in run.nodes if hasattr(n, "GetLabelFormat")}
    assert signed == {"Difference": "%+.3g", "Spread of the samples": "%.3g"}


def test_a_folder_says_synthetic_only_where_a_model_made_images(mrml, head) -> None:
    read = accept(mrml.scene, head, ProbeRequest("x"), Answer(Result("probe", readings=READINGS), (), {}))
    for run, isSynthetic in ((read, False), (counterfactual(mrml.scene, head), True)):
        assert ("SYNTHETIC" in run.hierarchy.GetItemName(run.folder)) == isSynthetic


def test_the_classes_that_probes_weigh_become_a_bar_chart(mrml, head) -> None:
    run = counterfactual(mrml.scene, head)
    chart = run.named["chart-probabilities"]
    series = chart.GetNthPlotSeriesNode(0)
    assert series.GetPlotTypeAsString(series.GetPlotType()) == "Bar"
    table = series.GetTableNode()
    assert [table.GetCellText(0, c) for c in range(2)] == ["Disease: AD", "70"]


def test_a_run_that_is_taken_back_leaves_no_node_and_no_item(mrml, head, capfd) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(mrml.scene)
    for make in (counterfactual, forecast):
        make(mrml.scene, head).rollBack()  # the first ones make the colours, which stay
    nodes, items = mrml.nodes(), hierarchy.GetNumberOfItems()
    capfd.readouterr()
    for make in (counterfactual, forecast):
        run = make(mrml.scene, head)
        assert len(mrml.nodes()) > len(nodes) and hierarchy.GetNumberOfItems() > items
        run.rollBack()
        assert (mrml.nodes(), hierarchy.GetNumberOfItems()) == (nodes, items)
    counterfactual(mrml.scene, head)
    assert "inconsistency" not in capfd.readouterr().err  # Slicer's hierarchy writes that when an item lost its node


def test_an_effect_smaller_than_the_probes_error_is_not_called_off_target() -> None:
    verdicts = {row[0]: (row[5], row[1]) for row in effectRows(EFFECTS, READINGS)}
    assert verdicts == {"Disease": ("", VERDICTS[0]), "Ventricle volume": ("4.0", VERDICTS[1]),
                        "Age": ("7.5", VERDICTS[2])}  # fmt: skip
    assert threshold(READINGS[1]) is None


class Views:
    """A layout manager with one view, whose text is Slicer's own vtkCornerAnnotation."""

    def __init__(self) -> None:
        self.annotation = vtk.vtkCornerAnnotation()

    def sliceViewNames(self):
        return ["Red"]

    def sliceWidget(self, name: str):
        return self

    def sliceView(self):
        return self

    def cornerAnnotation(self):
        return self.annotation

    def scheduleRender(self) -> None:
        """Nothing is drawn here."""


def test_a_view_says_synthetic_as_long_as_it_shows_something_synthetic(mrml, head) -> None:
    run, views = counterfactual(mrml.scene, head), Views()
    layers = mrml.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    layers.SetLayoutName("Red")
    layers.SetBackgroundVolumeID(head.GetID())
    stamp = Stamp(mrml.scene, views)
    stamp.follow()
    seen = [views.annotation.GetText(PLACE)]
    layers.SetForegroundVolumeID(run.named["difference"].GetID())
    for opacity in (0.7, 0.0):
        layers.SetForegroundOpacity(opacity)
        seen.append(views.annotation.GetText(PLACE))
    layers.SetBackgroundVolumeID(run.named["counterfactual"].GetID())
    seen.append(views.annotation.GetText(PLACE))
    stamp.letGo()
    seen.append(views.annotation.GetText(PLACE))
    assert [text or "" for text in seen] == ["", "SYNTHETIC", "", "SYNTHETIC", ""]
