"""The two grids of the atlas."""

from __future__ import annotations

import numpy as np

from braing3n_core.atlas import (
    ATLAS_AFFINE,
    ATLAS_SHAPE,
    MNI_TO_ATLAS,
    MODEL_SHAPE,
    model_affine,
    to_atlas_grid,
    to_model_grid,
)


def test_the_atlas_grid_is_sri24() -> None:
    assert ATLAS_SHAPE == (240, 240, 155)
    assert ATLAS_AFFINE.tolist() == [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_the_model_grid_is_the_centre_of_the_atlas_grid() -> None:
    atlas = np.random.default_rng(1).normal(size=ATLAS_SHAPE)
    model = to_model_grid(atlas, fill=-7.0)
    assert model.shape == MODEL_SHAPE
    assert np.array_equal(model[:, :, 3:158], atlas[40:200, 24:216])
    assert (model[:, :, :3] == -7).all() and (model[:, :, 158:] == -7).all()


def test_the_atlas_grid_gets_back_every_voxel_of_the_model_grid_that_it_holds() -> None:
    atlas = np.zeros(ATLAS_SHAPE, np.float32)
    atlas[40:200, 24:216] = np.random.default_rng(2).normal(size=(160, 192, 155))
    assert np.array_equal(to_atlas_grid(to_model_grid(atlas)), atlas)


def test_a_voxel_keeps_its_place_in_the_world_on_both_grids() -> None:
    atlas = np.zeros(ATLAS_SHAPE)
    atlas[101, 57, 30] = 1
    model_index = np.argwhere(to_model_grid(atlas))[0]
    in_model = model_affine() @ [*model_index, 1]
    assert np.array_equal(in_model, ATLAS_AFFINE @ [101, 57, 30, 1])


def test_the_arrays_of_the_module_cannot_be_changed() -> None:
    assert not ATLAS_AFFINE.flags.writeable
    assert not MNI_TO_ATLAS.flags.writeable


def test_the_anterior_commissure_of_mni_lands_in_the_middle_of_the_atlas_brain() -> None:
    x, y, z, _ = MNI_TO_ATLAS @ [0, 0, 0, 1]
    voxel = np.linalg.inv(ATLAS_AFFINE) @ [x, y, z, 1]
    assert np.abs(voxel[:3] - (119, 113, 72)).max() < 3
