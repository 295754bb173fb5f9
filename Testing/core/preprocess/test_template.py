"""The template is a stripped brain on the SRI24 grid wherever it comes from."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.atlas import ATLAS_AFFINE, ATLAS_SHAPE
from braing3n_core.errors import PreprocessError
from braing3n_core.preprocess import template as module
from braing3n_core.preprocess.template import load_template
from braing3n_core.volume import Volume


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(module.TEMPLATE_VARIABLE, raising=False)


def test_without_sri24_the_icbm_brain_stands_on_the_grid() -> None:
    template = load_template()
    assert template.identifier.startswith("ICBM152") and len(template.sha256) == 64
    assert template.volume.shape == ATLAS_SHAPE and np.array_equal(template.volume.affine, ATLAS_AFFINE)
    assert 1_300_000 < template.mask.sum() < 1_600_000
    assert not template.volume.array[~template.mask].any()


def test_the_front_of_the_icbm_brain_is_the_front_of_the_atlas() -> None:
    """The cerebellum, low and behind, is narrower than the frontal lobes are high: the back bottom is filled."""
    mask = load_template().mask
    back_is_high_j = mask[:, 150:190, 20:40].sum() > 3 * mask[:, 40:80, 20:40].sum()
    assert back_is_high_j


@pytest.mark.parametrize("flip", [False, True])
def test_a_given_file_is_read_in_either_axis_order(flip, atlas_brain, tmp_path) -> None:
    array, affine = atlas_brain.array.copy(), ATLAS_AFFINE.copy()
    array[100:110, 60:70, 80] = 77
    wanted = array
    if flip:
        array, affine = array[:, ::-1], np.diag([-1.0, 1, 1, 1])
    Volume.from_array(np.ascontiguousarray(array), affine).save(tmp_path / "sri24.nii.gz")
    np.testing.assert_array_equal(load_template(tmp_path / "sri24.nii.gz").volume.array, wanted)


def test_the_environment_and_then_the_cache_are_asked(atlas_brain, tmp_path, monkeypatch) -> None:
    (tmp_path / "braing3n").mkdir()
    atlas_brain.save(tmp_path / "braing3n" / "sri24_t1.nii.gz")
    assert load_template().identifier == "SRI24:sri24_t1.nii.gz"
    atlas_brain.save(tmp_path / "mine.nii.gz")
    monkeypatch.setenv(module.TEMPLATE_VARIABLE, str(tmp_path / "mine.nii.gz"))
    assert load_template().identifier == "SRI24:mine.nii.gz"


def test_a_template_on_another_grid_is_refused(brain, tmp_path) -> None:
    brain.save(tmp_path / "other.nii.gz")
    with pytest.raises(PreprocessError) as caught:
        load_template(tmp_path / "other.nii.gz")
    assert caught.value.code == "template.grid"


def test_a_template_with_its_skull_is_refused(tmp_path) -> None:
    array = np.ones(ATLAS_SHAPE, dtype=np.float32)
    array[0] = 2
    Volume.from_array(array, ATLAS_AFFINE).save(tmp_path / "skull.nii.gz")
    with pytest.raises(PreprocessError) as caught:
        load_template(tmp_path / "skull.nii.gz")
    assert caught.value.code == "template.not_stripped"
