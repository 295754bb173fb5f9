"""What the slice views show of a run, drawn by Slicer's own slice logic, legends and annotations off screen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")

from BrainG3NLib import Views
from BrainG3NLib.Stamp import Stamp, compositeNodes, nodesOfClass
from BrainG3NLib.Volumes import fillNode

from .conftest import MODULE, REPOSITORY, addVolume
from .harness.views import REMEDY, SliceView, offScreen
from .results import counterfactual, forecast

NAMES = ("Red", "Yellow", "Green")


@pytest.fixture
def run(mrml):
    """A result, and the three views that Slicer has at its start: axial, sagittal, coronal."""
    views = [SliceView(mrml, name) for name in NAMES]
    views[1].node.SetOrientationToSagittal()
    views[2].node.SetOrientationToCoronal()
    array = np.random.default_rng(1).uniform(10, 90, (20, 22, 24)).astype(np.float32)
    head = addVolume(mrml.scene, "Head", array, np.diag([2.0, 2.0, 2.0, 1.0]), fillNode)
    views[0].show(head)
    made = counterfactual(mrml.scene, head)
    made.views = views
    return made


def test_side_by_side_shows_the_same_slice_three_times(run, mrml) -> None:
    # A layout turns only the views that it makes, and these three exist already.
    mrml.scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    run.views[0].logic.SetSliceOffset(14.0)
    Views.sideBySide(mrml.scene)
    Views.compare(run, 0.7)
    planes = [slicer.util.arrayFromVTKMatrix(view.node.GetSliceToRAS()) for view in run.views]
    assert np.allclose(planes[1], planes[0]) and np.allclose(planes[2], planes[0])
    assert planes[0][2, 3] == 14.0 and {view.node.GetOrientation() for view in run.views} == {"Axial"}
    fields = [view.node.GetFieldOfView() for view in run.views]
    assert fields[0] == fields[1] == fields[2]


def test_a_forecast_is_shown_with_its_chart_under_the_slices(run, mrml) -> None:
    logic = slicer.vtkMRMLLayoutLogic()  # Slicer's own: it reads the layout and makes the views
    logic.SetMRMLScene(mrml.scene)
    Views.sideBySide(mrml.scene, Views.chartOf(run))
    assert Views.chartOf(run) is None and not nodesOfClass(mrml.scene, "vtkMRMLPlotViewNode")
    ahead = forecast(mrml.scene, run.inputNode)
    chart = Views.chartOf(ahead)
    Views.sideBySide(mrml.scene, chart)
    (plot,) = nodesOfClass(mrml.scene, "vtkMRMLPlotViewNode")
    assert chart is ahead.named["chart-age"] and plot.GetPlotChartNodeID() == chart.GetID()
    assert sorted(node.GetLayoutName() for node in nodesOfClass(mrml.scene, "vtkMRMLSliceNode")) == sorted(NAMES)
    logic.SetMRMLScene(None)


def test_legends_are_told_when_the_layers_change(run, mrml) -> None:
    # A view looks at its legends when they change, and not when a program changes its layers.
    legends = nodesOfClass(mrml.scene, "vtkMRMLColorLegendDisplayNode")
    before = [legend.GetMTime() for legend in legends]
    Views.compare(run, 0.7)
    assert legends and all(legend.GetMTime() > time for legend, time in zip(legends, before, strict=True))


def test_a_view_that_comes_with_a_later_layout_is_watched_too(run, mrml) -> None:
    stamp = Stamp(mrml.scene, None)
    written: list[int] = []
    stamp.write = lambda: written.append(1)  # type: ignore[method-assign]
    stamp.follow()
    later = SliceView(mrml, "Slice4")
    written.clear()
    later.show(run.inputNode)
    assert written
    stamp.letGo()
    written.clear()
    later.show(run.named["counterfactual"])
    SliceView(mrml, "Slice5").show(run.inputNode)
    assert not written and len(compositeNodes(mrml.scene)) == 5


DRAWN = """
import sys
import numpy as np
from Testing.slicer.harness.views import offScreen
offScreen()
from Testing.slicer.harness.application import Slicer
app = Slicer(drawn=True)
ui = app.open().ui
from BrainG3NLib.Volumes import fillNode
from Testing.slicer.conftest import addVolume
from Testing.slicer.results import counterfactual
array = np.zeros((60, 60, 60), np.float32)
array[10:50, 10:50, 10:50] = 50
head = addVolume(app.mrml.scene, "Head", array, np.eye(4), fillNode)
app.views["Red"].show(head)
app.widget.panels.run = counterfactual(app.mrml.scene, head)
ui.compareButton.click()
np.savez(sys.argv[1], **{name: view.picture() for name, view in app.views.items()})
app.close()
"""


def test_the_drawn_views_have_overlay_legend_and_annotation(tmp_path: Path) -> None:
    if not offScreen():
        pytest.skip(f"nothing to draw off screen with: {REMEDY}")
    # A process of its own: a graphics driver that fails takes its process with it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(MODULE), str(REPOSITORY)]),
                   "XDG_CONFIG_HOME": str(tmp_path)}  # fmt: skip
    command = [sys.executable, "-c", DRAWN, str(tmp_path / "views.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = {name: pixels.astype(int) for name, pixels in np.load(tmp_path / "views.npz").items()}
    stamped = {name: pixels[:20, 150:270].max() > 200 for name, pixels in seen.items()}
    assert stamped == {"Red": False, "Yellow": True, "Green": True}
    coloured = {name: (np.ptp(pixels, axis=2) > 40).mean() for name, pixels in seen.items()}
    assert coloured["Red"] == coloured["Yellow"] == 0 and coloured["Green"] > 0.1
    bar = seen["Green"][140:340, 404:412]  # the legend: red above, grey at zero, blue below
    assert bar[2, :, 0].mean() > bar[2, :, 2].mean() + 80 and bar[-3, :, 2].mean() > bar[-3, :, 0].mean() + 80
    assert np.ptp(bar[100], axis=1).max() < 25
