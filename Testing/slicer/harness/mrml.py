"""A real MRML scene with the logics that register the nodes a module uses. Nothing here is a stand-in."""

from __future__ import annotations

import tempfile

import slicer

LOGICS = (
    "vtkSlicerSubjectHierarchyModuleLogic", "vtkSlicerColorLogic", "vtkSlicerSequencesLogic", "vtkSlicerVolumesLogic",
    "vtkSlicerTablesLogic", "vtkSlicerPlotsLogic", "vtkSlicerTransformLogic", "vtkSlicerScriptedLoadableModuleLogic",
)
NODES = ("vtkMRMLSubjectHierarchyNode", "vtkMRMLScriptedModuleNode")


class Mrml:
    """A scene and its logics, kept alive together."""

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.folder = tempfile.TemporaryDirectory(prefix="BrainG3N-scene-")
        self.cache, self.files = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
        self.cache.SetRemoteCacheDirectory(self.folder.name)  # where a bundle is unpacked
        self.files.SetCacheManager(self.cache)
        self.scene.SetCacheManager(self.cache)
        self.scene.SetDataIOManager(self.files)
        self.application = slicer.vtkSlicerApplicationLogic()
        self.application.SetMRMLScene(self.scene)
        for name in NODES:
            if not self.scene.IsNodeClassRegistered(name):
                self.scene.RegisterNodeClass(getattr(slicer, name)())
        self.logics = {name: self._logic(name) for name in LOGICS}
        self.logics["vtkSlicerColorLogic"].AddDefaultColorNodes()
        slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)  # the application always has one

    def _logic(self, name: str):
        logic = getattr(slicer, name)()
        logic.SetMRMLApplicationLogic(self.application)
        logic.SetMRMLScene(self.scene)
        return logic

    def close(self) -> None:
        """Empty the scene; the logics let go of it."""
        self.scene.Clear(1)
        for logic in self.logics.values():
            logic.SetMRMLScene(None)
        self.application.SetMRMLScene(None)
        self.folder.cleanup()

    def nodes(self) -> list[str]:
        """Ids of all nodes, to see whether something was left behind."""
        return [self.scene.GetNthNode(i).GetID() for i in range(self.scene.GetNumberOfNodes())]

