"""The code path of HD-BET, by nnU-Net's own predictor, on a checkpoint of the real format with random weights.

Needs ``pip install --no-deps hd-bet nnunetv2 ...`` (docs/data.md); what the real weights find is not tested here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.preprocess.hd_bet import WEIGHTS_VARIABLE, HDBet
from braing3n_core.volume import Volume

pytestmark = pytest.mark.slow
_RESAMPLING = {
    f"resampling_fn_{what}{end}": {"is_seg": what == "seg", "order": 1, "order_z": 0, "force_separate_z": None}
    if end else "resample_data_or_seg_to_shape"
    for what in ("data", "seg", "probabilities") for end in ("", "_kwargs")
}
ARCHITECTURE = {
    "n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1], "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
}
IMPORTED = ["conv_op", "norm_op", "dropout_op", "nonlin"]
NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
PLANS = {
    "dataset_name": "Dataset001_tiny", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
    "original_median_spacing_after_transp": [2, 2, 2], "original_median_shape_after_transp": [24, 24, 24],
    "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "experiment_planner_used": "ExperimentPlanner",
    "label_manager": "LabelManager", "foreground_intensity_properties_per_channel": {"0": {}},
    "configurations": {"3d_fullres": {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": [16, 16, 16], "median_image_size_in_voxels": [24, 24, 24], "spacing": [2.0, 2.0, 2.0],
        "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False], "batch_dice": False,
        **_RESAMPLING,
        "architecture": {"network_class_name": NETWORK, "arch_kwargs": ARCHITECTURE, "_kw_requires_import": IMPORTED},
    }},
}
DATASET = {
    "channel_names": {"0": "MRI"}, "labels": {"background": 0, "brain": 1}, "numTraining": 1, "file_ending": ".nii.gz",
}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as HD-BET's release has it, with a network of random numbers."""
    pytest.importorskip("nnunetv2", reason="Needs nnunetv2, installed with --no-deps.")
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    torch.manual_seed(0)
    network = get_network_from_plans(NETWORK, ARCHITECTURE, IMPORTED, 1, 2, deep_supervision=False)
    (tmp_path / "fold_all").mkdir()
    torch.save({
        "network_weights": network.state_dict(), "init_args": {"configuration": "3d_fullres"},
        "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": (0, 1, 2),
    }, tmp_path / "fold_all" / "checkpoint_final.pth")
    (tmp_path / "plans.json").write_text(json.dumps(PLANS))
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    return tmp_path


def head() -> Volume:
    """A smooth, lopsided blob in 2 x 2 x 3 mm voxels, upright."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 28, 20)), indexing="ij")
    array = 100 * np.exp(-2 * (x**2 + y**2 + z**2)) * (1 + 0.5 * x + 0.3 * y - 0.2 * z)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    return Volume.from_array(array.astype(np.float32), affine)


def test_nnunets_predictor_gives_a_mask_on_the_scans_own_grid(weights: Path) -> None:
    scan = head()
    assert HDBet().available()[0]
    mask = HDBet().extract(scan)
    assert mask.shape == scan.shape and mask.dtype == bool and 0 < mask.mean() < 1


def test_a_turned_scan_gets_the_same_mask_turned(weights: Path) -> None:
    scan = head()
    turned = np.ascontiguousarray(scan.array.transpose(2, 0, 1)[:, ::-1])  # (Z, -X, Y)
    affine = scan.affine[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 1] * (turned.shape[1] - 1)
    affine[:3, 1] *= -1
    mask = HDBet().extract(Volume.from_array(turned, affine))
    np.testing.assert_array_equal(mask, HDBet().extract(scan).transpose(2, 0, 1)[:, ::-1])
