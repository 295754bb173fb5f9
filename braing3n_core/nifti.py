"""NIfTI-1 single files (.nii, .nii.gz): the header is judged before a voxel is read.

The format protects nothing, but it says much twice, and every repetition is checked: data type and bits per voxel,
file size and header, spacing and sform, sform and qform. What remains unseen: a changed voxel, a changed intensity
slope of integer data, or a shift of less than half a voxel in an uncompressed file. A .nii.gz is protected by its CRC.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from . import grid
from .byte_stream import open_source, read_bytes, read_voxels, skip_bytes
from .errors import VolumeError
from .voxels import Decoded

HEADER_BYTES, DATA_OFFSET = 348, 352
MAX_EXTENSION_BYTES = 1 << 26
CONFLICT_VOXELS = 0.5
SPACING_TOLERANCE = 0.01
RIGID_TOLERANCE = 1e-4
DESCRIPTION_BYTES = 79

_DATATYPES: dict[int, str] = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}
_COMPLEX, _COLOUR = (32, 1792, 2048), (128, 2304)
_FIELDS: dict[str, tuple[str, int]] = {
    "sizeof_hdr": ("i4", 0), "regular": ("S1", 38), "dim": ("(8,)i2", 40), "datatype": ("i2", 70),
    "bitpix": ("i2", 72), "pixdim": ("(8,)f4", 76), "vox_offset": ("f4", 108), "scl_slope": ("f4", 112),
    "scl_inter": ("f4", 116), "xyzt_units": ("u1", 123), "descrip": ("S80", 148), "qform_code": ("i2", 252),
    "sform_code": ("i2", 254), "quatern": ("(3,)f4", 256), "qoffset": ("(3,)f4", 268), "srow": ("(3,4)f4", 280),
    "magic": ("S4", 344),
}
_LAYOUT = np.dtype({
    "names": list(_FIELDS), "formats": [f for f, _ in _FIELDS.values()], "offsets": [o for _, o in _FIELDS.values()],
    "itemsize": HEADER_BYTES,
})


def read_nifti(handle: BinaryIO, gzipped: bool) -> Decoded:
    """Read one 3D volume, scaled as the header says. Sform before qform. Raises :class:`VolumeError`."""
    source = open_source(handle, gzipped)
    header = _parse(read_bytes(source, HEADER_BYTES))
    shape, dtype = _shape(header), _dtype(header)
    affine = _affine(header, shape)
    slope, intercept = _scaling(header, dtype)
    skip_bytes(source, _data_offset(header) - HEADER_BYTES)
    raw = read_voxels(source, dtype, shape)
    return Decoded(raw, affine, slope, intercept, header["descrip"].item().decode("ascii", "replace"))


def nifti_header(shape: tuple[int, ...], affine: np.ndarray, dtype: np.dtype, description: str) -> bytes:
    """The 352 bytes before the voxels; little endian, sform, and the qform too where it can say the same."""
    header = np.zeros((), dtype=_LAYOUT.newbyteorder("<"))
    header["sizeof_hdr"], header["regular"], header["magic"] = HEADER_BYTES, b"r", b"n+1"
    header["dim"] = (3, *shape, 1, 1, 1, 1)
    header["datatype"] = next(code for code, kind in _DATATYPES.items() if np.dtype(kind) == dtype.newbyteorder("="))
    header["bitpix"], header["vox_offset"], header["scl_slope"] = dtype.itemsize * 8, DATA_OFFSET, 1
    header["pixdim"][:4] = (1, *grid.spacing_mm(affine))
    header["xyzt_units"] = 2
    header["descrip"] = description.encode()
    header["sform_code"], header["srow"] = 1, affine[:3]
    _write_qform(header, affine, shape)
    return header.tobytes() + bytes(DATA_OFFSET - HEADER_BYTES)


def _parse(data: bytes) -> Any:
    sizes = {order: int.from_bytes(data[:4], "little" if order == "<" else "big") for order in "<>"}
    if 540 in sizes.values():
        raise VolumeError("volume.nifti2", "This is a NIfTI-2 file; NIfTI-1 is read.", "Save it as NIfTI-1.")
    known = HEADER_BYTES in sizes.values()
    if data[344:348] == b"ni1\0":
        raise VolumeError(
            "volume.detached", "The header says that the voxels lie in another file (.hdr with .img).",
            "Convert the pair to a single .nii or .nii.gz file.",
        )
    if not known or data[344:348] != b"n+1\0":
        raise VolumeError(
            "volume.format", f"Not a NIfTI-1 header (size {data[:4]!r}, magic {data[344:348]!r}).",
            "Give a NIfTI-1 or NRRD file; export the scan again if this should be one.",
        )
    layout = _LAYOUT.newbyteorder("<" if sizes["<"] == HEADER_BYTES else ">")
    return np.frombuffer(data, dtype=layout)[0]


def _shape(header: Any) -> tuple[int, ...]:
    dims = [int(n) for n in header["dim"]]
    if not 1 <= dims[0] <= 7:
        raise _bad_header(f"dim[0] must be 1 to 7, got {dims[0]}")
    shape = tuple(dims[1 : dims[0] + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if header["datatype"] in _COMPLEX:
        raise VolumeError("volume.complex", "The voxels are complex numbers.", "Save the magnitude image.")
    if header["datatype"] in _COLOUR:
        raise VolumeError("volume.rgb", "The voxels are colours (RGB).", "Give the grey-valued scan, not a rendering.")
    grid.check_shape(shape)
    return shape


def _dtype(header: Any) -> np.dtype:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code not in _DATATYPES:
        raise VolumeError(
            "volume.datatype", f"NIfTI data type {code} is not read.", "Save as 16-bit integer or 32-bit float.",
        )
    dtype = np.dtype(_DATATYPES[code]).newbyteorder(header.dtype["dim"].base.byteorder)
    if bits != dtype.itemsize * 8:
        raise _bad_header(f"data type {code} has {dtype.itemsize * 8} bits per voxel, bitpix says {bits}")
    return dtype


def _data_offset(header: Any) -> int:
    offset = float(header["vox_offset"])
    if not (DATA_OFFSET <= offset <= DATA_OFFSET + MAX_EXTENSION_BYTES) or offset != int(offset):
        raise _bad_header(f"vox_offset must be a whole number from {DATA_OFFSET}, got {offset:g}")
    return int(offset)


def _scaling(header: Any, dtype: np.dtype) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or (slope == 1 and intercept == 0):  # 0 means "not scaled", whatever the intercept says
        return 1.0, 0.0
    if dtype.kind == "f" or not (1e-10 <= slope <= 1e10 and abs(intercept) <= 1e10):
        kind = "floating-point" if dtype.kind == "f" else "integer"
        raise VolumeError(
            "volume.scaling", f"Slope {slope:g} and intercept {intercept:g} are no scaling of {kind} voxels.",
            "Floats need none, integers a positive one: save the scan again without scaling.",
        )
    return slope, intercept


def _affine(header: Any, shape: tuple[int, ...]) -> np.ndarray:
    spacing = tuple(float(s) for s in header["pixdim"][1:4])
    grid.check_spacing(spacing)
    if int(header["xyzt_units"]) & 7 in (1, 3):
        raise VolumeError("volume.units", "The header counts in metres or micrometres.", "Save the scan in mm.")
    with np.errstate(invalid="ignore"):  # a signalling NaN warns when it is widened; check_affine refuses it
        sform, qform = _sform(header), _qform(header)
    for affine in (sform, qform):
        if affine is not None:
            grid.check_affine(affine, shape)
    if sform is not None:
        _check_agreement(sform, qform, spacing, shape)
        return sform
    if qform is not None:
        return qform
    raise VolumeError(
        "volume.orientation_unknown", "The header tells no orientation (sform_code and qform_code are 0); "
        "left and right could be swapped.", "Convert the scan again from DICOM, or set the sform where you know it.",
    )


def _check_agreement(sform: np.ndarray, qform: np.ndarray | None, spacing: tuple[float, ...],
                     shape: tuple[int, ...]) -> None:
    own = grid.spacing_mm(sform)
    if not np.allclose(own, spacing, rtol=SPACING_TOLERANCE, atol=0):
        first, second = (" x ".join(f"{s:.4g}" for s in v) for v in (own, spacing))
        detail = f"sform spacing {first} mm, pixdim {second} mm"
    elif qform is not None and (shift := grid.shift_mm(sform, qform, shape)) > CONFLICT_VOXELS * min(own):
        detail = f"sform and qform place a corner voxel {shift:.3g} mm apart"
    else:
        return
    raise VolumeError(
        "volume.affine_conflict", f"The header contradicts itself: {detail}.",
        "Decide which is right, and write it to both (or set the code of the wrong one to 0).",
    )


def _code(header: Any, name: str) -> int:
    code = int(header[name])
    if not 0 <= code <= 5:
        raise _bad_header(f"{name} must be 0 to 5, got {code}")
    return code


def _sform(header: Any) -> np.ndarray | None:
    if _code(header, "sform_code") == 0:
        return None
    return np.vstack([header["srow"].astype(np.float64), (0, 0, 0, 1)])


def _qform(header: Any) -> np.ndarray | None:
    return None if _code(header, "qform_code") == 0 else _qform_affine(header)


def _qform_affine(header: Any) -> np.ndarray:
    bcd = header["quatern"].astype(np.float64)
    square = float(bcd @ bcd)
    if not square <= 1 + 1e-5:
        raise VolumeError(
            "volume.affine", f"The qform's quaternion {bcd.tolist()} is no rotation.",
            "Set the qform again, or its code to 0.",
        )
    affine = np.eye(4)
    affine[:3, :3] = rotation_of(bcd / np.sqrt(max(square, 1.0))) * header["pixdim"][1:4].astype(np.float64)
    affine[:3, 2] *= -1.0 if header["pixdim"][0] < 0 else 1.0
    affine[:3, 3] = header["qoffset"]
    return affine


def rotation_of(bcd: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of the unit quaternion whose vector part is given and whose real part is >= 0."""
    b, c, d = bcd
    a = np.sqrt(max(1.0 - b * b - c * c - d * d, 0.0))
    return np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """Vector part (3,) of a rotation's unit quaternion with real part >= 0: the eigenvector of Bar-Itzhack's matrix."""
    r = rotation
    matrix = np.array([
        [r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
        [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
        [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
        [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
    ])
    vector = np.linalg.eigh(matrix)[1][:, -1]
    return vector[:3] * (-1.0 if vector[3] < 0 else 1.0)


def _write_qform(header: Any, affine: np.ndarray, shape: tuple[int, ...]) -> None:
    """Fill the qform; where it cannot say what the sform says (shear), its code becomes 0."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.linalg.det(axes) < 0:
        header["pixdim"][0] = -1
        axes[:, 2] *= -1
    header["quatern"], header["qoffset"], header["qform_code"] = quaternion_of(axes), affine[:3, 3], 1
    rigid = np.allclose(axes.T @ axes, np.eye(3), atol=RIGID_TOLERANCE)
    tolerance = CONFLICT_VOXELS / 2 * min(grid.spacing_mm(affine))
    if not (rigid and grid.shift_mm(_qform_affine(header), affine, shape) < tolerance):
        header["qform_code"], header["quatern"], header["qoffset"], header["pixdim"][0] = 0, 0, 0, 1


def _bad_header(detail: str) -> VolumeError:
    return VolumeError("volume.header", f"The NIfTI header is damaged: {detail}.", "Export the scan again.")
