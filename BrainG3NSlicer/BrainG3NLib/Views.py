"""What the slice views show of a run: the scan, the edit and the difference beside each other, linked. MRML only."""

from __future__ import annotations

from .Scene import Run
from .Stamp import compositeNodes, nodesOfClass

LAYOUT_ID, PLOTTED_ID = 1735, 1736
COMPARED = ("Red", "Yellow", "Green")
_VIEW = (
    '<item><view class="vtkMRMLSliceNode" singletontag="{name}"><property name="orientation" action="default">Axial'
    '</property><property name="viewlabel" action="default">{label}</property><property name="viewcolor" '
    'action="default">{colour}</property></view></item>'
)
_CHART = (
    '<item><view class="vtkMRMLPlotViewNode" singletontag="PlotView1"><property name="viewlabel" action="default">P'
    "</property></view></item>"
)
LAYOUT = '<layout type="horizontal">' + "".join(
    _VIEW.format(name=n, label=label, colour=colour)
    for n, label, colour in zip(COMPARED, ("Scan", "Edit", "Diff"), ("#7B1E28", "#B8860B", "#2E6B4F"), strict=True)
) + "</layout>"
PLOTTED = f'<layout type="vertical"><item>{LAYOUT}</item>{_CHART}</layout>'
CHARTS = ("chart-ventricle_volume", "chart-brain_volume")
"""Which chart of a forecast is shown; if there is none of them, the first."""


def sideBySide(scene, chart=None) -> None:
    """Three slice views in a row that show the same slice; a chart under them if one is given."""
    identity, description = (LAYOUT_ID, LAYOUT) if chart is None else (PLOTTED_ID, PLOTTED)
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout is not None:
        if not layout.IsLayoutDescription(identity):
            layout.AddLayoutDescription(identity, description)
        layout.SetViewArrangement(identity)
    for view in nodesOfClass(scene, "vtkMRMLPlotViewNode") if chart is not None else ():
        view.SetPlotChartNodeID(chart.GetID())
    _showSameSlice(scene)


def chartOf(run: Run):
    """The chart of a forecast over the years that is shown first; None for other runs."""
    if "sequence" not in run.named:
        return None
    charts = {role: node for role, node in run.named.items() if role.startswith("chart-")}
    charts.pop("chart-probabilities", None)
    return next((charts[role] for role in (*CHARTS, *charts) if role in charts), None)


def _showSameSlice(scene) -> None:
    """Turn the other views to the slice of the first: a layout leaves views that exist already as they were."""
    views = {node.GetLayoutName(): node for node in nodesOfClass(scene, "vtkMRMLSliceNode")}
    first = views.get(COMPARED[0])
    for name in COMPARED[1:]:
        if first is not None and name in views:
            views[name].SetOrientation(first.GetOrientation())
            views[name].GetSliceToRAS().DeepCopy(first.GetSliceToRAS())
            views[name].SetFieldOfView(*first.GetFieldOfView())
            views[name].UpdateMatrices()


def compare(run: Run, opacity: float) -> None:
    """Scan | edit | scan with the difference over it, with linked slices."""
    edited = run.named.get("counterfactual") or run.named.get("forecast")
    difference = run.named.get("difference")
    if edited is None or run.inputNode is None:
        return
    scan = run.inputNode.GetID()
    for view, background, foreground in zip(
        COMPARED, (scan, edited.GetID(), scan), (None, None, difference and difference.GetID()), strict=True
    ):  # fmt: skip
        node = composite(run.scene, view)
        if node is not None:
            node.SetBackgroundVolumeID(background)
            node.SetForegroundVolumeID(foreground)
            node.SetForegroundOpacity(opacity)
            node.SetLinkedControl(True)
    for legend in nodesOfClass(run.scene, "vtkMRMLColorLegendDisplayNode"):
        legend.Modified()  # a view hears of its legends, but not of layers that were set by a program


def setOpacity(scene, opacity: float) -> None:
    """Fade the difference in the third view."""
    node = composite(scene, COMPARED[-1])
    if node is not None and node.GetForegroundVolumeID():
        node.SetForegroundOpacity(opacity)


def composite(scene, view: str):
    """The composite node of a slice view, by its layout name; None where the view does not exist."""
    return next((node for node in compositeNodes(scene) if node.GetLayoutName() == view), None)
