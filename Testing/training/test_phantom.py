"""The digital phantom cohort: its truth, its pictures' physics, and the data set it writes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braing3n_core import atlas
from braing3n_core.errors import RequestError
from braing3n_core.preprocess.quality import EXPECTED, similarity
from braing3n_core.preprocess.template import load_template
from training.phantom import Anatomy, Subject, icbm_anatomy, make_population, render_session, true_volumes
from training.phantom.anatomy import mni_to_voxel
from training.phantom.bids import CohortOptions, truth_file, write_cohort
from training.phantom.subjects import Visit


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return icbm_anatomy()


@pytest.fixture(scope="module")
def people() -> list[Subject]:
    return make_population(400, 3, seed=5)


def first(people: list[Subject], disease: str) -> Subject:
    return next(s for s in people if s.disease == disease)


def aged(subject: Subject, age_years: float) -> Subject:
    """The same person at another age, at the first visit."""
    return replace(subject, visits=(Visit(0, age_years, 0.0),))


def test_a_subject_is_the_same_in_a_small_and_in_a_large_cohort(people: list[Subject]) -> None:
    assert make_population(3, 3, seed=5) == people[:3]
    assert make_population(3, 3, seed=6) != people[:3]


def test_the_baseline_does_not_depend_on_the_number_of_visits(people: list[Subject]) -> None:
    alone = make_population(20, 1, seed=5)
    assert all(replace(s, visits=s.visits[:1]) == one for s, one in zip(people, alone, strict=False))


def test_an_empty_cohort_is_refused() -> None:
    with pytest.raises(RequestError, match="empty"):
        make_population(0, 1, seed=1)


def test_the_population_keeps_its_promises_about_labels(people: list[Subject]) -> None:
    assert all(s.idh1 == "wildtype" for s in people if s.disease == "GBM")
    assert {s.idh1 for s in people if s.disease == "glioma"} == {"wildtype", "mutant"}
    assert all((s.tumour is None) == (s.idh1 is None) == (s.disease not in ("GBM", "glioma")) for s in people)
    steps = np.array([np.diff([v.age_years for v in s.visits]) for s in people])
    assert (steps > 0).all() and steps.max() <= 6.01
    assert all(20 <= s.age_years <= 90 and s.visits[-1].age_years <= 98 for s in people)
    assert 0.35 < np.mean([s.sex == "M" for s in people]) < 0.65


def test_those_ahead_of_their_age_go_on_faster(people: list[Subject]) -> None:
    healthy = [s for s in people if s.disease == "HC"]
    gaps, speeds = np.array([(s.brain_age_gap_years, s.speed) for s in healthy]).T
    assert 0.3 < np.corrcoef(gaps, speeds)[0, 1] < 0.7
    assert np.mean([s.speed for s in people if s.disease == "AD"]) > 1.7 * speeds.mean()


def test_a_rendering_is_deterministic_positive_inside_and_zero_outside(anatomy: Anatomy, people: list[Subject]) -> None:
    once = render_session(anatomy, people[0], 1, ("T1",))
    again = render_session(anatomy, people[0], 1, ("T1", "FLAIR"))
    assert once.volumes["T1"].dtype == np.float32 and once.volumes["T1"].shape == atlas.MODEL_SHAPE
    assert np.array_equal(once.volumes["T1"], again.volumes["T1"])
    brain = once.volumes["T1"] > 0
    assert (once.volumes["T1"] >= 0).all() and np.array_equal(brain, again.volumes["FLAIR"] > 0)
    assert brain.sum() / 1000 == pytest.approx(once.truth["brain_ml"])
    assert not brain[[0, -1]].any() and 1000 < once.truth["brain_ml"] < 2000


def test_tissue_fills_the_brain(anatomy: Anatomy, people: list[Subject]) -> None:
    truth = true_volumes(anatomy, first(people, "GBM"), 0)
    parts = ("gm_ml", "wm_ml", "csf_ml", "tumour_ml", "tumour_oedema_ml")
    assert sum(truth[p] for p in parts) == pytest.approx(truth["brain_ml"], rel=0.01)


def test_ventricles_grow_and_grey_matter_shrinks_with_age(anatomy: Anatomy, people: list[Subject]) -> None:
    person = first(people, "HC")
    young, middle, old = (true_volumes(anatomy, aged(person, age), 0) for age in (25, 55, 85))
    assert young["ventricles_ml"] < middle["ventricles_ml"] < old["ventricles_ml"]
    assert young["gm_ml"] > middle["gm_ml"] > old["gm_ml"]
    assert old["ventricles_ml"] > 1.6 * young["ventricles_ml"]
    assert young["brain_ml"] == old["brain_ml"], "the mask is the inside of the skull, it does not shrink"


def test_alzheimers_disease_takes_more_than_age_does(anatomy: Anatomy, people: list[Subject]) -> None:
    patient = first(people, "AD")
    mild, healthy = replace(patient, disease="MCI"), replace(patient, disease="HC")
    ad, mci, hc = (true_volumes(anatomy, s, 0) for s in (patient, mild, healthy))
    assert ad["ventricles_ml"] > mci["ventricles_ml"] > hc["ventricles_ml"]
    assert ad["hippocampus_ml"] < mci["hippocampus_ml"] < hc["hippocampus_ml"]


def test_follow_ups_age_by_the_true_speed(anatomy: Anatomy, people: list[Subject]) -> None:
    person = next(s for s in people if s.disease == "HC" and s.age_years > 60)
    gained = person.brain_age_years(2) - person.brain_age_years(0)
    assert gained == pytest.approx(person.speed * person.elapsed_years(2))
    assert true_volumes(anatomy, person, 2)["ventricles_ml"] > true_volumes(anatomy, person, 0)["ventricles_ml"]


def test_a_glioblastoma_enhances_on_t1c_only_and_its_oedema_is_bright_on_flair(
    anatomy: Anatomy, people: list[Subject]
) -> None:
    rendering = render_session(anatomy, first(people, "GBM"), 0)
    labels = rendering.tumour
    assert labels is not None and set(np.unique(labels)) == {0, 1, 2, 3}
    level = {m: {k: np.median(v[labels == k]) / np.median(v[v > 0]) for k in (1, 2, 3)}
             for m, v in rendering.volumes.items()}
    assert level["T1C"][3] > 1.3 > 1.0 > level["T1"][3]
    assert level["T1C"][3] > 1.5 * level["T1C"][1]
    assert level["FLAIR"][2] > 1.25 and level["T2"][2] > 1.25


def test_fluid_is_dark_on_t1_and_flair_and_bright_on_t2(anatomy: Anatomy, people: list[Subject]) -> None:
    person = aged(first(people, "HC"), 85)
    volumes = render_session(anatomy, person, 0).volumes
    i, j, k = np.round(mni_to_voxel(np.array([9.0, 10.0, 14.0]))).astype(int)
    near = np.s_[i - 6 : i + 7, j - 6 : j + 7, k - 6 : k + 7]
    darkest = np.argsort(volumes["T1"][near].ravel())[:60]
    relative = {m: np.median(v[near].ravel()[darkest]) / np.median(v[v > 0]) for m, v in volumes.items()}
    assert relative["T1"] < 0.6 and relative["FLAIR"] < 0.6 and relative["T2"] > 1.4


def test_preprocessing_finds_a_phantom_in_place_and_notices_one_that_is_not(
    anatomy: Anatomy, people: list[Subject]
) -> None:
    template, (least, _) = load_template(), EXPECTED["similarity"]
    for volume in render_session(anatomy, first(people, "HC"), 0, ("T1", "FLAIR")).volumes.values():
        array = atlas.to_atlas_grid(volume)
        assert similarity(array, template) > least > similarity(np.roll(array, 16, axis=1), template)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Subject]]:
    people = [s for s in make_population(40, 1, seed=2) if s.disease in ("GBM", "HC")]
    chosen = [next(s for s in people if s.disease == d) for d in ("HC", "GBM")]
    out = tmp_path_factory.mktemp("cohort")
    write_cohort(chosen, CohortOptions(out, ("T1", "T1C")))
    return out, chosen


def test_the_data_set_has_the_files_of_bids(cohort: tuple[Path, list[Subject]]) -> None:
    out, people = cohort
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "raw" and "SYNTHETIC" in description["Name"]
    with (out / "participants.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [r["participant_id"] for r in rows] == [s.name for s in people]
    assert [r["idh1"] for r in rows] == ["n/a", "wildtype"]
    for subject in people:
        folder = out / subject.name / "ses-1" / "anat"
        for suffix in ("T1w", "ce-GAD_T1w"):
            assert (folder / f"{subject.name}_ses-1_{suffix}.nii.gz").is_file()
            assert json.loads((folder / f"{subject.name}_ses-1_{suffix}.json").read_text())["SYNTHETIC"] is True
        assert (out / subject.name / f"{subject.name}_sessions.tsv").is_file()
    assert (out / "derivatives" / "truth" / "truth.tsv").read_text().count("\n") == 3


def test_written_volumes_lie_on_the_sri24_grid(cohort: tuple[Path, list[Subject]]) -> None:
    out, people = cohort
    image = nib.load(out / people[0].name / "ses-1" / "anat" / f"{people[0].name}_ses-1_T1w.nii.gz")
    assert image.shape == atlas.ATLAS_SHAPE and np.array_equal(image.affine, atlas.ATLAS_AFFINE)
    assert image.get_data_dtype() == np.int16
    truth = json.loads(truth_file(out, people[0], 0).read_text())
    assert (image.get_fdata() > 0).sum() / 1000 == pytest.approx(truth["brain_ml"], rel=0.01)


def test_a_restart_skips_what_is_finished_and_another_seed_is_refused(cohort: tuple[Path, list[Subject]]) -> None:
    out, people = cohort
    volume = out / people[0].name / "ses-1" / "anat" / f"{people[0].name}_ses-1_T1w.nii.gz"
    before = volume.stat().st_mtime_ns
    reports: list[float] = []
    write_cohort(people, CohortOptions(out, ("T1", "T1C")), lambda fraction, message: reports.append(fraction))
    assert volume.stat().st_mtime_ns == before and not reports
    with pytest.raises(RequestError, match="other seed"):
        write_cohort(make_population(1, 1, seed=3), CohortOptions(out, ("T1", "T1C")))
