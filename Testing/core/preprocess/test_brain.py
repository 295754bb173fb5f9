"""Every brain extraction answers the same protocol, and the choice among them is explained."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.errors import DependencyError, PreprocessError
from braing3n_core.preprocess import mindgrab_weights
from braing3n_core.preprocess.brain import AUTOMATIC, choose_extractor, extractors
from braing3n_core.preprocess.masks import dice
from braing3n_core.preprocess.template import Template, load_template
from braing3n_core.preprocess.template_brain import TemplateBrain
from braing3n_core.schema import BRAIN_BACKENDS


@pytest.fixture(autouse=True)
def no_learned_backend(monkeypatch, tmp_path):
    """A machine without network, weights and cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("BRAING3N_OFFLINE", "1")
    monkeypatch.setenv("BRAING3N_HDBET_WEIGHTS", str(tmp_path / "hdbet"))
    monkeypatch.delenv(mindgrab_weights.WEIGHTS_VARIABLE, raising=False)


@pytest.fixture
def template(atlas_brain) -> Template:
    return Template(atlas_brain, np.asarray(atlas_brain.array > 0), "made up", "0")


def test_auto_falls_back_to_the_template_and_says_why_not_the_others(template) -> None:
    extractor, why = choose_extractor("auto", "native", template)
    assert extractor.name == "template"
    assert "not hd-bet: " in why and "not mindgrab: " in why and "BRAING3N_MINDGRAB_WEIGHTS" in why


def test_auto_prefers_mindgrab_when_its_weights_are_given(template, monkeypatch, tmp_path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"x")
    monkeypatch.setenv(mindgrab_weights.WEIGHTS_VARIABLE, str(tmp_path / "w.safetensors"))
    assert choose_extractor("auto", "native", template)[0].name == "mindgrab"


def test_auto_leaves_a_stripped_scan_alone(template, brain) -> None:
    extractor, why = choose_extractor("auto", "stripped", template)
    assert extractor.name == "none" and "already" in why
    found = extractor.extract(brain)
    assert found.shape == brain.shape and not (found & (brain.array == 0)).sum() > 0.02 * found.sum()
    assert found[brain.array > 0].all()


def test_a_given_mask_is_taken_as_it_is(template, brain) -> None:
    mask = brain.with_array((brain.array > 50).astype(np.float32))
    extractor, _ = choose_extractor("auto", "native", template, mask)
    np.testing.assert_array_equal(extractor.extract(brain), mask.array > 0)


def test_a_mask_on_another_grid_is_refused(template, brain, atlas_brain) -> None:
    extractor, _ = choose_extractor("mask", "native", template, atlas_brain)
    with pytest.raises(PreprocessError) as caught:
        extractor.extract(brain)
    assert caught.value.code == "brain.mask_grid" and "Resample" in caught.value.hint


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_of_nothing_or_of_everything_is_refused(value, template, brain) -> None:
    mask = brain.with_array(np.full(brain.shape, value, dtype=np.float32))
    with pytest.raises(PreprocessError) as caught:
        choose_extractor("mask", "native", template, mask)[0].extract(brain)
    assert caught.value.code == "brain.mask_content"


@pytest.mark.parametrize(
    ("wanted", "stage", "code"),
    [
        ("hd_bet", "native", "brain.unknown"), ("mask", "native", "brain.mask_missing"),
        ("none", "native", "brain.none"),
        ("template", "stripped", "brain.twice"),
    ],
)
def test_impossible_wishes_are_refused(wanted, stage, code, template) -> None:
    with pytest.raises(PreprocessError) as caught:
        choose_extractor(wanted, stage, template)
    assert caught.value.code == code and caught.value.hint


@pytest.mark.parametrize(("name", "remedy"), [("hd-bet", "pip install|BRAING3N_"), ("mindgrab", "BRAING3N_MINDGRAB_")])
def test_a_named_backend_that_cannot_run_says_what_to_do(name, remedy, template) -> None:
    with pytest.raises(DependencyError, match=remedy) as caught:
        choose_extractor(name, "native", template)
    assert caught.value.code == f"brain.{name}"


def test_every_backend_of_the_vocabulary_exists(template) -> None:
    assert set(BRAIN_BACKENDS) == {*extractors(template), "mask", "none"}
    assert set(AUTOMATIC) == set(extractors(template))


def test_the_template_finds_the_brain_of_a_made_up_head(head) -> None:
    volume, inside = head
    assert dice(TemplateBrain(load_template()).extract(volume), inside) > 0.9
