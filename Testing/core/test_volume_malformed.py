"""Damaged and hostile NIfTI files, names and gzip streams: each is refused with a typed error that names the
file; never a crash, never a hang, never a wrong voxel.
"""

from __future__ import annotations

import gzip
import os
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.errors import VolumeError
from braing3n_core.volume import Volume
from Testing.core.damaged_volumes import outcome, patched, sound_files, time_limit

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return sound_files(tmp_path_factory.mktemp("good"))


_NAN, _INF = float("nan"), float("inf")
_PIXDIM = (1, 1.5, 2, 2.5, 0, 0, 0, 0)
NIFTI_FIELDS: list[tuple[str, str, dict]] = [
    ("header size 0", "volume.format", {"sizeof_hdr": 0}),
    ("header size -1", "volume.format", {"sizeof_hdr": -1}),
    ("NIfTI-2", "volume.nifti2", {"sizeof_hdr": 540}),
    ("pair of header and image", "volume.detached", {"magic": b"ni1\0"}),
    ("ANALYZE without magic", "volume.format", {"magic": bytes(4)}),
    ("magic without its end", "volume.format", {"magic": b"n+1 "}),
    ("magic of NIfTI-2", "volume.format", {"magic": b"n+2\0"}),
    ("no axis", "volume.header", {"dim": (0, 9, 10, 11, 1, 1, 1, 1)}),
    ("eight axes", "volume.header", {"dim": (8, 9, 10, 11, 1, 1, 1, 1)}),
    ("negative number of axes", "volume.header", {"dim": (-3, 9, 10, 11, 1, 1, 1, 1)}),
    ("two axes", "volume.dimensions", {"dim": (2, 90, 11, 1, 1, 1, 1, 1)}),
    ("a real time series", "volume.dimensions", {"dim": (4, 9, 10, 11, 3, 1, 1, 1)}),
    ("a vector image", "volume.dimensions", {"dim": (5, 9, 10, 11, 1, 3, 1, 1)}),
    ("zero voxels", "volume.dimensions", {"dim": (3, 9, 0, 11, 1, 1, 1, 1)}),
    ("negative size", "volume.dimensions", {"dim": (3, 9, -10, 11, 1, 1, 1, 1)}),
    ("single slice", "volume.dimensions", {"dim": (3, 90, 11, 1, 1, 1, 1, 1)}),
    ("seven voxels thin", "volume.dimensions", {"dim": (3, 7, 10, 11, 1, 1, 1, 1)}),
    ("too long an axis", "volume.too_large", {"dim": (3, 1025, 10, 11, 1, 1, 1, 1)}),
    ("too many voxels", "volume.too_large", {"dim": (3, 1024, 1024, 1024, 1, 1, 1, 1)}),
    ("largest sizes", "volume.dimensions", {"dim": (7, *[32767] * 7)}),
    ("one slice more than data", "volume.truncated", {"dim": (3, 9, 10, 12, 1, 1, 1, 1)}),
    ("one slice less than data", "volume.trailing_data", {"dim": (3, 9, 10, 10, 1, 1, 1, 1)}),
    ("a gigabyte promised", "volume.truncated", {"dim": (3, 600, 600, 600, 1, 1, 1, 1)}),
    ("RGB", "volume.rgb", {"datatype": 128, "bitpix": 24}),
    ("RGBA", "volume.rgb", {"datatype": 2304, "bitpix": 32}),
    ("complex64", "volume.complex", {"datatype": 32, "bitpix": 64}),
    ("complex128", "volume.complex", {"datatype": 1792, "bitpix": 128}),
    ("complex256", "volume.complex", {"datatype": 2048, "bitpix": 256}),
    ("one bit per voxel", "volume.datatype", {"datatype": 1, "bitpix": 1}),
    ("float128", "volume.datatype", {"datatype": 1536, "bitpix": 128}),
    ("data type 0", "volume.datatype", {"datatype": 0}),
    ("data type unheard of", "volume.datatype", {"datatype": 17}),
    ("negative data type", "volume.datatype", {"datatype": -16}),
    ("bits that contradict the type", "volume.header", {"bitpix": 16}),
    ("type that contradicts the bits", "volume.header", {"datatype": 64}),
    ("double where float is", "volume.truncated", {"datatype": 64, "bitpix": 64}),
    ("short where float is", "volume.trailing_data", {"datatype": 4, "bitpix": 16}),
    ("zero spacing", "volume.spacing", {"pixdim": (1, 0, 2, 2.5, 0, 0, 0, 0)}),
    ("negative spacing", "volume.spacing", {"pixdim": (1, 1.5, -2, 2.5, 0, 0, 0, 0)}),
    ("NaN spacing", "volume.spacing", {"pixdim": (1, 1.5, 2, _NAN, 0, 0, 0, 0)}),
    ("infinite spacing", "volume.spacing", {"pixdim": (1, _INF, 2, 2.5, 0, 0, 0, 0)}),
    ("spacing of a microscope", "volume.spacing", {"pixdim": (1, 0.001, 2, 2.5, 0, 0, 0, 0)}),
    ("spacing of a landscape", "volume.spacing", {"pixdim": (1, 1.5, 2, 26, 0, 0, 0, 0)}),
    ("spacing that contradicts the sform", "volume.affine_conflict",
     {"pixdim": (1, 1.5, 2.1, 2.5, 0, 0, 0, 0), "qcode": 0}),
    ("spacings in another order", "volume.affine_conflict", {"pixdim": (1, 2.5, 2, 1.5, 0, 0, 0, 0)}),
    ("mirrored qform", "volume.affine_conflict", {"pixdim": (-1, *_PIXDIM[1:])}),
    ("mirrored sform", "volume.affine_conflict", {"srow_x": (-1.5, 0, 0, 40.5)}),
    ("sform moved by 2 mm", "volume.affine_conflict", {"qoffset": (-38.5, 12.25, 7.125)}),
    ("qform turned by a quarter", "volume.affine_conflict", {"quatern": (0, 0, 0.7071)}),
    ("quaternion longer than one", "volume.affine", {"quatern": (1, 1, 0)}),
    ("quaternion NaN", "volume.affine", {"quatern": (_NAN, 0, 0)}),
    ("quaternion infinite", "volume.affine", {"quatern": (0, _INF, 0), "scode": 0}),
    ("offset NaN", "volume.affine", {"qoffset": (0, 0, _NAN)}),
    ("sform NaN", "volume.affine", {"srow_x": (_NAN, 0, 0, 0)}),
    ("sform infinite", "volume.affine", {"srow_z": (0, 0, 2.5, _INF)}),
    ("sform zero", "volume.spacing", {"srow_x": (0,) * 4, "srow_y": (0,) * 4, "srow_z": (0,) * 4}),
    ("sform of huge numbers", "volume.spacing", {"srow_x": (3e38, 3e38, 3e38, 0)}),
    ("sform without a third axis", "volume.spacing", {"srow_z": (0, 0, 0, 7.125), "qcode": 0}),
    ("sform of two parallel axes", "volume.affine", {
        "srow_x": (1.5, 2, 0, 0), "srow_y": (0, 0, 0, 0), "srow_z": (0, 0, 2.5, 0), "qcode": 0}),
    ("ten kilometres away", "volume.affine", {"srow_x": (1.5, 0, 0, 1e7), "qcode": 0}),
    ("no orientation at all", "volume.orientation_unknown", {"qcode": 0, "scode": 0}),
    ("unknown qform code", "volume.header", {"qcode": 99}),
    ("negative sform code", "volume.header", {"scode": -1}),
    ("metres", "volume.units", {"units": 1}),
    ("micrometres", "volume.units", {"units": 3}),
    ("offset inside the header", "volume.header", {"vox_offset": 100}),
    ("offset zero", "volume.header", {"vox_offset": 0}),
    ("offset negative", "volume.header", {"vox_offset": -352}),
    ("offset with a fraction", "volume.header", {"vox_offset": 352.5}),
    ("offset NaN in the header", "volume.header", {"vox_offset": _NAN}),
    ("offset infinite", "volume.header", {"vox_offset": _INF}),
    ("offset of a terabyte", "volume.header", {"vox_offset": 1e12}),
    ("offset into the voxels", "volume.truncated", {"vox_offset": 368}),
    ("offset beyond the end", "volume.truncated", {"vox_offset": 1e6}),
    ("slope NaN", "volume.scaling", {"slope": _NAN}),
    ("slope infinite", "volume.scaling", {"slope": _INF}),
    ("slope negative", "volume.scaling", {"slope": -1}),
    ("intercept NaN", "volume.scaling", {"inter": _NAN}),
    ("intercept infinite", "volume.scaling", {"inter": -_INF}),
    ("scaled floats", "volume.scaling", {"slope": 2}),
]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("code, fields", [pytest.param(c, f, id=n) for n, c, f in NIFTI_FIELDS])
def test_a_nifti_header_that_is_wrong_is_refused(tmp_path: Path, good, code: str, fields: dict, suffix: str) -> None:
    content = patched(good["f.nii"], **fields)
    content = gzip.compress(content, 1) if suffix == ".nii.gz" else content
    assert outcome(tmp_path / f"case{suffix}", content, None) == code


