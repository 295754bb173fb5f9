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
        """Watch the views that exist now, and write what they need."""
        self.letGo()
        for node in compositeNodes(self.scene):
            tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self.write())
            self._observed.append((node, tag))
        self.write()

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
    nodes = scene.GetNodesByClass("vtkMRMLSliceCompositeNode")
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
