"""Names, sidecars, and folders that hold all of a run's files or none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.errors import RequestError, VolumeError
from braing3n_core.outputs import ImageName, OutputFolder, extension_for, input_stem, staging, years_label
from braing3n_core.schema import Output
from braing3n_core.volume import Volume


@pytest.fixture
def volume() -> Volume:
    array = np.arange(8 * 9 * 10, dtype=np.float32).reshape(8, 9, 10)
    return Volume.from_array(array, np.eye(4), modality="T1")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sub-01_ses-2_T1w", "sub-01_ses-2"), ("sub-01_ce-GAD_T1w", "sub-01"), ("sub-01_FLAIR", "sub-01"),
        ("sub-01_space-SRI24_desc-preproc_T1w", "sub-01"), ("brain", "brain"), ("_T1w", "scan"), ("T1w", "T1w"),
    ],
)  # fmt: skip
def test_the_contrast_and_the_space_of_an_input_leave_its_name(name: str, stem: str) -> None:
    assert input_stem(name) == stem


def test_names_are_those_of_bids_derivatives() -> None:
    assert str(ImageName("sub-01", "native", "forecast", "T1w", 5.0)) == "sub-01_space-native_desc-forecast_years-5_T1w"
    assert str(ImageName("sub-01", "SRI24", "preproc", "ce-GAD_T1w")) == "sub-01_ce-GAD_space-SRI24_desc-preproc_T1w"
    assert str(ImageName("sub-01", "native", "brain", "mask")) == "sub-01_space-native_desc-brain_mask"


@pytest.mark.parametrize(("years", "label"), [(5.0, "5"), (0.5, "0p5"), (-2.0, "m2"), (10.25, "10p25")])
def test_a_horizon_is_a_label_of_letters_and_digits(years: float, label: str) -> None:
    assert years_label(years) == label


def test_the_output_keeps_the_family_of_the_input_unless_told_otherwise() -> None:
    assert extension_for("auto", "a/scan.NRRD") == ".nrrd"
    assert extension_for("auto", "scan.nii") == extension_for("nifti", "scan.nrrd") == ".nii.gz"
    with pytest.raises(RequestError):
        extension_for("dicom", "scan.nii")


def test_files_appear_when_all_are_written(tmp_path: Path) -> None:
    with staging(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "out" / "a.txt").exists()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_run_leaves_an_existing_folder_as_it_was(tmp_path: Path, failure: type[BaseException]) -> None:
    (tmp_path / "old.txt").write_text("old")
    with pytest.raises(failure), staging(tmp_path) as folder:
        (folder / "old.txt").write_text("new")
        raise failure
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("old.txt", "old")]


def test_a_failed_run_leaves_no_folder_that_it_made(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staging(tmp_path / "new"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()


def test_a_failed_run_leaves_what_another_run_wrote_meanwhile_into_the_folder_that_it_made(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staging(tmp_path / "new") as folder:
        (folder / "mine.txt").write_text("half")
        with staging(tmp_path / "new") as other:
            (other / "theirs.txt").write_text("whole")
        raise RuntimeError
    assert [(p.name, p.read_text()) for p in (tmp_path / "new").iterdir()] == [("theirs.txt", "whole")]


def test_a_run_whose_files_cannot_all_be_moved_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(OSError), staging(tmp_path / "new") as folder:
        (tmp_path / "new" / "b.txt" / "in the way").mkdir(parents=True)
        for name in ("a.txt", "b.txt"):
            (folder / name).write_text(name)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["b.txt"]


def test_an_image_lies_beside_a_sidecar_that_says_what_it_is(tmp_path: Path, volume: Volume) -> None:
    folder = OutputFolder(tmp_path, tmp_path / "final", "sub-01", "T1C", facts={"Seed": 7})
    folder.image(volume, Output("forecast", "", "native", True, 5.0), "forecast", "Five years later.", Units="x")
    folder.finish()
    name = "sub-01_ce-GAD_space-native_desc-forecast_years-5_T1w"
    assert np.array_equal(Volume.load(tmp_path / f"{name}.nii.gz").array, volume.array)
    sidecar = json.loads((tmp_path / f"{name}.json").read_text())
    assert sidecar["Description"].startswith("Five years later. SYNTHETIC")
    assert (sidecar["Seed"], sidecar["HorizonYears"], sidecar["Units"]) == (7, 5.0, "x")
    assert folder.outputs == [Output("forecast", str(tmp_path / "final" / f"{name}.nii.gz"), "native", True, 5.0)]


def test_what_is_measured_is_not_called_synthetic(tmp_path: Path, volume: Volume) -> None:
    folder = OutputFolder(tmp_path, tmp_path, "sub-01", "T1")
    folder.image(volume, Output("preprocessed", "", "SRI24"), "preproc", "The input.")
    folder.finish()
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert sidecar["Synthetic"] is False and "SYNTHETIC" not in sidecar["Description"]


def test_an_image_that_cannot_be_written_fails_the_run(tmp_path: Path, volume: Volume) -> None:
    folder = OutputFolder(tmp_path / "missing" / "deep", tmp_path, "sub-01", "T1")
    (tmp_path / "missing").mkdir()
    folder.folder.mkdir()
    folder.image(volume, Output("mask", "", "native"), "brain", "A mask with grey values does not fit its type.")
    with pytest.raises(VolumeError):
        folder.finish()
