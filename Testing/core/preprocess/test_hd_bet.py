"""HD-BET's own route, nnU-Net's predictor in this process, on a weights folder of the real form with random weights.

Random weights find no brain, but the voxels that they choose are the same whoever runs them: nnU-Net reading the file
itself is the oracle. To run: pip install -c constraints.txt hd-bet
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from braing3n_core.errors import DependencyError
from braing3n_core.preprocess.hd_bet import HDBet
from braing3n_core.preprocess.masks import filled, largest_component
from braing3n_core.volume import Volume
from Testing.core.preprocess.test_spatial import reoriented

pytest.importorskip("nnunetv2", reason="HD-BET is not installed: pip install -c constraints.txt hd-bet")
SPACING_MM = 2.0
STAGES = 3
STATISTICS = ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": STAGES, "features_per_stage": [8, 16, 32], "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * STAGES, "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2] * STAGES, "n_conv_per_stage_decoder": [2] * (STAGES - 1), "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
RESAMPLING = {
    f"resampling_fn_{what}{end}": value
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1))
    for end, value in (
        ("", "resample_data_or_seg_to_shape"),
        ("_kwargs", {"is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None}),
    )
}


def plans() -> dict[str, object]:
    """What nnU-Net 2 writes beside its weights, for patches small enough for a test."""
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": [32, 32, 32], "median_image_size_in_voxels": [40.0, 48.0, 44.0], "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False], "batch_dice": False,
        "architecture": ARCHITECTURE, **RESAMPLING,
    }
    return {
        "dataset_name": "Dataset001_Random", "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [SPACING_MM] * 3,
        "original_median_shape_after_transp": [40, 48, 44], "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": dict.fromkeys(STATISTICS, 1.0)},
        "configurations": {"3d_fullres": configuration},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder as HD-BET's release unpacks to: plans.json, dataset.json, fold_all/checkpoint_final.pth."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    out = tmp_path_factory.mktemp("hd-bet")
    labels = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "brain": 1}, "file_ending": ".nii.gz"}
    (out / "dataset.json").write_text(json.dumps({**labels, "numTraining": 1}))
    (out / "plans.json").write_text(json.dumps(plans()))
    torch.manual_seed(2)
    network = get_network_from_plans(
        ARCHITECTURE["network_class_name"], ARCHITECTURE["arch_kwargs"], ARCHITECTURE["_kw_requires_import"], 1, 2,
        deep_supervision=False,
    )
    (out / "fold_all").mkdir()
    torch.save({
        "network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres", "fold": "all"}, "inference_allowed_mirroring_axes": (0, 1, 2),
    }, out / "fold_all" / "checkpoint_final.pth")  # fmt: skip
    return out


@pytest.fixture(autouse=True)
def weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAING3N_HDBET_WEIGHTS", str(folder))


@pytest.fixture(scope="module")
def scan() -> Volume:
    """Soft shapes on a grid whose axes have different lengths and spacings, so that no mix-up of them stays hidden."""
    chance = np.random.default_rng(4)
    array = ndimage.gaussian_filter(chance.normal(size=(44, 38, 26)), 3.0)
    affine = np.diag([1.6, 2.1, 3.0, 1.0])
    affine[:3, 3] = (-31, -44, -25)
    return Volume.from_array((1000 * (array - array.min())).astype(np.float32), affine, modality="T1")


@pytest.fixture(scope="module")
def found(folder: Path, scan: Volume) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAING3N_HDBET_WEIGHTS", str(folder))
        return HDBet().extract(scan)


def test_the_mask_is_that_of_nnu_net_reading_the_file_itself(
    found: np.ndarray, folder: Path, scan: Volume, tmp_path: Path
) -> None:
    import torch
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    scan.save(tmp_path / "scan_0000.nii.gz", dtype="float32")
    image, properties = SimpleITKIO().read_images([str(tmp_path / "scan_0000.nii.gz")])
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), ("all",))
    labels = predictor.predict_single_npy_array(image, properties, None, None, False).T
    assert 0.05 < labels.mean() < 0.95
    np.testing.assert_array_equal(found, filled(largest_component(labels > 0)))


@pytest.mark.parametrize("axes", ["PSR", "LIA"])
def test_the_mask_does_not_depend_on_how_the_scan_is_stored(found: np.ndarray, scan: Volume, axes: str) -> None:
    turned = reoriented(scan, axes)
    mask = HDBet().extract(turned)
    assert mask.shape == turned.shape and mask.dtype == bool
    np.testing.assert_array_equal(reoriented(turned.with_array(mask), "RAS").array > 0, found)


def test_the_record_names_the_weights_by_their_sha256(folder: Path) -> None:
    usable, why = HDBet().available()
    digest = hashlib.sha256((folder / "fold_all" / "checkpoint_final.pth").read_bytes()).hexdigest()
    assert usable and str(folder) in why and digest in why


def test_weights_that_are_not_those_that_were_noted_are_refused(folder: Path, scan: Volume) -> None:
    note = folder / "fold_all" / "checkpoint_final.pth.sha256"
    note.write_text(f"{'0' * 64}  checkpoint_final.pth\n")
    try:
        assert not HDBet().available()[0]
        with pytest.raises(DependencyError, match="sha256"):
            HDBet().extract(scan)
    finally:
        note.unlink()
    HDBet().prepare()
