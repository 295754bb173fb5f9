"""NRRD files that are detached, contradictory, of another kind or damaged are refused with a typed error."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from Testing.core.damaged_volumes import VOXELS, nrrd, outcome, sound, time_limit

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    with time_limit():
        yield


def _axes(sizes: str, kinds: str) -> bytes:
    return nrrd(dimension="4", sizes=sizes, kinds=kinds)


NRRD_FILES: list[tuple[str, str, Callable[[], bytes]]] = [
    ("NRRD of a future version", "volume.format", lambda: nrrd().replace(b"NRRD0004", b"NRRD0006")),
    ("first line runs on", "volume.format", lambda: nrrd().replace(b"NRRD0004\n", b"NRRD0004 ")),
    ("only a magic", "volume.format", lambda: b"NRRD"),
    ("no end of header", "volume.truncated", lambda: b"NRRD0004\ntype: short\n"),
    ("endless header", "volume.header", lambda: b"NRRD0004\n" + b"# comment\n" * 200_000),
    ("header that is not UTF-8", "volume.header", lambda: nrrd(content="caf\xe9")),
    ("detached: data file", "volume.detached", lambda: nrrd(add="data file: voxels.raw\n")),
    ("detached: datafile", "volume.detached", lambda: nrrd(add="datafile: voxels.raw\n")),
    ("detached: Data File", "volume.detached", lambda: nrrd(add="Data File: ./voxels.raw\n")),
    ("detached: DATAFILE", "volume.detached", lambda: nrrd(add="DATAFILE:voxels.raw\n")),
    ("detached: tab in the name", "volume.detached", lambda: nrrd(add="data\tfile: voxels.raw\n")),
    ("detached: LIST", "volume.detached", lambda: nrrd(add="data file: LIST\n")),
    ("detached: pattern", "volume.detached", lambda: nrrd(add="data file: slice%03d.raw 1 11 1\n")),
    ("detached: system file", "volume.detached", lambda: nrrd(add="data file: /etc/passwd\n")),
    ("line skip", "volume.header", lambda: nrrd(add="line skip: 1\n")),
    ("byte skip", "volume.header", lambda: nrrd(add="byte skip: -1\n")),
    ("byteskip", "volume.header", lambda: nrrd(add="byteskip: 4\n")),
    ("a field twice", "volume.header", lambda: nrrd(add="encoding: raw\n")),
    ("a field twice, spelled otherwise", "volume.header", lambda: nrrd(add="Space  Origin: (0,0,0)\n")),
    ("unknown field", "volume.header", lambda: nrrd(add="colour: blue\n")),
    ("a line without colon", "volume.header", lambda: nrrd(add="hello\n")),
    ("no type", "volume.header", lambda: nrrd(drop="type")),
    ("no sizes", "volume.header", lambda: nrrd(drop="sizes")),
    ("no dimension", "volume.header", lambda: nrrd(drop="dimension")),
    ("no encoding", "volume.header", lambda: nrrd(drop="encoding")),
    ("no byte order", "volume.header", lambda: nrrd(drop="endian")),
    ("byte order unheard of", "volume.header", lambda: nrrd(endian="middle")),
    ("no space", "volume.orientation_unknown", lambda: nrrd(drop="space")),
    ("no directions", "volume.orientation_unknown", lambda: nrrd(drop="space directions")),
    ("spacings in place of directions", "volume.orientation_unknown",
     lambda: nrrd(drop="space directions", add="spacings: 1 2 3\n")),
    ("scanner space", "volume.orientation_unknown", lambda: nrrd(space="scanner-xyz")),
    ("space with time", "volume.orientation_unknown", lambda: nrrd(space="right-anterior-superior-time")),
    ("space dimension in place of space", "volume.orientation_unknown",
     lambda: nrrd(drop="space", add="space dimension: 3\n")),
    ("space dimension beside space", "volume.header", lambda: nrrd(add="space dimension: 3\n")),
    ("no origin", "volume.header", lambda: nrrd(drop="space origin")),
    ("spacings that contradict", "volume.affine_conflict", lambda: nrrd(add="spacings: 1 2 4\n")),
    ("spacings NaN", "volume.affine_conflict", lambda: nrrd(add="spacings: nan nan nan\n")),
    ("ascii", "volume.encoding", lambda: nrrd(encoding="ascii")),
    ("text", "volume.encoding", lambda: nrrd(encoding="text")),
    ("hex", "volume.encoding", lambda: nrrd(encoding="hex")),
    ("bzip2", "volume.encoding", lambda: nrrd(encoding="bzip2")),
    ("encoding empty", "volume.encoding", lambda: nrrd(encoding="")),
    ("gzip promised, raw given", "volume.damaged", lambda: nrrd(encoding="gzip")),
    ("raw promised, gzip given", "volume.truncated",
     lambda: nrrd(data=gzip.compress(VOXELS.astype("<i2").tobytes(order="F")))),
    ("block type", "volume.datatype", lambda: nrrd(type="block", add="number: 3\n")),
    ("type unheard of", "volume.datatype", lambda: nrrd(type="quaternion")),
    ("type float16", "volume.datatype", lambda: nrrd(type="half")),
    ("wider type", "volume.truncated", lambda: nrrd(type="float")),
    ("narrower type", "volume.trailing_data", lambda: nrrd(type="uchar")),
    ("block size", "volume.header", lambda: nrrd(add="block size: 3\n")),
    ("four axes", "volume.dimensions", lambda: _axes("9 10 11 2", "domain domain domain list")),
    ("vector axis", "volume.dimensions", lambda: _axes("3 9 10 11", "vector domain domain domain")),
    ("RGB axis", "volume.rgb", lambda: _axes("3 9 10 11", "RGB-color domain domain domain")),
    ("complex axis", "volume.complex", lambda: _axes("2 9 10 11", "complex domain domain domain")),
    ("two axes", "volume.dimensions", lambda: nrrd(dimension="2", sizes="90 11", kinds="domain domain")),
    ("dimension and sizes differ", "volume.header", lambda: nrrd(dimension="4")),
    ("dimension no number", "volume.header", lambda: nrrd(dimension="three")),
    ("dimension enormous", "volume.header", lambda: nrrd(dimension="9" * 5000)),
    ("sizes no numbers", "volume.header", lambda: nrrd(sizes="9 10 x")),
    ("sizes negative", "volume.header", lambda: nrrd(sizes="9 10 -11")),
    ("sizes with fractions", "volume.header", lambda: nrrd(sizes="9 10 11.0")),
    ("sizes in other digits", "volume.header", lambda: nrrd().replace(b"9 10 11", "٩ 10 11".encode())),
    ("sizes zero", "volume.dimensions", lambda: nrrd(sizes="9 0 11")),
    ("sizes enormous", "volume.too_large", lambda: nrrd(sizes="99999 99999 99999")),
    ("one slice more", "volume.truncated", lambda: nrrd(sizes="9 10 12")),
    ("one slice less", "volume.trailing_data", lambda: nrrd(sizes="9 10 10")),
    ("zero direction", "volume.spacing", lambda: nrrd(space_directions="(1,0,0) (0,0,0) (0,0,3)")),
    ("NaN direction", "volume.affine", lambda: nrrd(space_directions="(nan,0,0) (0,2,0) (0,0,3)")),
    ("infinite origin", "volume.affine", lambda: nrrd(space_origin="(1,inf,3)")),
    ("parallel directions", "volume.affine", lambda: nrrd(space_directions="(1,0,0) (2,0,0) (0,0,3)")),
    ("direction none", "volume.affine", lambda: nrrd(space_directions="none (0,2,0) (0,0,3)")),
    ("two directions", "volume.affine", lambda: nrrd(space_directions="(1,0,0) (0,2,0)")),
    ("directions in one vector", "volume.affine", lambda: nrrd(space_directions="(1,0,0,0,2,0,0,0,3)")),
    ("short vectors", "volume.header", lambda: nrrd(space_directions="(1,0) (0,2) (0,0)")),
    ("words for numbers", "volume.header", lambda: nrrd(space_directions="(1,0,0) (0,two,0) (0,0,3)")),
    ("underscored number", "volume.header", lambda: nrrd(space_origin="(1_0,2,3)")),
    ("unclosed vector", "volume.affine", lambda: nrrd(space_origin="(1,2,3")),
    ("a million brackets", "volume.affine", lambda: nrrd(space_origin="(" * 500_000)),
    ("overflowing number", "volume.affine", lambda: nrrd(space_origin="(1e999,2,3)")),
    ("ten kilometres away", "volume.affine", lambda: nrrd(space_origin="(1e7,2,3)")),
    ("metres", "volume.units", lambda: nrrd(add='space units: "m" "m" "m"\n')),
    ("NaN voxels", "volume.not_finite", lambda: nrrd(type="float", data=np.full(990, np.nan, "<f4").tobytes())),
    ("constant", "volume.constant", lambda: nrrd(data=bytes(1980))),
    ("no voxels", "volume.truncated", lambda: nrrd(data=b"")),
    ("one byte less", "volume.truncated", lambda: nrrd()[:-1]),
    ("one byte more", "volume.trailing_data", lambda: nrrd() + b"\0"),
]


@pytest.mark.parametrize("code, build", [pytest.param(c, b, id=n) for n, c, b in NRRD_FILES])
def test_a_nrrd_file_that_is_wrong_is_refused(tmp_path: Path, code: str, build: Callable[[], bytes]) -> None:
    assert outcome(tmp_path / "case.nrrd", build(), None) == code


def test_the_sound_nrrd_of_these_cases_is_read(tmp_path: Path) -> None:
    assert np.array_equal(sound(tmp_path, "case.nrrd", nrrd()).array, VOXELS)
