"""Result nodes in the scene: volumes, differences, masks, transforms, and the folder they lie in.

A :class:`Run` collects every node that it makes, so that a failure half-way leaves none behind.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import slicer

from braing3n_core.schema import Result

from .Colours import differenceColours
from .Volumes import fillNode

SYNTHETIC = "SYNTHETIC"
IMAGINED = ("counterfactual", "forecast")
"""Verbs whose images a model made; the others show what is in the scan."""
UNIT = "the scan's own unit"
TITLE_POINTS, LABEL_POINTS = 11, 10
PREFIX = "BrainG3N."
"""Of the attributes that every node of a run carries."""


class Run:
    """The nodes of one run. scene: vtkMRMLScene. inputNode: the scan, or None if it was deleted meanwhile."""

    def __init__(self, scene, inputNode, result: Result, title: str) -> None:
        self.scene, self.inputNode, self.result, self.title = scene, inputNode, result, title
        self.nodes: list[Any] = []
        self.named: dict[str, Any] = {}
        name = inputNode.GetName() if inputNode is not None else "scan"
        self.stem = f"{name} {title}"
        self.hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        self.folder = self._makeFolder()

    def name(self, what: str = "", synthetic: bool = True) -> str:
        """Name of a node of this run; what a model made says so."""
        words = [self.stem, what, f"[{SYNTHETIC}]" if synthetic else ""]
        return self.scene.GenerateUniqueName(" ".join(word for word in words if word))

    def keep(self, role: str, node, synthetic: bool, facts: dict[str, Any] | None = None):
        """Register a node: provenance (``facts``, or the run's), folder, and removal if the run fails. Returns it."""
        self.nodes.append(node)
        self.named[role] = node
        facts = self.result.provenance if facts is None else facts
        modifying = node.StartModify()  # one event instead of one for each attribute
        node.SetAttribute(PREFIX + "Role", role)
        node.SetAttribute(PREFIX + "Synthetic", "true" if synthetic else "false")
        node.SetAttribute(PREFIX + "Verb", self.result.kind)
        node.SetAttribute(PREFIX + "Seed", str(facts.get("seed", "")))
        node.SetAttribute(PREFIX + "Provenance", json.dumps(_shareable(facts), default=str))
        if self.inputNode is not None:
            node.SetAttribute(PREFIX + "Input", self.inputNode.GetName())
        node.EndModify(modifying)
        if not node.GetHideFromEditors():
            self.hierarchy.SetItemParent(self._item(node), self.folder)
        return node

    def add(self, className: str, name: str):
        """A new node of a class in the scene, removed again if the run fails."""
        node = self.scene.AddNewNodeByClass(className, name)
        self.nodes.append(node)
        return node

    def rollBack(self) -> None:
        """Take every node of this run out of the scene again."""
        for node in self.named.values():  # first the items: one must not outlive its node
            item = self.hierarchy.GetItemByDataNode(node)
            if item:
                self.hierarchy.RemoveItem(item, False, False)
        if self.folder:
            self.hierarchy.RemoveItem(self.folder, False, False)
        for node in reversed(self.nodes):
            if node is not None and self.scene.IsNodePresent(node):
                self.scene.RemoveNode(node)
        self.nodes.clear()
        self.named.clear()

    def _makeFolder(self) -> int:
        parent = self.hierarchy.GetSceneItemID()
        if self.inputNode is not None:
            own = self.hierarchy.GetItemByDataNode(self.inputNode)
            parent = (own and self.hierarchy.GetItemParent(own)) or parent
        name = f"{self.stem} [{SYNTHETIC}]" if self.result.kind in IMAGINED else self.stem
        unique = self.hierarchy.GenerateUniqueItemName(name)
        return self.hierarchy.CreateFolderItem(parent, unique)

    def _item(self, node) -> int:
        return self.hierarchy.GetItemByDataNode(node) or self.hierarchy.CreateItem(self.folder, node)


def addVolume(run: Run, role: str, name: str, image, synthetic: bool = True, facts: dict[str, Any] | None = None):
    """A scalar volume node on the image's grid. In native space: exactly the input's grid, under its parent transform,
    with its window and level."""
    node = run.add("vtkMRMLScalarVolumeNode", name)
    fillNode(node, image.array, image.affine)
    display = _display(run, node)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.SetWindowLevelMinMax(0.0, image.limit)
    if image.output.space == "native" and run.inputNode is not None:
        node.SetAndObserveTransformNodeID(run.inputNode.GetTransformNodeID())
        copyWindow(run.inputNode, display)
    return run.keep(role, node, synthetic, facts)


def copyWindow(source, display) -> None:
    """Window and level of one volume for another's display, so that both are seen alike."""
    shown = source.GetScalarVolumeDisplayNode() if source is not None else None
    if shown is None:
        return
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(shown.GetWindow(), shown.GetLevel())


def addDifference(run: Run, role: str, name: str, image, limit: float, facts: dict[str, Any] | None = None):
    """A difference map from -limit to +limit, with a legend; it is clear where nothing changed."""
    node = addVolume(run, role, name, image, facts=facts)
    showAsDifference(run, node, limit, UNIT)
    return node


def showAsDifference(run: Run, node, limit: float, unit: str) -> None:
    """Give a volume node the look of a difference map."""
    display = node.GetScalarVolumeDisplayNode()
    display.SetAndObserveColorNodeID(differenceColours(run.scene).GetID())
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(-limit, limit)
    node.SetAttribute(PREFIX + "Limit", repr(limit))
    addLegend(run, node, f"Difference\n({unit})")


def addLegend(run: Run, node, title: str, numbers: str = "%+.3g") -> None:
    """A colour legend beside the views of a volume. numbers: how its labels are written, here with their sign."""
    legend = run.add("vtkMRMLColorLegendDisplayNode", run.scene.GenerateUniqueName("BrainG3N legend"))
    display = node.GetDisplayNode()
    legend.SetAndObservePrimaryDisplayNode(display)
    legend.SetAndObserveColorNodeID(display.GetColorNodeID())
    legend.SetTitleText(title)
    legend.GetTitleTextProperty().SetFontSize(TITLE_POINTS)
    legend.GetLabelTextProperty().SetFontSize(LABEL_POINTS)
    legend.SetLabelFormat(numbers)
    legend.SetNumberOfLabels(5)
    legend.SetMaxNumberOfColors(256)
    legend.SetPosition(0.97, 0.5)
    legend.SetSize(0.10, 0.55)
    legend.SetVisibility(True)
    node.AddAndObserveDisplayNodeID(legend.GetID())


def addMask(run: Run, role: str, name: str, image):
    """A label map node of a brain mask."""
    node = run.add("vtkMRMLLabelMapVolumeNode", name)
    fillNode(node, image.array.astype(np.uint8), image.affine)
    display = run.add("vtkMRMLLabelMapVolumeDisplayNode", f"{name} display")
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeLabels")
    node.SetAndObserveDisplayNodeID(display.GetID())
    if image.output.space == "native" and run.inputNode is not None:
        node.SetAndObserveTransformNodeID(run.inputNode.GetTransformNodeID())
    return run.keep(role, node, synthetic=False)


def addTransform(run: Run, role: str, name: str, nativeToAtlas: np.ndarray):
    """A linear transform node that takes points of the scan's own world to the atlas (RAS to RAS, mm)."""
    node = run.add("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(nativeToAtlas, dtype=float)))
    return run.keep(role, node, synthetic=False)


def _display(run: Run, node):
    display = run.add("vtkMRMLScalarVolumeDisplayNode", f"{node.GetName()} display")
    display.SetAutoWindowLevel(False)  # else a histogram of all voxels is made at once, on the main thread
    node.SetAndObserveDisplayNodeID(display.GetID())
    return display


def _shareable(facts: dict[str, Any]) -> dict[str, Any]:
    """Provenance without the temporary paths of this computer."""
    request = {k: v for k, v in facts.get("request", {}).items() if k != "input"}
    return {**facts, "request": request} if "request" in facts else dict(facts)
