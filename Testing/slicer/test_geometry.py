"""A scan leaves the scene and comes back on exactly its own grid, whatever its orientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")

import vtk
from BrainG3NLib.Requests import buildRequest
from BrainG3NLib.Volumes import affineOf, fillNode, volumeFromNode

from braing3n_core.errors import VolumeError
from braing3n_core.volume import Volume

from .conftest import addVolume

AXES = {
    "RAS": np.diag([0.9, 1.1, 1.4]), "LPS": np.diag([-0.9, -1.1, 1.4]), "LAS left-handed": np.diag([-0.9, 1.1, 1.4]),
    "sagittal PSR": np.array([[0, 0, 1.4], [-0.9, 0, 0], [0, 1.1, 0]]),
    "oblique": np.array([[-0.87, 0.12, 0.31], [0.18, 1.06, -0.22], [0.1, 0.21, 1.33]]),
}  # fmt: skip


def grid(name: str) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = AXES[name]
    affine[:3, 3] = (-71.25, 33.5, 12.125)
    return affine


@pytest.fixture(params=sorted(AXES))
def oriented(request: pytest.FixtureRequest, mrml):
    array = np.random.default_rng(3).normal(size=(10, 12, 14)).astype(np.float32)  # K, J, I
    return addVolume(mrml.scene, request.param, array, grid(request.param), fillNode), array


def test_voxels_and_grid_survive_the_way_out_and_back(oriented, tmp_path: Path) -> None:
    node, array = oriented
    read = Volume.load(volumeFromNode(node).save(tmp_path / "scan.nrrd"))
    assert np.array_equal(read.array.transpose(2, 1, 0), array)
    assert np.array_equal(read.affine, affineOf(node))


def test_slicers_own_reader_puts_the_file_at_the_same_place(oriented, mrml, tmp_path: Path) -> None:
    node, array = oriented
    path = volumeFromNode(node).save(tmp_path / "scan.nrrd")
    storage = mrml.scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    again = mrml.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert storage.ReadData(again) == 1
    to_again = np.linalg.inv(affineOf(again)) @ affineOf(node)  # its reader turns left-handed grids around
    for i, j, k in [(0, 0, 0), (13, 11, 9), (13, 0, 9), (3, 7, 5)]:
        found = to_again @ [i, j, k, 1]
        assert np.allclose(found, np.round(found), atol=1e-6)
        u, v, w = np.round(found[:3]).astype(int)
        assert slicer.util.arrayFromVolume(again)[w, v, u] == array[k, j, i]


def test_a_point_of_the_body_has_the_same_voxel_inside_and_outside(oriented) -> None:
    node, array = oriented
    volume = volumeFromNode(node)
    i, j, k = 3, 7, 5
    inside = volume.affine @ [i, j, k, 1]
    matrix = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(matrix)
    assert np.allclose(matrix.MultiplyPoint(inside)[:3], (i, j, k), atol=1e-9)
    assert volume.array[i, j, k] == array[k, j, i]


def test_the_copy_is_not_touched_by_later_changes_of_the_node(oriented) -> None:
    node, _ = oriented
    volume = volumeFromNode(node)
    before = volume.array.copy()
    slicer.util.arrayFromVolume(node)[:] = 0
    assert np.array_equal(volume.array, before)


@pytest.mark.parametrize("components", [3, 4])
def test_a_colour_or_vector_volume_is_refused_in_a_sentence(mrml, components: int) -> None:
    node = mrml.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colours")
    image = vtk.vtkImageData()
    image.SetDimensions(8, 8, 8)
    image.AllocateScalars(10, components)
    node.SetAndObserveImageData(image)
    with pytest.raises(VolumeError, match=f"colours has {components} values a voxel"):
        volumeFromNode(node)


def test_no_volume_and_an_empty_volume_are_refused_in_a_sentence(mrml, settings) -> None:
    with pytest.raises(VolumeError, match="No input volume is selected"):
        volumeFromNode(None)
    with pytest.raises(VolumeError, match="hollow has no voxels"):
        volumeFromNode(mrml.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow"))
    assert buildRequest("probe", settings(), "x").input == "x"
