"""The affine is ANTs's affine, in every orientation, and the way back ends exactly where it began."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from braing3n_core.preprocess.spatial import (
    RAS_LPS,
    isotropic_grid,
    itk_affine_to_ras,
    register_affine,
    resample,
    to_grid,
)
from braing3n_core.progress import Cancel, Cancelled
from braing3n_core.volume import Volume

KNOWN = np.array([[0.96, 0.08, -0.02, 7.0], [-0.06, 1.05, 0.09, -11.0], [0.03, -0.07, 0.93, 9.0], [0, 0, 0, 1]])
"""A head that is tilted, shifted and of another size: native -> atlas, RAS."""


def reoriented(volume: Volume, axes: str) -> Volume:
    """The same volume stored with its axes in another order."""
    image = nibabel.Nifti1Image(volume.array, volume.affine)
    start = nibabel.orientations.io_orientation(volume.affine)
    end = nibabel.orientations.axcodes2ornt(tuple(axes))
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(start, end))
    return Volume.from_array(np.asarray(turned.dataobj), turned.affine, modality=volume.modality)


def error_mm(found: np.ndarray, true: np.ndarray, volume: Volume) -> np.ndarray:
    """Distance of the two images of every brain point."""
    points = np.argwhere(volume.array > 0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    difference = found - true
    return np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3], axis=1)


@pytest.fixture(scope="module")
def fixed(brain: Volume) -> Volume:
    """The brain where KNOWN puts it, on a grid of its own."""
    shape, affine = isotropic_grid(brain, 3.0, pad_mm=15.0)
    return to_grid(brain, KNOWN, shape, affine)


@pytest.fixture(scope="module")
def found(brain: Volume, fixed: Volume) -> np.ndarray:
    return register_affine(brain, fixed)


def test_registration_recovers_a_known_affine_within_half_a_millimetre(
    brain: Volume, found: np.ndarray
) -> None:
    assert error_mm(found, KNOWN, brain).mean() < 0.5


def test_registration_gives_the_same_bits_twice(brain: Volume, fixed: Volume, found: np.ndarray) -> None:
    np.testing.assert_array_equal(register_affine(brain, fixed), found)


def test_registration_does_not_depend_on_how_the_scan_is_stored(brain: Volume, fixed: Volume) -> None:
    assert error_mm(register_affine(reoriented(brain, "PSR"), fixed), KNOWN, brain).mean() < 0.5


def test_a_cancelled_registration_stops(brain: Volume, fixed: Volume) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(Cancelled):
        register_affine(brain, fixed, cancel=cancel)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR", "LIA"])
def test_our_resampling_is_that_of_ants(axes: str, brain: Volume, fixed: Volume, tmp_path) -> None:
    ants = pytest.importorskip("ants")
    moving, linear = reoriented(brain, axes), np.linalg.inv(RAS_LPS @ KNOWN @ RAS_LPS)
    transform = ants.create_ants_transform(
        transform_type="AffineTransform", dimension=3, matrix=linear[:3, :3], translation=linear[:3, 3],
        center=(0, 0, 0),
    )
    ants.write_transform(transform, str(tmp_path / "known.mat"))
    images = [_ants_image(ants, v) for v in (fixed, moving)]
    theirs = ants.apply_transforms(images[0], images[1], [str(tmp_path / "known.mat")], interpolator="linear").numpy()
    ours = to_grid(moving, KNOWN, fixed.shape, fixed.affine).array
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    parameters = np.concatenate([linear[:3, :3].ravel(), linear[:3, 3]])
    np.testing.assert_allclose(itk_affine_to_ras(parameters, np.zeros(3)), np.linalg.inv(KNOWN), atol=1e-9)


def _ants_image(ants, volume: Volume):
    lps = RAS_LPS @ volume.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return ants.from_numpy(
        volume.array, origin=lps[:3, 3].tolist(), spacing=spacing.tolist(), direction=lps[:3, :3] / spacing
    )


def test_an_itk_affine_turns_about_its_centre() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    centre = np.array([10.0, 20, 30])
    ras = itk_affine_to_ras(np.concatenate([turn.ravel(), [0, 0, 0]]), centre)
    fixed_point = RAS_LPS @ np.array([*centre, 1])
    np.testing.assert_allclose(ras @ fixed_point, fixed_point, atol=1e-12)


def test_the_identity_keeps_every_voxel(brain: Volume) -> None:
    same = resample(brain.array, brain.affine, brain.shape, brain.affine)
    np.testing.assert_array_equal(same, brain.array)


def test_reordered_axes_are_the_same_image(brain: Volume) -> None:
    turned = reoriented(brain, "PSR")
    back = resample(turned.array, turned.affine, brain.shape, brain.affine)
    np.testing.assert_allclose(back, brain.array, atol=1e-3)


def test_thin_slices_do_not_alias_on_a_coarse_grid() -> None:
    stripes = np.zeros((40, 40, 40), dtype=np.float32)
    stripes[::2] = 100.0
    affine = np.diag([2.05, 2.05, 2.05, 1])
    coarse = resample(stripes, np.diag([0.5, 0.5, 0.5, 1]), (8, 8, 8), affine)[1:-1, 1:-1, 1:-1]
    assert coarse.std() < 5 and abs(coarse.mean() - 50) < 5


def test_the_isotropic_grid_covers_an_oblique_volume(brain: Volume) -> None:
    oblique = Volume.from_array(brain.array, KNOWN @ brain.affine)
    shape, affine = isotropic_grid(oblique, 2.0)
    corners = np.array([[i, j, k, 1] for i in (0, brain.shape[0] - 1) for j in (0, brain.shape[1] - 1)
                        for k in (0, brain.shape[2] - 1)])
    inside = corners @ (np.linalg.inv(affine) @ oblique.affine).T
    assert (inside[:, :3] > -1).all() and (inside[:, :3] < np.array(shape)).all()
