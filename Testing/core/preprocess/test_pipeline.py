"""A scan goes onto the atlas grid and comes back exactly onto its own; nothing is done twice; all is on record."""

from __future__ import annotations

import json

import numpy as np
import pytest

from braing3n_core.atlas import ATLAS_AFFINE, ATLAS_SHAPE
from braing3n_core.errors import PreprocessError
from braing3n_core.preprocess import Preprocessed, PreprocessRecord, preprocess, to_native
from braing3n_core.preprocess.template import load_template
from braing3n_core.progress import Cancel, Cancelled
from braing3n_core.schema import PreprocessOptions
from braing3n_core.volume import Volume
from Testing.core.preprocess.test_spatial import reoriented

TILT = np.array([[0.97, 0.1, 0, 12.0], [-0.1, 0.99, 0.06, -8], [0, -0.05, 1.04, 20], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def scan() -> Volume:
    """The template's brain as a scanner would see it: tilted, at 2 mm, stored PSR."""
    template = load_template().volume
    coarse = Volume.from_array(template.array[::2, ::2, ::2], ATLAS_AFFINE @ np.diag([2.0, 2, 2, 1]))
    moved = Volume.from_array(coarse.array, np.linalg.inv(TILT) @ coarse.affine, name="tilted")
    return reoriented(moved, "PSR")


@pytest.fixture(scope="module")
def messages() -> list[tuple[float, str]]:
    return []


@pytest.fixture(scope="module")
def done(scan: Volume, messages) -> Preprocessed:
    return preprocess(scan, PreprocessOptions(), progress=lambda f, m: messages.append((f, m)))


def test_the_result_is_on_the_atlas_grid_not_negative_and_zero_outside(done: Preprocessed) -> None:
    assert done.volume.shape == ATLAS_SHAPE and np.array_equal(done.volume.affine, ATLAS_AFFINE)
    assert done.volume.array.min() == 0.0 and not done.volume.array[done.mask.array == 0].any()
    assert set(np.unique(done.mask.array)) == {0.0, 1.0}


def test_the_tilt_is_undone(done: Preprocessed) -> None:
    corners = np.array([[-60.0, 60, 60, 1], [-180, 60, 60, 1], [-120, 190, 80, 1], [-120, 120, 130, 1]]).T
    scanner = np.linalg.inv(TILT) @ corners
    error = np.linalg.norm((done.record.transform() @ scanner - corners)[:3], axis=0)
    assert error.max() < 1.5 and done.record.quality["template_dice"] > 0.97


def test_the_way_back_ends_on_exactly_the_input_grid(done: Preprocessed, scan: Volume) -> None:
    back = to_native(done.volume, done, scan)
    assert back.shape == scan.shape and np.array_equal(back.affine, scan.affine)
    inside = done.native_mask.array > 0
    corrected = scan.array / (done.bias.array if done.bias is not None else 1.0)
    assert np.corrcoef(back.array[inside], corrected[inside])[0, 1] > 0.95


def test_a_record_that_went_through_json_brings_back_as_well(done: Preprocessed, scan: Volume) -> None:
    record = PreprocessRecord.from_dict(json.loads(json.dumps(done.record.to_dict())))
    assert record == done.record
    direct, read = to_native(done.mask, done, scan, order=0), to_native(done.mask, record, scan, order=0)
    np.testing.assert_array_equal(direct.array, read.array)


def test_zero_stays_zero_and_the_fill_fills(done: Preprocessed, scan: Volume) -> None:
    nothing = done.volume.with_array(np.zeros(ATLAS_SHAPE))
    assert not to_native(nothing, done, scan).array.any()
    assert set(np.unique(to_native(nothing, done, scan, order=0, fill=-1.0).array)) <= {0.0, -1.0}


def test_another_grid_is_no_way_back(done: Preprocessed, brain: Volume) -> None:
    with pytest.raises(PreprocessError) as caught:
        to_native(done.volume, done, brain)
    assert caught.value.code == "native.grid"


def test_the_bias_explains_the_input(done: Preprocessed, scan: Volume) -> None:
    assert done.bias is not None and done.bias.same_grid(scan) and done.native is scan
    assert (done.bias.array > 0).all()


def test_every_step_is_on_record(done: Preprocessed) -> None:
    names = [step.name for step in done.record.steps]
    assert names == ["stage", "N4 bias field", "brain extraction", "registration", "resampling"]
    assert done.record.stage == "stripped" and done.record.evidence["suggested"] == "stripped"
    assert done.record.brain_backend == "none" and "antspyx" in done.record.versions


def test_progress_rises_from_nothing_to_all(done: Preprocessed, messages) -> None:
    fractions = [fraction for fraction, _ in messages]
    assert fractions == sorted(fractions) and fractions[0] == 0.0 and fractions[-1] == 1.0
    assert any("N4" in message for _, message in messages)


def test_a_registered_scan_is_left_as_it_is(done: Preprocessed) -> None:
    again = preprocess(done.volume, PreprocessOptions())
    assert again.record.stage == "registered" and again.bias is None
    assert again.record.native_to_atlas == tuple(map(tuple, np.eye(4).tolist()))
    agree = again.mask.array == done.mask.array
    assert agree.mean() > 0.9999
    np.testing.assert_allclose(again.volume.array[agree], done.volume.array[agree], atol=1e-4)
    assert [s.name for s in again.record.steps if "skipped" in s.parameters] == ["N4 bias field", "registration"]


def test_a_cancelled_run_stops(scan: Volume) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(Cancelled):
        preprocess(scan, PreprocessOptions(), cancel=cancel)


def test_an_unknown_modality_names_the_nearest(scan: Volume) -> None:
    with pytest.raises(PreprocessError, match="FLAIR"):
        preprocess(scan, PreprocessOptions(modality="FLAIRE"))


def test_a_wrong_brain_is_warned_of(scan: Volume) -> None:
    half = scan.array.copy()
    half[: scan.shape[0] // 2] = 0
    found = preprocess(scan, PreprocessOptions(n4=False), mask=scan.with_array(half > 0))
    assert any("brain" in warning or "dice" in warning for warning in found.record.warnings)
