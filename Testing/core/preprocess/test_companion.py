"""Another contrast of a visit is turned and shifted onto its T1 and goes through the T1's transform."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from braing3n_core.atlas import ATLAS_AFFINE, ATLAS_SHAPE
from braing3n_core.errors import PreprocessError
from braing3n_core.preprocess import Preprocessed, preprocess
from braing3n_core.preprocess.companion import preprocess_companion
from braing3n_core.preprocess.spatial import isotropic_grid, to_grid
from braing3n_core.preprocess.template import load_template
from braing3n_core.schema import PreprocessOptions
from braing3n_core.volume import Volume
from Testing.core.preprocess.test_pipeline import TILT
from Testing.core.preprocess.test_spatial import error_mm, reoriented


def turned(degrees: tuple[float, float], shift_mm: tuple[float, float, float]) -> np.ndarray:
    """A rigid motion (4x4): about x, then about z, then a shift."""
    (sx, sz), (cx, cz) = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = about_z @ about_x, shift_mm
    return motion


T2_TO_T1 = turned((4.0, -6.0), (5.0, -3.0, 4.0))
"""The person moved between the two sequences: world of the T2 -> world of the T1."""


def in_the_scanner(volume: Volume) -> Volume:
    """The template's brain where a scanner would see it, at 2 mm."""
    coarse = Volume.from_array(volume.array[::2, ::2, ::2], ATLAS_AFFINE @ np.diag([2.0, 2, 2, 1]))
    return Volume.from_array(coarse.array, np.linalg.inv(TILT) @ coarse.affine, name="t1")


def as_t2(volume: Volume) -> Volume:
    """Fluid bright, white matter dark; nothing stays nothing."""
    top = float(volume.array.max())
    return volume.with_array(np.where(volume.array > 0, 1.15 * top - volume.array, 0.0).astype(np.float32))


@pytest.fixture(scope="module")
def t1() -> Volume:
    return in_the_scanner(load_template().volume)


@pytest.fixture(scope="module")
def centre(t1: Volume) -> Preprocessed:
    return preprocess(t1, PreprocessOptions(n4=False))


@pytest.fixture(scope="module")
def t2(t1: Volume) -> Volume:
    """On a grid of its own, stored in another order of axes, after the motion."""
    shape, affine = isotropic_grid(t1, 2.5, pad_mm=12.0)
    return reoriented(to_grid(as_t2(t1), np.linalg.inv(T2_TO_T1), shape, affine), "PSR")


@pytest.fixture(scope="module")
def done(t2: Volume, centre: Preprocessed) -> Preprocessed:
    return preprocess_companion(t2, PreprocessOptions(modality="T2", n4=False), centre)


def test_the_motion_between_the_two_sequences_is_found(done: Preprocessed, centre: Preprocessed, t2: Volume) -> None:
    through_t1 = centre.record.transform() @ T2_TO_T1
    assert error_mm(done.record.transform(), through_t1, t2).max() < 0.5
    unmoved = error_mm(centre.record.transform(), through_t1, t2)
    assert unmoved.mean() > 4, "the motion is too small to show anything"


def test_the_contrast_lies_voxel_on_voxel_with_its_t1_in_the_t1s_brain(
    done: Preprocessed, centre: Preprocessed
) -> None:
    assert done.volume.shape == ATLAS_SHAPE and np.array_equal(done.volume.affine, ATLAS_AFFINE)
    assert done.mask is centre.mask and not done.volume.array[centre.mask.array == 0].any()
    inside = ndimage.binary_erosion(centre.mask.array > 0, iterations=4)  # at its edge both fade to nothing
    assert np.corrcoef(done.volume.array[inside], centre.volume.array[inside])[0, 1] < -0.9


def test_the_record_says_whose_transform_it_is(done: Preprocessed) -> None:
    steps = {step.name: step.parameters for step in done.record.steps}
    assert steps["registration"]["transform"] == "rigid, to the T1" and steps["resampling"]["brain"] == "of the T1"
    assert done.record.modality == "T2" and done.volume.modality == "T2"


def test_a_contrast_that_is_registered_already_goes_its_own_way(done: Preprocessed, centre: Preprocessed) -> None:
    again = preprocess_companion(done.volume, PreprocessOptions(modality="T2"), centre)
    assert again.record.stage == "registered"
    assert again.record.native_to_atlas == tuple(map(tuple, np.eye(4).tolist()))


def test_a_head_and_a_stripped_t1_are_refused(centre: Preprocessed, head: tuple[Volume, np.ndarray]) -> None:
    with pytest.raises(PreprocessError, match="T1 is stripped, its T2 is a whole head"):
        preprocess_companion(head[0], PreprocessOptions(modality="T2", stage="native"), centre)
