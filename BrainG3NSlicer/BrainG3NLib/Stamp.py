"""SYNTHETIC in the slice views that show what a model made. It follows the views, whoever changes their layers."""

from __future__ import annotations

from typing import Any

import vtk

from .Scene import PREFIX, SYNTHETIC

PLACE = vtk.vtkCornerAnnotation.UpperEdge
"""Slicer's own annotations (module Data Probe) rewrite the four corners and leave the edges alone."""


class Stamp:
    """Watches every slice view's layers. layoutManager: qSlicerLayoutManager, or None where there is no window."""

    def __init__(self, scene, layoutManager: Any) -> None:
        self.scene, self.layoutManager = scene, layoutManager
        self._observed: list[tuple[Any, int]] = []

    def follow(self) -> None:
        """Watch the views that exist now and those of later layouts, and write what they need."""
        self.letGo()
        self._observe(self.scene, self.scene.NodeAddedEvent, self._added)
        for node in compositeNodes(self.scene):
            self._watch(node)
        self.write()

    def _watch(self, node: Any) -> None:
        self._observe(node, vtk.vtkCommand.ModifiedEvent, lambda *_: self.write())

    def _observe(self, thing: Any, event: int, callback: Any) -> None:
        self._observed.append((thing, thing.AddObserver(event, callback)))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _added(self, caller: Any, event: str, node: Any) -> None:
        """Another layout brought another view."""
        if node is not None and node.IsA("vtkMRMLSliceCompositeNode"):
            self._watch(node)

    def letGo(self) -> None:
        """Stop watching, and wipe the text off."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed.clear()
        for _, view in self._views():
            _setText(view, "")

    def write(self) -> None:
        """Write SYNTHETIC on the views that show such a volume, nothing on the others."""
        shown = {node.GetLayoutName(): isSynthetic(self.scene, node) for node in compositeNodes(self.scene)}
        for name, view in self._views():
            _setText(view, SYNTHETIC if shown.get(name) else "")

    def _views(self) -> list[tuple[str, Any]]:
        if self.layoutManager is None:
            return []
        names = list(self.layoutManager.sliceViewNames())
        return [(name, self.layoutManager.sliceWidget(name).sliceView()) for name in names]


def compositeNodes(scene) -> list[Any]:
    """What each slice view shows."""
    return nodesOfClass(scene, "vtkMRMLSliceCompositeNode")


def nodesOfClass(scene, className: str) -> list[Any]:
    """All nodes of a class."""
    nodes = scene.GetNodesByClass(className)
    found = [nodes.GetItemAsObject(i) for i in range(nodes.GetNumberOfItems())]
    nodes.UnRegister(None)
    return found


def isSynthetic(scene, composite) -> bool:
    """Whether a slice view shows a volume that a model made, in a layer that is not fully clear."""
    layers = [composite.GetBackgroundVolumeID()]
    if composite.GetForegroundOpacity() > 0:
        layers.append(composite.GetForegroundVolumeID())
    nodes = [scene.GetNodeByID(identity) for identity in layers if identity]
    return any(node is not None and node.GetAttribute(PREFIX + "Synthetic") == "true" for node in nodes)


def _setText(view: Any, text: str) -> None:
    annotation = view.cornerAnnotation()
    if (annotation.GetText(PLACE) or "") != text:
        annotation.SetText(PLACE, text)
        view.scheduleRender()
