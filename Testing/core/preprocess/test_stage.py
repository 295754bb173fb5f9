"""The stage is suggested with evidence, and a declaration that the voxels contradict is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from braing3n_core.dicom import DICOM_DESCRIPTION
from braing3n_core.errors import PreprocessError
from braing3n_core.preprocess.stage import decide_stage, examine, skull_stage
from braing3n_core.volume import Volume


@pytest.fixture(scope="module")
def template_mask(atlas_brain: Volume) -> np.ndarray:
    return np.asarray(atlas_brain.array > 0)


def test_a_whole_head_is_suggested_native(head, template_mask) -> None:
    assert examine(head[0], template_mask).suggested == "native"


def test_a_brain_on_zeros_is_suggested_stripped(brain, template_mask) -> None:
    assert examine(brain, template_mask).suggested == "stripped"


def test_a_brain_in_its_place_on_the_grid_is_suggested_registered(atlas_brain, template_mask) -> None:
    evidence = examine(atlas_brain, template_mask)
    assert evidence.suggested == "registered" and evidence.atlas_dice == pytest.approx(1.0)


def test_a_brain_on_the_grid_but_out_of_place_is_only_stripped(atlas_brain, template_mask) -> None:
    moved = atlas_brain.with_array(np.roll(atlas_brain.array, 45, axis=1))
    assert examine(moved, template_mask).suggested == "stripped"


def test_a_head_whose_air_is_zero_is_still_native(head, template_mask) -> None:
    volume, _ = head
    assert examine(volume.with_array(np.where(volume.array < 25, 0, volume.array)), template_mask).suggested == "native"


def test_ragged_edges_and_holes_do_not_hide_a_stripped_brain(brain, template_mask) -> None:
    array = brain.array.copy()
    array[::7, ::5, ::3] = 0
    assert examine(brain.with_array(array), template_mask).suggested == "stripped"


@pytest.mark.parametrize(
    ("which", "declared", "hint"),
    [
        ("head", "stripped", "--stage native"), ("head", "registered", "--stage native"),
        ("brain", "native", "--stage stripped"), ("brain", "registered", "--stage stripped"),
        ("atlas_brain", "native", "--stage registered"), ("brain", "defaced", "--stage stripped"),
        ("head", "dicom", "--stage native"), ("head", "defaced", "--stage native"),
    ],
)
def test_a_contradicted_declaration_is_refused_with_the_way_out(which, declared, hint, request, template_mask) -> None:
    volume = request.getfixturevalue(which)
    evidence = examine(volume[0] if which == "head" else volume, template_mask)
    with pytest.raises(PreprocessError) as caught:
        decide_stage(declared, evidence)
    assert caught.value.code == f"stage.{declared}"
    assert hint in caught.value.hint and "ml" in caught.value.message


def test_registered_is_refused_when_the_brain_is_out_of_place(atlas_brain, template_mask) -> None:
    evidence = examine(atlas_brain.with_array(np.roll(atlas_brain.array, 45, axis=1)), template_mask)
    with pytest.raises(PreprocessError, match="not where the atlas"):
        decide_stage("registered", evidence)


def test_an_unknown_stage_names_the_nearest(brain, template_mask) -> None:
    with pytest.raises(PreprocessError, match="'stripped'"):
        decide_stage("striped", examine(brain, template_mask))


def test_a_true_declaration_passes(brain, template_mask) -> None:
    assert decide_stage("stripped", examine(brain, template_mask)) == "stripped"


def faceless(head: tuple[Volume, np.ndarray]) -> Volume:
    """The made-up head with everything low and in front set to 0."""
    array = head[0].array.copy()
    array[:, 85:, :60] = 0
    return head[0].with_array(array)


def test_a_head_without_its_face_is_suggested_defaced(head, template_mask) -> None:
    evidence = examine(faceless(head), template_mask)
    assert evidence.suggested == "defaced" and "before the forehead" in evidence.sentence()
    assert decide_stage("defaced", evidence) == "defaced" and decide_stage("native", evidence) == "native"


def test_a_slab_too_thin_for_a_profile_is_judged_by_the_rest_of_the_evidence(head, template_mask) -> None:
    volume, _ = head
    slab = Volume.from_array(volume.array[:, :, 90:99], volume.affine)
    evidence = examine(slab, template_mask)
    assert evidence.face_mm is None and evidence.suggested == "native"


def test_a_head_that_ends_above_the_nose_is_not_called_defaced(head, template_mask) -> None:
    volume = faceless(head)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [0, 0, 62]
    cut = Volume.from_array(volume.array[:, :, 62:], affine)
    evidence = examine(cut, template_mask)
    assert evidence.face_mm is None and evidence.suggested == "native"


def test_a_series_may_be_declared_dicom_and_is_a_head(head, template_mask) -> None:
    evidence = examine(head[0].with_array(head[0].array, DICOM_DESCRIPTION), template_mask)
    assert evidence.from_dicom and decide_stage("dicom", evidence) == "dicom"
    assert skull_stage("dicom", evidence) == "native"


def test_what_is_bias_corrected_has_its_skull_or_not_by_its_voxels(head, brain, template_mask) -> None:
    for volume, skull in ((head[0], "native"), (brain, "stripped")):
        evidence = examine(volume, template_mask)
        assert skull_stage(decide_stage("bias-corrected", evidence), evidence) == skull


@pytest.mark.parametrize(("which", "said", "refused"), [
    ("head", True, True), ("brain", False, True), ("head", False, False), ("brain", True, False), ("head", None, False),
])
def test_a_sidecar_that_contradicts_the_voxels_must_be_settled_by_a_person(
    which: str, said: bool | None, refused: bool, request, template_mask
) -> None:
    volume = request.getfixturevalue(which)
    volume = volume[0] if which == "head" else volume
    evidence = examine(volume, template_mask, {"SkullStripped": said} if said is not None else {"Manufacturer": "x"})
    if not refused:
        assert decide_stage("auto", evidence) == evidence.suggested
        return
    with pytest.raises(PreprocessError) as caught:
        decide_stage("auto", evidence)
    assert caught.value.code == "stage.sidecar" and f"--stage {evidence.suggested}" in caught.value.hint
    assert decide_stage(evidence.suggested, evidence) == evidence.suggested


def test_the_evidence_can_be_written_down(head, template_mask) -> None:
    evidence = examine(head[0], template_mask)
    assert evidence.to_dict() == dataclasses.asdict(evidence) and evidence.face_mm is not None
