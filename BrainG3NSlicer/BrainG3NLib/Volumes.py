"""MRML volume nodes to and from ``braing3n_core.volume.Volume``.

MRML arrays are indexed (K, J, I); a Volume is (X, Y, Z) = (I, J, K). Both affines map voxel indices to RAS mm. A parent
transform is not part of a volume's own grid: it is neither applied nor lost, results are put under the same parent.
"""

from __future__ import annotations

import re

import numpy as np
import slicer
import vtk

from braing3n_core.errors import VolumeError
from braing3n_core.volume import Volume


def checkScan(node, what: str = "input volume") -> None:
    """Refuse anything that is not one scalar 3D scan, in a sentence. Raises VolumeError."""
    if node is None:
        raise VolumeError("slicer.no_volume", f"No {what} is selected.", f"Choose one under {what.capitalize()}.")
    image = node.GetImageData() if node.IsA("vtkMRMLVolumeNode") else None
    if image is None or image.GetNumberOfPoints() == 0:
        raise VolumeError("slicer.empty", f"{node.GetName()} has no voxels.", "Load the scan again, or choose another.")
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise VolumeError(
            "slicer.components", f"{node.GetName()} has {components} values a voxel (colour, vector or a time series).",
            "Choose a scalar 3D volume; extract one frame of a series first.",
        )  # fmt: skip


def volumeFromNode(node, modality: str | None = None) -> Volume:
    """A copy of the node's voxels on the node's own grid. Raises VolumeError."""
    checkScan(node)
    array = slicer.util.arrayFromVolume(node).transpose(2, 1, 0)
    return Volume.from_array(np.array(array, dtype=np.float32, order="F"), affineOf(node), modality, fileName(node))


def affineOf(node) -> np.ndarray:
    """(4,4) float64, voxel indices I, J, K to RAS mm, without the parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def fileName(node) -> str:
    """The node's name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", node.GetName() or "").strip("-_") or "scan"


def slicerOrder(array: np.ndarray) -> np.ndarray:
    """(X,Y,Z) to a contiguous (K,J,I), which MRML takes without reordering."""
    return np.ascontiguousarray(array.transpose(2, 1, 0))


def fillNode(node, arrayKji: np.ndarray, affine: np.ndarray) -> None:
    """Give a volume node its voxels (K,J,I) and its grid."""
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.asarray(affine)))
    slicer.util.updateVolumeFromArray(node, arrayKji)
