"""The stage is suggested with evidence, and a declaration that the voxels contradict is refused."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.errors import PreprocessError
from braing3n_core.preprocess.stage import decide_stage, examine
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
        ("atlas_brain", "native", "--stage registered"),
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
