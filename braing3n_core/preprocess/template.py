"""Where the atlas template comes from: the user's SRI24, or ICBM152 put on the SRI24 grid.

SRI24 (Rohlfing 2010, CC BY-SA) is not shipped. It is found by path, by the environment variable ``BRAING3N_SRI24`` or
in the cache; otherwise the ICBM152 brain that the nilearn package carries stands in its place.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..atlas import ATLAS_AFFINE, ATLAS_SHAPE, MNI_TO_ATLAS
from ..errors import DependencyError, PreprocessError
from ..volume import Volume
from .masks import filled
from .spatial import resample

TEMPLATE_VARIABLE = "BRAING3N_SRI24"


def cache_dir() -> Path:
    """Folder of downloaded files: ``$XDG_CACHE_HOME/braing3n`` or ``~/.cache/braing3n``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "braing3n"


@dataclass(frozen=True)
class Template:
    """A stripped T1 on the SRI24 grid. volume: (240,240,155); mask: bool, same grid; sha256: of the voxels."""

    volume: Volume
    mask: np.ndarray
    identifier: str
    sha256: str


def load_template(path: str | Path | None = None) -> Template:
    """The template to register to: ``path``, else ``$BRAING3N_SRI24``, else the cache, else ICBM152.

    Raises PreprocessError when a given file is not a stripped brain on the SRI24 grid.
    """
    given = path or _configured()
    return _from_file(str(given)) if given else _icbm152()


def find_template(path: str | Path | None = None) -> tuple[bool, str]:
    """Whether there is a template to load, and which or why not; opens no image."""
    given = path or _configured()
    if given is not None:
        found = Path(given).is_file()
        return found, f"SRI24 at {given}" if found else f"there is no template at {given}"
    if importlib.util.find_spec("nilearn") is None:
        return False, f"no SRI24 ({TEMPLATE_VARIABLE} is not set) and nilearn is not installed (pip install nilearn)"
    return True, "the ICBM152 brain of nilearn"


def _configured() -> str | Path | None:
    """The user's SRI24: of the environment, else in the cache, else None."""
    cached = cache_dir() / "sri24_t1.nii.gz"
    return os.environ.get(TEMPLATE_VARIABLE) or (cached if cached.is_file() else None)


@lru_cache(maxsize=2)
def _from_file(path: str) -> Template:
    volume = Volume.load(path, modality="T1")
    array = _on_atlas_grid(volume, path)
    mask = filled(array > 0)
    share = float(mask.mean())
    if not 0.08 < share < 0.30:
        raise PreprocessError(
            "template.not_stripped", f"{path}: {share:.0%} of the template is not zero; a stripped brain fills 16 %.",
            "Give the skull-stripped SRI24 T1, zero outside the brain.",
        )
    return _template(array, mask, f"SRI24:{Path(path).name}")


def _on_atlas_grid(volume: Volume, path: str) -> np.ndarray:
    """The array in the atlas's axis order; SRI24 is also distributed as LAS, which is the same grid flipped."""
    to_atlas = np.linalg.inv(ATLAS_AFFINE) @ volume.affine
    rounded = np.rint(to_atlas)
    inverse = np.linalg.inv(to_atlas)
    same_lattice = np.allclose(to_atlas, rounded, atol=1e-3) and np.allclose(np.abs(rounded[:3, :3]).sum(axis=0), 1)
    last = to_atlas @ [*(n - 1 for n in volume.shape), 1]
    corners = np.sort(np.stack([to_atlas[:3, 3], last[:3]]), axis=0)
    if not (same_lattice and np.allclose(corners, [[0, 0, 0], [n - 1 for n in ATLAS_SHAPE]], atol=1e-2)):
        raise PreprocessError(
            "template.grid", f"{path} is not on the SRI24 grid: its shape is {volume.shape}, the grid's {ATLAS_SHAPE}.",
            "Give a template resampled to the SRI24 grid (1 mm, 240x240x155).",
        )
    return resample(volume.array, np.linalg.inv(inverse), ATLAS_SHAPE, np.eye(4), order=0)


@lru_cache(maxsize=1)
def _icbm152() -> Template:
    try:
        from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
    except ImportError as error:
        raise DependencyError(
            "dependency.nilearn", f"Without SRI24 the template comes from the nilearn package: {error}.",
            f"pip install nilearn, or set {TEMPLATE_VARIABLE} to the SRI24 T1.",
        ) from error
    brain, mask = load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)
    placed = MNI_TO_ATLAS @ brain.affine
    inside = resample(np.asarray(mask.dataobj), MNI_TO_ATLAS @ mask.affine, ATLAS_SHAPE, ATLAS_AFFINE) > 0.5
    array = resample(np.asarray(brain.dataobj), placed, ATLAS_SHAPE, ATLAS_AFFINE) * inside
    return _template(array, inside, "ICBM152-2009a:nilearn")


def _template(array: np.ndarray, mask: np.ndarray, identifier: str) -> Template:
    array = np.ascontiguousarray(np.maximum(array, 0.0), dtype=np.float32)
    array.setflags(write=False)
    digest = hashlib.sha256(array.astype("<f4").tobytes()).hexdigest()
    volume = Volume.from_array(array, ATLAS_AFFINE.copy(), modality="T1", name="template")
    return Template(volume=volume, mask=mask, identifier=identifier, sha256=digest)