@pytest.mark.parametrize("name, slope, inter", [
    ("NaN", _NAN, 0), ("infinite", _INF, 0), ("negative", -2, 0), ("tiny", 1e-30, 0), ("huge", 1e30, 0),
    ("intercept NaN", 2, _NAN), ("intercept huge", 2, 1e30),
])
def test_an_absurd_scaling_of_integers_is_refused(tmp_path: Path, good, name: str, slope: float, inter: float) -> None:
    assert outcome(tmp_path / "case.nii", patched(good["i.nii"], slope=slope, inter=inter), None) == "volume.scaling"


def _with_voxel(content: bytes, value: float) -> bytes:
    data = bytearray(content)
    struct.pack_into("<f", data, 352 + 4 * 500, value)
    return bytes(data)


@pytest.mark.parametrize("value", [_NAN, _INF, -_INF])
def test_one_voxel_that_is_not_finite_is_refused_and_named(tmp_path: Path, good, value: float) -> None:
    (tmp_path / "case.nii").write_bytes(_with_voxel(good["f.nii"], value))
    with pytest.raises(VolumeError, match=r"1 of 990 voxels .* first at \[5, 5, 5\]") as caught:
        Volume.load(tmp_path / "case.nii")
    assert caught.value.code == "volume.not_finite"


