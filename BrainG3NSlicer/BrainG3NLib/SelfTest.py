"""The module's test inside Slicer ("Reload and test"): geometry, requests and result nodes, without a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import slicer

from braing3n_core.schema import Conditions, CounterfactualRequest, Output, Result

from .Jobs import Answer, Image
from .Logic import Logic
from .Volumes import affineOf, fillNode, volumeFromNode

OBLIQUE = np.array([[-0.9, 0.1, 0.2, 40.0], [0.1, 1.1, -0.1, -30.0], [0.1, 0.2, 1.4, 12.0], [0.0, 0.0, 0.0, 1.0]])


def runAll(test: Any) -> None:
    """Called by Slicer. test: ScriptedLoadableModuleTest."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Self test")
    array = np.random.default_rng(1).normal(size=(12, 11, 10)).astype(np.float32)
    fillNode(node, array, OBLIQUE)
    volume = volumeFromNode(node)
    _same(volume.array.transpose(2, 1, 0), array, "voxels")
    _same(volume.affine, OBLIQUE, "grid")
    run = _fakeRun(node, array)
    _same(affineOf(run.named["counterfactual"]), OBLIQUE, "the result's grid")
    if hasattr(test, "delayDisplay"):
        test.delayDisplay("BrainG3N: test passed")


def _fakeRun(node: Any, array: np.ndarray) -> Any:
    outputs = [Output(role, "", "native", True) for role in ("counterfactual", "difference")]
    images = tuple(Image(output, array, OBLIQUE, 1.0) for output in outputs)
    request = CounterfactualRequest("x", target=Conditions(disease="AD"))
    job: Any = SimpleNamespace(kind="counterfactual", request=request, inputID=node.GetID())
    answer = Answer(Result("counterfactual"), images, {})
    logic = Logic(slicer.mrmlScene)
    *_, run = logic.accept(job, answer)
    return run


def _same(found: np.ndarray, wanted: np.ndarray, what: str) -> None:
    if not np.allclose(found, wanted):
        raise AssertionError(f"{what}: expected {wanted}, got {found}")


