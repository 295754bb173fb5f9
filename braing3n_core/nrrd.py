"""NRRD with attached data, raw or gzip: a small strict grammar, judged before a voxel is read.

Only what one 3D scan needs is read; every other field is refused rather than ignored. The text header has no checksum:
a changed digit of the geometry cannot be seen; voxels are protected by gzip's CRC where that encoding is used.
"""

from __future__ import annotations

import re
from typing import BinaryIO

import numpy as np

from . import grid
from .byte_stream import GZIP_MAGIC, open_source, read_voxels
from .errors import VolumeError
from .voxels import Decoded

MAX_HEADER_BYTES = 1 << 20
_TYPES: dict[str, tuple[str, ...]] = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("unsigned char", "uchar", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("unsigned short", "ushort", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("unsigned int", "uint", "uint32", "uint32_t"),
    "i8": ("long long", "longlong", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("unsigned long long", "ulonglong", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPE_OF = {name: kind for kind, names in _TYPES.items() for name in names}
_WRITTEN_TYPE = {"u1": "unsigned char", "i2": "short", "f4": "float"}
_TO_RAS: dict[str, tuple[float, float, float]] = {
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
}
_ENCODINGS = {"raw": False, "gzip": True, "gz": True}
_NEEDED = ("type", "dimension", "sizes", "encoding")
_READ = (*_NEEDED, "endian", "space", "spacedimension", "spacedirections", "spaceorigin", "spaceunits", "spacings",
         "kinds", "content", "datafile", "lineskip", "byteskip")
_IGNORED = ("thicknesses", "centers", "centerings", "labels", "units", "measurementframe", "sampleunits", "number",
            "min", "max", "oldmin", "oldmax")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_VECTOR = re.compile(r"\(([^()]*)\)|none")


def read_nrrd(handle: BinaryIO) -> Decoded:
    """Read one 3D volume with its place in the world. Raises :class:`VolumeError`."""
    fields, offset = _parse(handle.read(MAX_HEADER_BYTES))
    _refuse_detached(fields)
    gzipped = _encoding(fields)
    shape = _shape(fields)
    dtype, affine = _dtype(fields), _affine(fields, shape)
    handle.seek(offset)
    if gzipped and handle.read(2) != GZIP_MAGIC:
        raise VolumeError("volume.damaged", "The voxels should be gzip, but do not begin as such.", "Export it again.")
    handle.seek(offset)
    raw = read_voxels(open_source(handle, gzipped), dtype, shape)
    return Decoded(raw, affine, 1.0, 0.0, fields.get("content", ""))


def nrrd_header(shape: tuple[int, ...], affine: np.ndarray, dtype: np.dtype, description: str) -> bytes:
    """The text before the gzip-encoded voxels. Space LPS, as ITK and Slicer write it."""
    lps = np.diag((-1.0, -1.0, 1.0, 1.0)) @ affine + 0.0
    lines = [
        "NRRD0004", f"type: {_WRITTEN_TYPE[dtype.str[1:]]}", "dimension: 3", "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in shape)}",
        f"space directions: {' '.join(_vector_text(lps[:3, axis]) for axis in range(3))}",
        "kinds: domain domain domain", "endian: little", "encoding: gzip", f"space origin: {_vector_text(lps[:3, 3])}",
    ]
    return "\n".join([*lines, *([f"content: {description}"] if description else []), "", ""]).encode()


def _parse(head: bytes) -> tuple[dict[str, str], int]:
    """Fields by name (lower case, without blanks) and the offset of the data."""
    if not re.match(rb"NRRD000[1-5]\r?\n", head):
        raise VolumeError("volume.format", f"Not a NRRD file (begins with {head[:9]!r}).", "Give a .nii or .nrrd file.")
    end = re.search(rb"\n\r?\n", head)
    if end is None:
        code = "volume.header" if len(head) == MAX_HEADER_BYTES else "volume.truncated"
        raise VolumeError(code, "The NRRD header has no end (an empty line).", "Export the scan again.")
    try:
        lines = head[: end.start()].decode("utf-8").replace("\r\n", "\n").removesuffix("\r").split("\n")
    except UnicodeDecodeError as error:
        raise _bad_header(f"it is not UTF-8 text ({error.reason} at byte {error.start})") from error
    fields: dict[str, str] = {}
    for line in lines[1:]:
        _parse_line(line, fields)
    return fields, end.end()


def _parse_line(line: str, fields: dict[str, str]) -> None:
    if line.startswith("#"):
        return
    name, colon, value = line.partition(":")
    if value.startswith("="):  # key:=value, free text
        return
    key = re.sub(r"\s", "", name).lower()
    if not colon or key not in _READ + _IGNORED:
        raise _bad_header(f"the line {line[:60]!r} is not a known field")
    if key in fields:
        raise _bad_header(f"the field {name[:60]!r} stands twice")
    fields[key] = value.strip()


def _refuse_detached(fields: dict[str, str]) -> None:
    if "datafile" in fields:
        raise VolumeError(
            "volume.detached", f"The header says that the voxels lie in another file ({fields['datafile'][:60]!r}).",
            "Save the scan as a single .nrrd with attached data.",
        )
    for skip in ("lineskip", "byteskip"):
        if fields.get(skip, "0") != "0":
            raise _bad_header(f"{skip} is not read")
    for name in _NEEDED:
        if name not in fields:
            raise _bad_header(f"the field {name!r} is missing")


def _encoding(fields: dict[str, str]) -> bool:
    encoding = fields["encoding"].lower()
    if encoding not in _ENCODINGS:
        raise VolumeError("volume.encoding", f"NRRD encoding {encoding[:30]!r} is not read.", "Save as raw or gzip.")
    return _ENCODINGS[encoding]


def _shape(fields: dict[str, str]) -> tuple[int, ...]:
    _check_kinds(fields.get("kinds", ""))
    sizes = fields["sizes"].split()
    if not all(re.fullmatch(r"[0-9]{1,9}", size) for size in [*sizes, fields["dimension"]]):
        raise _bad_header(f"dimension {fields['dimension'][:20]!r} and sizes {fields['sizes'][:60]!r} must be numbers")
    shape = tuple(int(size) for size in sizes)
    if int(fields["dimension"]) != len(shape):
        raise _bad_header(f"dimension is {fields['dimension']}, but there are {len(shape)} sizes")
    grid.check_shape(shape)
    return shape


def _check_kinds(text: str) -> None:
    for kind in text.lower().split():
        if "color" in kind:
            raise VolumeError("volume.rgb", "The voxels are colours (RGB).", "Give the grey-valued scan.")
        if kind == "complex":
            raise VolumeError("volume.complex", "The voxels are complex numbers.", "Save the magnitude image.")
        if kind not in ("domain", "space", "???", "none"):
            raise VolumeError(
                "volume.dimensions", f"An axis of kind {kind[:30]!r} is no axis of space.", "Give a single 3D scan.",
            )


def _dtype(fields: dict[str, str]) -> np.dtype:
    name = " ".join(fields["type"].lower().split())
    if name not in _TYPE_OF:
        raise VolumeError("volume.datatype", f"NRRD type {name[:30]!r} is not read.", "Save as short or float.")
    dtype = np.dtype(_TYPE_OF[name])
    if dtype.itemsize == 1:
        return dtype
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big"):
        raise _bad_header(f"endian must be little or big, got {endian[:30]!r}")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _affine(fields: dict[str, str], shape: tuple[int, ...]) -> np.ndarray:
    space = fields.get("space", "").lower()
    if space not in _TO_RAS or "spacedirections" not in fields:
        raise VolumeError(
            "volume.orientation_unknown", f"The header tells no orientation in the patient (space {space[:40]!r}).",
            "Save the scan with space, space directions and space origin.",
        )
    if "spaceorigin" not in fields or "spacedimension" in fields:
        raise _bad_header("space origin is missing, or space dimension contradicts space")
    if (units := fields.get("spaceunits")) is not None and re.findall(r'"([^"]*)"', units) != ["mm"] * 3:
        raise VolumeError("volume.units", f"The space is measured in {units[:40]}.", "Save the scan in mm.")
    affine = np.eye(4)
    affine[:3, :3] = np.array(_vectors(fields["spacedirections"], 3)).T
    affine[:3, 3] = _vectors(fields["spaceorigin"], 1)[0]
    affine[:3] *= np.array(_TO_RAS[space])[:, None]
    grid.check_affine(affine, shape)
    _check_spacings(fields, affine)
    return affine


def _check_spacings(fields: dict[str, str], affine: np.ndarray) -> None:
    if "spacings" not in fields:
        return
    spacings = [_number(word) for word in fields["spacings"].split()]
    if len(spacings) != 3 or not np.allclose(spacings, grid.spacing_mm(affine), rtol=0.01):
        raise VolumeError(
            "volume.affine_conflict", f"Spacings {spacings} contradict the space directions.",
            "Remove the wrong field.",
        )


def _vectors(text: str, count: int) -> list[list[float]]:
    found = [match.group(1) for match in _VECTOR.finditer(text)]
    if len(found) != count or None in found or _VECTOR.sub("", text).strip():
        raise VolumeError(
            "volume.affine", f"Expected {count} vector(s) such as (1,0,0), got {text[:80]!r}.", "Correct the header.",
        )
    vectors = [[_number(word.strip()) for word in vector.split(",")] for vector in found]
    if any(len(vector) != 3 for vector in vectors):
        raise _bad_header(f"vectors must have 3 numbers, got {text[:80]!r}")
    return vectors


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise _bad_header(f"{text[:30]!r} is not a number")
    return float(text)


def _vector_text(vector: np.ndarray) -> str:
    return "(" + ",".join(repr(float(v)) for v in vector) + ")"


def _bad_header(detail: str) -> VolumeError:
    return VolumeError("volume.header", f"The NRRD header is damaged: {detail}.", "Export the scan again.")