@pytest.mark.parametrize("dtype, datatype, value, code", [
    ("<f8", 64, 1e300, "volume.range"), ("<f8", 64, _NAN, "volume.not_finite"), ("<u8", 1280, 2**63, "volume.range"),
])
def test_voxels_beyond_float32_are_refused(tmp_path: Path, good, dtype: str, datatype: int, value, code: str) -> None:
    raw = np.ones(990, dtype=dtype)
    raw[3] = value
    content = patched(good["f.nii"], datatype=datatype, bitpix=64)[:352] + raw.tobytes()
    assert outcome(tmp_path / "case.nii", content, None) == code


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_a_constant_image_is_refused(tmp_path: Path, good, value: float) -> None:
    content = good["f.nii"][:352] + np.full(990, value, "<f4").tobytes()
    assert outcome(tmp_path / "case.nii", content, None) == "volume.constant"


@pytest.mark.parametrize("name, code", [
    ("scan.nhdr", "volume.detached"), ("scan.mhd", "volume.detached"), ("scan.hdr", "volume.detached"),
    ("scan.img", "volume.detached"), ("scan.img.gz", "volume.detached"), ("scan.mha", "volume.format"),
    ("scan.mgz", "volume.format"), ("scan.dcm", "volume.format"), ("scan.png", "volume.format"),
    ("scan", "volume.format"), ("scan.nii.bz2", "volume.format"), ("scan.gz", "volume.format"),
    ("nii", "volume.format"), ("scan.nii.zip", "volume.format"),
])
def test_another_format_is_refused_by_its_name(tmp_path: Path, good, name: str, code: str) -> None:
    assert outcome(tmp_path / name, good["f.nii"], None) == code


@pytest.mark.parametrize("name, content, code", [
    ("gzip.nii", "f.nii.gz", "volume.extension"), ("plain.nii.gz", "f.nii", "volume.extension"),
    ("nrrd.nii", "f.nrrd", "volume.extension"), ("nrrd.nii.gz", "f.nrrd", "volume.extension"),
    ("nifti.nrrd", "f.nii", "volume.extension"), ("gzip.nrrd", "f.nii.gz", "volume.extension"),
])
def test_content_that_contradicts_the_name_is_refused(tmp_path: Path, good, name: str, content: str, code: str) -> None:
    assert outcome(tmp_path / name, good[content], None) == code


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd"])
@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\x1f\x8b", b"NRRD", b"\0" * 348, b"\xff" * 5000, b"<html>404</html>" * 40]
)
def test_no_content_or_other_content_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    assert outcome(tmp_path / name, content, None).startswith("volume.")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd"])
def test_folders_missing_files_loops_and_pipes_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).mkdir()
    (tmp_path / f"loop_{name}").symlink_to(tmp_path / f"loop_{name}")
    os.mkfifo(tmp_path / f"pipe_{name}")
    cases = {
        f"folder/{name}": "dicom.none", f"missing_{name}": "volume.not_found", f"x\0{name}": "volume.not_found",
        f"loop_{name}": "volume.unreadable", f"pipe_{name}": "volume.not_a_file", "x" * 300 + name: "volume.unreadable",
    }
    for case, code in cases.items():
        with pytest.raises(VolumeError) as caught:
            Volume.load(tmp_path / case)
        assert caught.value.code == code, case


