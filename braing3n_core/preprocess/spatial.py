"""Moving voxels between grids, and finding the affine that carries a brain onto the atlas.

World space is RAS+ mm. A transform is a 4x4 matrix named ``from_to_to``: ``native_to_atlas @ [x, y, z, 1]`` takes a
point of the scanner's world to the atlas's world. ITK and ANTs speak LPS and map points the other way; only
:func:`itk_affine_to_ras` and :func:`register_affine` know that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DependencyError, PreprocessError
from ..progress import Cancel
from ..volume import Volume

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns RAS+ coordinates into LPS+ and back."""
REGISTRATION_SPACING_MM = 2.0
_ANTIALIAS_FROM = 1.5
_SECONDS_LIMIT = 900.0


def resample(
    array: np.ndarray,
    affine: np.ndarray,
    target_shape: tuple[int, int, int],
    target_affine: np.ndarray,
    *,
    order: int = 1,
    fill: float = 0.0,
) -> np.ndarray:
    """Sample an array (X,Y,Z) on another grid of the same world, once; float32.

    order 1 is trilinear, 0 nearest. Points outside the array get ``fill``. Where the target's voxels are more than
    1.5 source voxels wide, order 1 smooths the source to that width first, so that nothing aliases.
    """
    from scipy import ndimage

    target_to_source = np.linalg.inv(affine) @ target_affine
    source = np.asarray(array, dtype=np.float32)
    if source.shape == tuple(target_shape) and np.array_equal(target_to_source, np.eye(4)):
        return source.copy()  # a scan that is on the atlas already: the same voxels, half a second earlier
    if order == 1:
        source = _antialias(source, target_to_source)
    return ndimage.affine_transform(
        source, target_to_source[:3, :3], target_to_source[:3, 3],
        output_shape=tuple(target_shape), output=np.float32, order=order, mode="constant", cval=fill, prefilter=False,
    )


