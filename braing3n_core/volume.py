"""A 3D scan with its place in the world, and its strict reading and atomic writing.

Files are NIfTI-1 (.nii, .nii.gz) or NRRD with attached data (.nrrd). A file is either read exactly or refused with a
:class:`VolumeError` whose code, message and hint say what is wrong and what to do; nothing is repaired silently.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from . import grid
from .atomic import atomic_file
from .byte_stream import GZIP_MAGIC
from .dicom import DICOM_DESCRIPTION, read_series
from .errors import VolumeError
from .nifti import DESCRIPTION_BYTES, nifti_header, read_nifti
from .nrrd import nrrd_header, read_nrrd
from .schema import MODALITIES, nearest
from .voxels import Decoded, check_finite, check_lossless, check_not_constant, stored_dtype, to_float32

EXTENSIONS: tuple[str, ...] = (".nii.gz", ".nii", ".nrrd")
_DETACHED: tuple[str, ...] = (".nhdr", ".mhd", ".hdr", ".img", ".hdr.gz", ".img.gz")
_GZIP_LEVEL = 1


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """One scan or map on a regular grid.

    array: (X,Y,Z) float32, finite, C- or Fortran-contiguous. affine: (4,4) float64, voxel indices to world RAS+ mm.
    modality: one of ``schema.MODALITIES`` or None. name: file name without folder and extension.
    description: what the file says about itself, e.g. ``SYNTHETIC counterfactual, BrainG3N``; at most 79 bytes.
    """

    array: np.ndarray
    affine: np.ndarray
    modality: str | None = None
    name: str = ""
    description: str = field(default="")

    def __post_init__(self) -> None:
        array, affine = self.array, np.array(self.affine, dtype=np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            raise VolumeError("volume.dtype", "A Volume holds a float32 array.", "Use Volume.from_array to convert.")
        grid.check_shape(array.shape)
        grid.check_affine(affine, array.shape)
        check_finite(array)
        _check_words(self.modality, self.description)
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            object.__setattr__(self, "array", np.ascontiguousarray(array))

    @classmethod
    def from_array(
        cls, array: np.ndarray, affine: np.ndarray, modality: str | None = None, name: str = "", description: str = "",
    ) -> Volume:
        """A Volume of any real array (X,Y,Z), converted to float32. Raises :class:`VolumeError`."""
        array = np.asarray(array)
        if array.dtype.kind not in "biuf":
            raise VolumeError("volume.dtype", f"Voxels must be real numbers, got {array.dtype}.", "Convert them first.")
        with np.errstate(over="ignore"):
            return cls(array.astype(np.float32, order="K", copy=False), affine, modality, name, description)

    @classmethod
    def load(cls, path: str | os.PathLike[str], modality: str | None = None, *, allow_constant: bool = False) -> Volume:
        """Read a NIfTI-1 or NRRD file, or a folder with one DICOM series, strictly.

        Raises :class:`VolumeError`, whose message names the file.

        allow_constant: accept an image of one value, as the difference map of a null edit is.
        """
        try:
            if os.path.isdir(path):
                array, affine = read_series(Path(path))
                description = DICOM_DESCRIPTION  # and nothing of its headers, which can name the patient
            else:
                decoded = _read(Path(path))
                array, affine, description = to_float32(decoded), decoded.affine, _clean(decoded.description)
            if not allow_constant:
                check_not_constant(array)
            return cls(array, affine, modality, stem(path), description)
        except VolumeError as error:
            raise VolumeError(error.code, f"{path}: {error.message}", error.hint) from error
        except OSError as error:
            raise VolumeError(
                "volume.unreadable", f"{path}: cannot be read ({error.strerror}).", "Check permissions and disk.",
            ) from error

    def save(self, path: str | os.PathLike[str], *, dtype: str = "float32", description: str | None = None) -> Path:
        """Write the volume; the file appears whole or not at all, and equal volumes give equal bytes.

        path: ends in .nii, .nii.gz or .nrrd. dtype: ``float32``, ``int16`` or ``uint8``; a lossy one is refused.
        description: overrides the volume's own. Raises :class:`VolumeError`.
        """
        target, text = Path(path), self.description if description is None else description
        extension = _extension(target)
        stored = stored_dtype(dtype)
        check_lossless(self.array, stored)
        _check_words(self.modality, text)
        make_header = nrrd_header if extension == ".nrrd" else nifti_header
        header = make_header(self.shape, self.affine, stored, text)
        try:
            with atomic_file(target) as handle:
                _write(handle, header, _slices(self.array, stored), extension)
        except OSError as error:
            raise VolumeError(
                "volume.unwritable", f"{path}: cannot be written ({error.strerror}).",
                "Check the folder, its permissions and the free space.",
            ) from error
        return target

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.array.shape
        return x, y, z

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxels along X, Y, Z."""
        return grid.spacing_mm(self.affine)

    @property
    def orientation(self) -> str:
        """Three letters such as ``RAS``: the direction of the body in which each voxel axis grows."""
        return grid.orientation(self.affine)

    @property
    def voxel_volume_ml(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def with_array(self, array: np.ndarray, description: str = "") -> Volume:
        """Another image on this grid; it keeps modality and name, not the description. Code ``volume.grid``."""
        if np.shape(array) != self.shape:
            detail = f"Got shape {np.shape(array)} for a grid of {self.shape}."
            raise VolumeError("volume.grid", detail, "Resample it to this grid first.")
        return Volume.from_array(array, self.affine, self.modality, self.name, description)

    def same_grid(self, other: Volume, tolerance_mm: float = 1e-3) -> bool:
        """Whether both have the same shape and every voxel lies at the same place, to ``tolerance_mm``."""
        return self.shape == other.shape and grid.shift_mm(self.affine, other.affine, self.shape) <= tolerance_mm

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in self.shape)
        spacing = "x".join(f"{s:.3g}" for s in self.spacing_mm)
        words = [w for w in (self.name, self.modality, f"{shape} voxels", f"{spacing} mm", self.orientation) if w]
        return f"Volume({', '.join(words)})"