def _repeat_member(content: bytes, count: int) -> bytes:
    return gzip.compress(content) + gzip.compress(b"") * count


GZIP_FILES: list[tuple[str, str, Callable[[bytes], bytes]]] = [
    ("wrong CRC", "volume.checksum", lambda nii: _trailer(nii, crc=1)),
    ("wrong length", "volume.checksum", lambda nii: _trailer(nii, length=1)),
    ("no trailer", "volume.truncated", lambda nii: gzip.compress(nii)[:-8]),
    ("half a trailer", "volume.truncated", lambda nii: gzip.compress(nii)[:-4]),
    ("garbage behind", "volume.trailing_data", lambda nii: gzip.compress(nii) + b"garbage"),
    ("one zero behind", "volume.trailing_data", lambda nii: gzip.compress(nii) + b"\0"),
    ("half a magic behind", "volume.trailing_data", lambda nii: gzip.compress(nii) + b"\x1f"),
    ("a second volume behind", "volume.trailing_data", lambda nii: gzip.compress(nii) * 2),
    ("a broken member behind", "volume.damaged", lambda nii: gzip.compress(nii) + b"\x1f\x8b" + b"\xff" * 20),
    ("a cut member behind", "volume.truncated", lambda nii: gzip.compress(nii) + gzip.compress(b"")[:7]),
    ("wrong CRC of the second of two members", "volume.checksum",
     lambda nii: gzip.compress(nii[:900]) + _trailer(nii[900:], crc=1)),
    ("reserved flag", "volume.damaged", lambda nii: b"\x1f\x8b\x08\xe0" + gzip.compress(nii)[4:]),
    ("method unheard of", "volume.damaged", lambda nii: b"\x1f\x8b\x07" + gzip.compress(nii)[3:]),
    ("gzip in gzip", "volume.format", lambda nii: gzip.compress(gzip.compress(nii))),
    ("endless file name", "volume.truncated", lambda nii: b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 3_000_000),
    ("two hundred thousand empty members", "volume.gzip_bomb", lambda nii: _repeat_member(nii, 200_000)),
    ("cut in the voxels, well closed", "volume.truncated", lambda nii: gzip.compress(nii[:-1])),
    ("only a header, well closed", "volume.truncated", lambda nii: gzip.compress(nii[:352])),
    ("nothing, well closed", "volume.truncated", lambda nii: gzip.compress(b"")),
]


def _trailer(content: bytes, crc: int = 0, length: int = 0) -> bytes:
    data = gzip.compress(content)
    return data[:-8] + struct.pack("<II", zlib.crc32(content) ^ crc, len(content) + length)


@pytest.mark.parametrize("code, build", [pytest.param(c, b, id=n) for n, c, b in GZIP_FILES])
def test_a_gzip_stream_that_is_wrong_is_refused(tmp_path: Path, good, code: str, build) -> None:
    assert outcome(tmp_path / "case.nii.gz", build(good["f.nii"]), None) == code


def _zeros(megabytes: int) -> bytes:
    deflate = zlib.compressobj(9, wbits=31)
    return b"".join(deflate.compress(bytes(1 << 20)) for _ in range(megabytes)) + deflate.flush()


@pytest.mark.parametrize("name, bomb", [
    ("behind.nii.gz", lambda good: gzip.compress(good["f.nii"]) + _zeros(256)),
    ("behind.nrrd", lambda good: good["f.nrrd"] + _zeros(256)),
    ("extension.nii.gz", lambda good: gzip.compress(patched(good["f.nii"], vox_offset=6e7)[:352]) + _zeros(256)),
])
def test_a_gzip_bomb_is_refused_in_bounded_memory(tmp_path: Path, good, name: str, bomb) -> None:
    content = bomb(good)
    tracemalloc.start()
    code = outcome(tmp_path / name, content, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert code == "volume.gzip_bomb"
    assert peak < 16 << 20, peak


def test_a_small_file_that_promises_a_gigabyte_takes_no_memory(tmp_path: Path, good) -> None:
    content = patched(good["f.nii"], dim=(3, 1000, 1000, 250, 1, 1, 1, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert outcome(tmp_path / "case.nii.gz", gzip.compress(content), None) == "volume.truncated"
    assert outcome(tmp_path / "case.nii", content, None) == "volume.truncated"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
