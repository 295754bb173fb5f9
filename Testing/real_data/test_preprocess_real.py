"""Preprocessing on real heads: awkward orientations, thick slices, a stripped cohort, and HD-BET's own masks."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.atlas import ATLAS_AFFINE, ATLAS_SHAPE
from braing3n_core.errors import PreprocessError
from braing3n_core.preprocess import preprocess, to_native
from braing3n_core.preprocess.intensity import n4_bias_field
from braing3n_core.preprocess.masks import dice, head_mask
from braing3n_core.preprocess.mindgrab import MindGrab
from braing3n_core.preprocess.stage import examine
from braing3n_core.preprocess.template import load_template
from braing3n_core.preprocess.template_brain import TemplateBrain
from braing3n_core.schema import PreprocessOptions
from braing3n_core.volume import Volume

TUMOUR = "tumour_TCGA-FG-6692"
MODALITIES = {"T1w": "t1", "ce-gadolinium_T1w": "t1c", "T2w": "t2", "FLAIR": "fla"}
MINDGRAB_DICE, TEMPLATE_DICE = 0.94, 0.90


@pytest.fixture
def weights(test_data: Path) -> Path:
    path = test_data / "mindgrab" / "mindgrab.safetensors"
    if not path.is_file():
        pytest.skip("Needs mindgrab/mindgrab.safetensors in the test data.")
    return path


def patient(test_data: Path, suffix: str) -> tuple[Volume, np.ndarray]:
    """One scan of the patient, N4-corrected, and the mask that HD-BET made."""
    volume = Volume.load(test_data / TUMOUR / f"sub-FG6692_{suffix}.nii.gz")
    truth = Volume.load(test_data / TUMOUR / f"hdbet_mask_native_{MODALITIES[suffix]}.nii.gz")
    return volume.with_array(volume.array / n4_bias_field(volume, head_mask(volume)).array), truth.array > 0.5


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("ds002748/sub-01/anat/sub-01_T1w.nii.gz", "stripped"),
        ("sri24/derived_sri24_T1_brats_LPS.nii.gz", "registered"),
        ("ms_patient01/study1_T1W.nii.gz", "defaced"),
        ("whole_head_T1/brainchop_t1_crop.nii.gz", "native"),
        ("whole_head_T1/pumi_sub-001_T1w_2mm.nii.gz", "native"),
        ("whole_head_T1/ixi_2mm/IXI012-HH-1211-T1_ds.nii.gz", "native"),
        (f"{TUMOUR}/sub-FG6692_FLAIR.nii.gz", "native"),
    ],
)
def test_the_stage_of_real_scans_is_seen(path: str, stage: str, test_data: Path) -> None:
    assert examine(Volume.load(test_data / path), load_template().mask).suggested == stage


def test_sri24_in_its_original_axis_order_is_the_same_template(test_data: Path, tmp_path: Path) -> None:
    derived = Volume.load(test_data / "sri24" / "derived_sri24_T1_brats_LPS.nii.gz")
    flipped = Volume.from_array(np.ascontiguousarray(derived.array[:, ::-1]), np.diag([-1.0, 1, 1, 1]))
    flipped.save(tmp_path / "las.nii.gz")
    np.testing.assert_array_equal(load_template(tmp_path / "las.nii.gz").volume.array, derived.array)


def test_a_real_stripped_brain_reaches_sri24_and_comes_back(test_data: Path) -> None:
    scan = Volume.load(test_data / "ds002748" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    options = PreprocessOptions(template=str(test_data / "sri24" / "derived_sri24_T1_brats_LPS.nii.gz"))
    done = preprocess(scan, options)
    assert done.volume.shape == ATLAS_SHAPE and np.array_equal(done.volume.affine, ATLAS_AFFINE)
    assert done.record.stage == "stripped" and done.record.quality["template_dice"] > 0.93
    back = to_native(done.volume, done, scan)
    assert back.shape == scan.shape and np.array_equal(back.affine, scan.affine)
    inside = done.native_mask.array > 0
    assert np.corrcoef(back.array[inside], (scan.array / done.bias.array)[inside])[0, 1] > 0.95


def test_a_real_head_declared_stripped_is_refused(test_data: Path) -> None:
    scan = Volume.load(test_data / TUMOUR / "sub-FG6692_T1w.nii.gz")
    with pytest.raises(PreprocessError, match="--stage native"):
        preprocess(scan, PreprocessOptions(stage="stripped"))


@pytest.mark.slow
def test_a_real_dicom_series_in_implicit_vr_is_a_defaced_head(test_data: Path, tmp_path: Path) -> None:
    with tarfile.open(test_data / "dicom_T1" / "dicoms.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    scan = Volume.load(tmp_path / "dicoms", modality="T1")
    assert scan.shape == (274, 384, 384) and scan.description.startswith("DICOM")
    np.testing.assert_allclose(scan.spacing_mm, (0.7, 0.667, 0.667), atol=1e-3)
    evidence = examine(scan, load_template().mask)
    assert evidence.suggested == "defaced" and evidence.from_dicom


@pytest.mark.slow
@pytest.mark.parametrize("suffix", sorted(MODALITIES))
def test_mindgrab_agrees_with_hd_bet(suffix: str, test_data: Path, weights: Path) -> None:
    volume, truth = patient(test_data, suffix)
    assert dice(MindGrab(weights=weights).extract(volume), truth) >= MINDGRAB_DICE


@pytest.mark.slow
@pytest.mark.parametrize("suffix", sorted(MODALITIES))
def test_the_template_agrees_with_hd_bet(suffix: str, test_data: Path) -> None:
    volume, truth = patient(test_data, suffix)
    assert dice(TemplateBrain(load_template()).extract(volume), truth) >= TEMPLATE_DICE


def test_a_two_millimetre_head_in_an_awkward_orientation_goes_all_the_way(
    test_data: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAING3N_MINDGRAB_WEIGHTS", str(weights))
    scan = Volume.load(test_data / "whole_head_T1" / "ixi_2mm" / "IXI012-HH-1211-T1_ds.nii.gz")
    done = preprocess(scan, PreprocessOptions(brain="mindgrab"))
    assert scan.orientation == "PSR" and done.record.stage == "native" and done.record.brain_backend == "mindgrab"
    assert 1000 < done.record.quality["brain_ml"] < 2000 and done.record.quality["template_dice"] > 0.9
    assert not done.record.warnings
