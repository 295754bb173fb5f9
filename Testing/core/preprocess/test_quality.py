"""The gate passes a brain in its place and names what is wrong with one that is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from braing3n_core.atlas import ATLAS_AFFINE
from braing3n_core.preprocess.quality import EXPECTED, Outcome, measure, similarity, warnings
from braing3n_core.preprocess.template import Template, load_template


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template()


@pytest.fixture(scope="module")
def good(template: Template) -> Outcome:
    array = template.volume.array
    return Outcome(template.mask, ATLAS_AFFINE, array, template.mask, np.eye(4), template)


def test_the_template_itself_passes(good: Outcome) -> None:
    quality = measure(good)
    assert set(quality) == set(EXPECTED) and warnings(quality) == ()
    assert quality["components"] == 1 and quality["determinant"] == 1 and quality["similarity"] == pytest.approx(2.0)


def test_a_crumb_beside_the_brain_is_counted(good: Outcome) -> None:
    crumbs = good.native_mask.copy()
    crumbs[2:4, 2:4, 2:4] = True
    assert [w for w in warnings(measure(dataclasses.replace(good, native_mask=crumbs))) if "2 pieces" in w]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("brain_ml", {"native_affine": np.diag([2.0, 2, 2, 1])}), ("determinant", {"native_to_atlas": np.eye(4) * 0.5}),
        ("rotation_degrees", {"native_to_atlas": np.eye(4)[[0, 2, 1, 3]] * [[1], [1], [-1], [1]]}),
        ("stretch", {"native_to_atlas": np.diag([1.0, 1.9, 1.0, 1.0])}),
    ],
)
def test_a_number_out_of_range_is_named(name: str, change: dict, good: Outcome) -> None:
    assert [w for w in warnings(measure(dataclasses.replace(good, **change))) if w.startswith(name)]


def test_a_brain_that_was_shifted_is_less_alike_overlaps_less_and_leaves_the_model_grid(good: Outcome) -> None:
    moved = dataclasses.replace(
        good, on_atlas=np.roll(good.on_atlas, 30, axis=1), atlas_mask=np.roll(good.atlas_mask, 30, axis=1)
    )
    quality = measure(moved)
    assert quality["similarity"] < measure(good)["similarity"]
    assert {w.split()[0] for w in warnings(quality)} >= {"template_dice", "cropped_share"}


def test_unrelated_greys_have_nothing_in_common(template: Template) -> None:
    noise = np.random.default_rng(0).random(template.mask.shape)
    assert similarity(noise, template) < EXPECTED["similarity"][0]
    inverted = np.where(template.mask, template.volume.array.max() - template.volume.array, 0)
    assert similarity(inverted, template) > 1.5
