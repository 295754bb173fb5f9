"""Brain extraction by HD-BET 2 (Isensee 2019), the paper's tool, when its package and its weights are there.

Its package is not a dependency: it draws another torch. nnU-Net's predictor is called in this process on the weights
folder, without HD-BET's own wrapper (which replaces ``sys.stdout`` and spawns workers). This path was written to the
documented interface of nnU-Net v2 and has not been run with the real weights.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DependencyError, PreprocessError
from ..progress import Cancel, Progress, silent
from ..volume import Volume
from .masks import filled, largest_component

WEIGHTS_VARIABLE = "BRAING3N_HDBET_WEIGHTS"
CHECKPOINT = "checkpoint_final.pth"
WEIGHTS_URL = "https://zenodo.org/records/14445620"
"""Where the package itself gets its weights; nothing is fetched from here."""


def weights_folder() -> Path:
    """The folder with ``plans.json``, ``dataset.json`` and ``fold_all/checkpoint_final.pth``."""
    return Path(os.environ.get(WEIGHTS_VARIABLE) or Path.home() / "hd-bet_params" / "release_2.0.0")


@dataclass(frozen=True)
class HDBet:
    """The backend ``hd-bet``."""

    name: str = "hd-bet"

    def available(self) -> tuple[bool, str]:
        """Whether it can run here, and why or why not."""
        if importlib.util.find_spec("nnunetv2") is None:
            return False, "the package nnunetv2 is not installed (pip install --no-deps hd-bet nnunetv2)"
        if not (weights_folder() / "fold_all" / CHECKPOINT).is_file():
            where = f"{weights_folder()} (or set {WEIGHTS_VARIABLE})"
            return False, f"no HD-BET weights in {where}; unpack there what {WEIGHTS_URL} offers"
        return True, f"HD-BET weights in {weights_folder()}"

    def prepare(self) -> None:
        """Raises DependencyError when the package or the weights are missing; neither is fetched."""
        usable, why = self.available()
        if not usable:
            raise DependencyError("brain.hd-bet", f"hd-bet cannot run here: {why}.", "Use --brain auto.")

    def extract(self, volume: Volume, *, progress: Progress = silent, cancel: Cancel | None = None) -> np.ndarray:
        """Brain mask of a whole head: bool (X,Y,Z) on the volume's grid."""
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        predictor = nnUNetPredictor(
            use_mirroring=device.type == "cuda", perform_everything_on_device=device.type == "cuda", device=device,
            allow_tqdm=False,
        )
        predictor.initialize_from_trained_model_folder(str(weights_folder()), ("all",), CHECKPOINT)
        if cancel is not None:
            cancel.check()
        progress(0.1, "HD-BET")
        axes = np.abs(volume.affine[:3, :3]).argmax(axis=1)  # nnU-Net wants (1,Z,Y,X) in a standard patient order
        flips = [axis for axis, column in enumerate(axes) if volume.affine[axis, column] < 0]
        upright = np.flip(volume.array.transpose(axes), flips)
        spacing = [float(volume.spacing_mm[column]) for column in axes]
        labels = predictor.predict_single_npy_array(
            np.ascontiguousarray(upright.T[None]), {"spacing": spacing[::-1]}, None, None, False
        )
        mask = np.flip(np.asarray(labels).T > 0, flips).transpose(np.argsort(axes))
        if not mask.any():
            raise PreprocessError("brain.empty", "HD-BET found no brain in the scan.", "Give a brain mask with --mask.")
        return filled(largest_component(np.ascontiguousarray(mask)))