def stem(path: str | os.PathLike[str]) -> str:
    """The file name without folder and without .nii, .nii.gz or .nrrd."""
    name = Path(path).name
    extension = next((e for e in EXTENSIONS if name.lower().endswith(e)), "")
    return name[: len(name) - len(extension)]


def _extension(path: Path) -> str:
    name = path.name.lower()
    extension = next((e for e in EXTENSIONS if name.endswith(e)), None)
    if extension is not None:
        return extension
    if name.endswith(_DETACHED):
        raise VolumeError(
            "volume.detached", f"{path.suffix} is a header whose voxels lie in another file, or such a file.",
            "Convert the pair to a single .nii.gz or .nrrd file.",
        )
    raise VolumeError(
        "volume.format", f"{path.suffix or 'A name without extension'} is not a known format.",
        f"Known extensions: {', '.join(EXTENSIONS)}. Convert the scan first (DICOM: give the folder of the series).",
    )


def _read(path: Path) -> Decoded:
    size = _regular_size(path)
    extension = _extension(path)
    if size == 0:
        raise VolumeError("volume.truncated", "The file is empty.", "Copy or export it again.")
    with open(path, "rb") as handle:
        _check_content(handle.read(4), extension)
        handle.seek(0)
        return read_nrrd(handle) if extension == ".nrrd" else read_nifti(handle, extension == ".nii.gz")


def _regular_size(path: Path) -> int:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
        raise VolumeError("volume.not_found", "There is no such file.", "Check the path.") from error
    if not stat.S_ISREG(status.st_mode):
        raise VolumeError("volume.not_a_file", "This is a folder or a device, not a file.", "Give the scan's file.")
    return status.st_size


def _check_content(head: bytes, extension: str) -> None:
    kind = ".nii.gz" if head.startswith(GZIP_MAGIC) else ".nrrd" if head == b"NRRD" else ".nii"
    if kind != extension:
        article = {".nii.gz": "gzip data", ".nrrd": "a NRRD file", ".nii": "neither gzip nor NRRD"}[kind]
        raise VolumeError(
            "volume.extension", f"The name ends in {extension}, but the content is {article}.",
            "Rename the file after its content, or export it again if it is damaged.",
        )


def _clean(description: str) -> str:
    text = "".join(c for c in description if c.isprintable())
    return text.encode()[:DESCRIPTION_BYTES].decode("utf-8", "ignore")


def _check_words(modality: str | None, description: str) -> None:
    if modality is not None and modality not in MODALITIES:
        raise VolumeError(
            "volume.modality", f"Unknown modality {modality!r}.",
            f"{nearest(modality, MODALITIES)}Known modalities: {', '.join(MODALITIES)}.",
        )
    if len(description.encode()) > DESCRIPTION_BYTES or not description.isprintable():
        raise VolumeError(
            "volume.description", f"A description is one line of at most {DESCRIPTION_BYTES} bytes.", "Shorten it.",
        )


def _slices(array: np.ndarray, stored: np.dtype) -> Iterator[bytes]:
    """The voxels in file order (X fastest), slice by slice, so that an interrupt is heard between them."""
    for k in range(array.shape[2]):
        yield array[:, :, k].astype(stored).tobytes(order="F")


def _write(handle: BinaryIO, header: bytes, slices: Iterator[bytes], extension: str) -> None:
    if extension == ".nii":
        handle.write(header)
        handle.writelines(slices)
        return
    deflate = zlib.compressobj(_GZIP_LEVEL, wbits=31)  # a gzip header without time and name: equal bytes
    handle.write(header if extension == ".nrrd" else deflate.compress(header))
    handle.writelines(deflate.compress(piece) for piece in slices)
    handle.write(deflate.flush())
