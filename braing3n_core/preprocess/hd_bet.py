"""Brain extraction by HD-BET 2 (Isensee 2019), the paper's tool, when its package and its weights are there.

Its package is installed by hand, under this project's constraints so that torch stays as it is (docs/data.md).
nnU-Net's predictor is called in this process on the weights folder, without HD-BET's own wrapper (which replaces
``sys.stdout`` and spawns workers). Tests run it on random weights in a folder of the real form; it has not been run
with the real weights, whose sha256 is therefore not known here: it is put on record, and checked where a file
``checkpoint_final.pth.sha256`` lies beside them, which matters because nnU-Net's weights are a pickle.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
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
            return False, "the package nnunetv2 is not installed (pip install -c constraints.txt hd-bet)"
        path = weights_folder() / "fold_all" / CHECKPOINT
        if not path.is_file():
            where = f"{weights_folder()} (or set {WEIGHTS_VARIABLE})"
            return False, f"no HD-BET weights in {where}; unpack there what {WEIGHTS_URL} offers"
        digest, noted = _sha256(path, path.stat().st_mtime_ns), _noted_sha256(path)
        if noted not in (None, digest):
            return False, f"{path} has sha256 {digest}, noted beside it is {noted}; fetch it again from {WEIGHTS_URL}"
        return True, f"HD-BET weights in {weights_folder()}, sha256 {digest}"

    def prepare(self) -> None:
        """Raises DependencyError when the package or the weights are missing; neither is fetched."""
        usable, why = self.available()
        if not usable:
            raise DependencyError("brain.hd-bet", f"hd-bet cannot run here: {why}.", "Use --brain auto.")

    def extract(self, volume: Volume, *, progress: Progress = silent, cancel: Cancel | None = None) -> np.ndarray:
        """Brain mask of a whole head: bool (X,Y,Z) on the volume's grid. Raises what :meth:`prepare` raises."""
        self.prepare()
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


@lru_cache(maxsize=4)
def _sha256(path: Path, changed_ns: int) -> str:
    """Of a file's bytes; changed_ns: its time of change, so that a replaced file is read again."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _noted_sha256(path: Path) -> str | None:
    """What the file ``PATH.sha256``, in the form of ``sha256sum``, says of it; None without one."""
    note = path.with_name(f"{path.name}.sha256")
    words = note.read_text(encoding="utf-8").split() if note.is_file() else []
    return words[0].lower() if words else None
