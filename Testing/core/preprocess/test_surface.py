"""The growing surface: its mesh is closed and round, and it stops at the edge of a made-up brain."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.preprocess.masks import dice
from braing3n_core.preprocess.surface import Greys, Surface, SurfaceOptions, grow, icosphere, voxelise
from braing3n_core.volume import Volume
from Testing.core.preprocess.synthetic_heads import ellipsoid

AFFINE = np.array([[2.0, 0, 0, -60], [0, 2, 0, -60], [0, 0, 2, -60], [0, 0, 0, 1]])
SHAPE = (60, 60, 60)


def test_the_sphere_is_closed_and_its_normals_point_outwards() -> None:
    vertices, faces = icosphere(2)
    assert len(vertices) == 162 and len(faces) == 320 and len(vertices) - len(faces) * 3 / 2 + len(faces) == 2
    surface = Surface(vertices, faces)
    assert np.einsum("vi,vi->v", surface.normals(), vertices).min() > 0.99


def test_a_sphere_fills_as_many_voxels_as_its_volume_says() -> None:
    vertices, faces = icosphere(3)
    mask = voxelise(Surface(40 * vertices, faces), SHAPE, AFFINE)
    assert mask.sum() * 8 == pytest.approx(4 / 3 * np.pi * 40**3, rel=0.02)


def test_a_surface_that_leaves_the_grid_is_cut_there() -> None:
    vertices, faces = icosphere(3)
    mask = voxelise(Surface(40 * vertices + [45, 0, 0], faces), SHAPE, AFFINE)
    assert 0 < mask.sum() * 8 < 4 / 3 * np.pi * 40**3


def test_the_surface_grows_to_the_edge_and_stops() -> None:
    inside = ellipsoid(SHAPE, AFFINE, np.zeros(3), (38, 46, 36))
    volume = Volume.from_array(np.where(inside, 100.0, 5.0), AFFINE)
    vertices, faces = icosphere(3)
    surface = Surface(20 * vertices, faces)
    grow(surface, volume, Greys(5.0, 15.0, 100.0), SurfaceOptions())
    assert dice(voxelise(surface, SHAPE, AFFINE), inside) > 0.93