def _antialias(source: np.ndarray, target_to_source: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    width = np.linalg.norm(target_to_source[:3, :3], axis=1)  # of one target voxel, in source voxels, per source axis
    sigma = np.where(width > _ANTIALIAS_FROM, np.sqrt(np.maximum(width**2 - 1.0, 0.0)) / 2.355, 0.0)
    if not sigma.any():
        return source
    return ndimage.gaussian_filter(source, sigma, mode="nearest", truncate=3.0)


def to_grid(volume: Volume, native_to_target: np.ndarray, shape: tuple[int, int, int], affine: np.ndarray,
            *, order: int = 1, fill: float = 0.0) -> Volume:
    """The volume carried by ``native_to_target`` (RAS world to RAS world) onto the grid (shape, affine)."""
    moved = native_to_target @ volume.affine
    array = resample(volume.array, moved, shape, affine, order=order, fill=fill)
    return Volume.from_array(array, np.array(affine, dtype=float), modality=volume.modality, name=volume.name)


def isotropic_grid(volume: Volume, spacing_mm: float, pad_mm: float = 0.0) -> tuple[tuple[int, int, int], np.ndarray]:
    """The RAS+ grid of cubic voxels that covers a volume's box in the world: shape and affine."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in volume.shape], indexing="ij")).reshape(3, -1)
    world = volume.affine[:3, :3] @ corners + volume.affine[:3, 3:]
    low, high = world.min(axis=1) - pad_mm, world.max(axis=1) + pad_mm
    shape = np.maximum(np.ceil((high - low) / spacing_mm - 1e-6).astype(int), 1)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (low + high) / 2 - (shape - 1) / 2 * spacing_mm
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def resample_isotropic(volume: Volume, spacing_mm: float, *, order: int = 1) -> Volume:
    """The volume on the covering RAS+ grid of cubic voxels."""
    shape, affine = isotropic_grid(volume, spacing_mm)
    array = resample(volume.array, volume.affine, shape, affine, order=order)
    return Volume.from_array(array, affine, modality=volume.modality, name=volume.name)


def itk_affine_to_ras(parameters: np.ndarray, center: np.ndarray) -> np.ndarray:
    """ITK affine (12 parameters and a centre, LPS) as a 4x4 in RAS; it maps points of the *fixed* image to the moving.

    ITK: ``y = A (x - c) + t + c`` with A row-major in the first nine parameters.
    """
    linear, translation = np.reshape(parameters[:9], (3, 3)), np.asarray(parameters[9:12])
    lps = np.eye(4)
    lps[:3, :3] = linear
    lps[:3, 3] = translation + center - linear @ center
    return RAS_LPS @ lps @ RAS_LPS


def register_affine(
    moving: Volume, fixed: Volume, *, fixed_mask: np.ndarray | None = None, initial: np.ndarray | None = None,
    rigid: bool = False, cancel: Cancel | None = None,
) -> np.ndarray:
    """Affine moving -> fixed (4x4, RAS world to RAS world), by ANTs with mutual information on a 2 mm pair.

    rigid: only turn and shift, for two scans of one head.

    fixed_mask: where to measure, in fixed's grid. initial: a first guess, moving -> fixed; None makes one from the
    centres of what is brighter than zero and the blurred brains (``prealign.py``). The same input gives the same bits:
    ANTs runs in a child process on one thread with a fixed seed (its Python package ignores ``random_seed``), which
    also lets a cancelled run stop at once.

    Raises DependencyError without antspyx, PreprocessError when the registration fails.
    """
    small_fixed = resample_isotropic(fixed, REGISTRATION_SPACING_MM)
    guess = _first_guess(moving, fixed) if initial is None else np.asarray(initial, dtype=float)
    placed = Volume.from_array(moving.array, guess @ moving.affine, modality=moving.modality, name=moving.name)
    small_moving = resample_isotropic(placed, REGISTRATION_SPACING_MM)
    arrays = {"fixed": small_fixed.array, "moving": small_moving.array}
    if fixed_mask is not None:
        arrays["fixed_mask"] = resample(
            fixed_mask.astype(np.float32), fixed.affine, small_fixed.shape, small_fixed.affine, order=0
        )
    job = {
        "fixed": _itk_geometry(small_fixed.affine), "moving": _itk_geometry(small_moving.affine),
        "options": {"type_of_transform": "Rigid" if rigid else "Affine"},
    }
    answer = _run_ants(job, arrays, cancel)
    fixed_to_placed = itk_affine_to_ras(np.array(answer["parameters"]), np.array(answer["center"]))
    return np.linalg.inv(fixed_to_placed) @ guess


def _first_guess(moving: Volume, fixed: Volume) -> np.ndarray:
    from .prealign import prealign

    return prealign(moving, fixed, align_centres(moving, fixed))


def align_centres(moving: Volume, fixed: Volume) -> np.ndarray:
    """The translation moving -> fixed (4x4, RAS) that puts the centre of the positive voxels on the other's."""
    guess = np.eye(4)
    guess[:3, 3] = _centre(fixed) - _centre(moving)
    return guess


def _centre(volume: Volume) -> np.ndarray:
    voxel = np.argwhere(volume.array > 0).mean(axis=0)
    return volume.affine[:3, :3] @ voxel + volume.affine[:3, 3]


def _itk_geometry(affine: np.ndarray) -> dict[str, Any]:
    """Origin, spacing and direction in ITK's LPS."""
    lps = RAS_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return {
        "origin": lps[:3, 3].tolist(), "spacing": spacing.tolist(), "direction": (lps[:3, :3] / spacing).tolist(),
    }


def _run_ants(job: dict[str, Any], arrays: dict[str, np.ndarray], cancel: Cancel | None) -> dict[str, Any]:
    """The answer of ``ants_child.py`` to a job and its arrays."""
    with tempfile.TemporaryDirectory(prefix="braing3n-") as name:
        folder = Path(name)
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _wait(_start_child(folder), folder, cancel)
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        return answer


def _start_child(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "ANTS_RANDOM_SEED": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    log = (folder / "child.log").open("wb")
    with log:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ants_child.py")), str(folder)],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )


def _wait(child: subprocess.Popen[bytes], folder: Path, cancel: Cancel | None) -> None:
    deadline = time.monotonic() + _SECONDS_LIMIT
    try:
        while child.poll() is None:
            if cancel is not None:
                cancel.check()
            if time.monotonic() > deadline:
                raise PreprocessError(
                    "registration.timeout", f"ANTs did not finish in {_SECONDS_LIMIT:.0f} s.",
                    "Check the machine's load, and that the scan shows one whole brain.",
                )
            time.sleep(0.05)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode == 0:
        return
    log = (folder / "child.log").read_text(encoding="utf-8", errors="replace").strip()
    last = log.splitlines()[-1] if log else "no message"
    if "No module named" in last:
        raise DependencyError("dependency.ants", f"Registration needs antspyx: {last}.", "pip install antspyx")
    raise PreprocessError(
        "registration.failed", f"ANTs ended with code {child.returncode}: {last}.",
        "Check the stage and the brain mask: the scan must show one brain, roughly upright in its own world.",
    )
