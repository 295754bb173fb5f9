"""Sound files and the tools to damage them, for the tests of malformed volumes."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.errors import VolumeError
from braing3n_core.grid import shift_mm
from braing3n_core.volume import Volume

SHAPE = (9, 10, 11)
VOXELS = np.random.default_rng(7).integers(-900, 900, SHAPE).astype(np.float32)
_TURN = 0.3
AFFINE = np.array([
    [1.5 * np.cos(_TURN), -2.0 * np.sin(_TURN), 0, -40.5], [1.5 * np.sin(_TURN), 2.0 * np.cos(_TURN), 0, 12.25],
    [0, 0, 2.5, 7.125], [0, 0, 0, 1],
])
TIME_LIMIT_S = 20
OFFSETS = {
    "sizeof_hdr": (0, "<i"), "dim": (40, "<8h"), "datatype": (70, "<h"), "bitpix": (72, "<h"), "pixdim": (76, "<8f"),
    "vox_offset": (108, "<f"), "slope": (112, "<f"), "inter": (116, "<f"), "units": (123, "<B"), "qcode": (252, "<h"),
    "scode": (254, "<h"), "quatern": (256, "<3f"), "qoffset": (268, "<3f"), "srow_x": (280, "<4f"),
    "srow_y": (296, "<4f"), "srow_z": (312, "<4f"), "magic": (344, "<4s"),
}


@contextmanager
def time_limit() -> Iterator[None]:
    """No case may hang. The failure is no OSError, so that no handler of the reader can swallow it."""
    def stop(*_: object) -> None:
        pytest.fail(f"hangs: longer than {TIME_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(TIME_LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def sound_files(folder: Path) -> dict[str, bytes]:
    """The bytes of sound files, by name."""
    volume = Volume.from_array(VOXELS, AFFINE)
    files = {
        name: volume.save(folder / name, dtype=dtype, description="a scan").read_bytes()
        for name, dtype in [("f.nii", "float32"), ("f.nii.gz", "float32"), ("i.nii", "int16"), ("f.nrrd", "float32")]
    }
    return {**files, "raw.nrrd": nrrd()}


def nrrd(drop: str = "", add: str = "", data: bytes | None = None, **changes: str) -> bytes:
    """A raw NRRD file with fields changed, dropped or added."""
    fields = {
        "type": "short", "dimension": "3", "space": "right-anterior-superior", "sizes": "9 10 11",
        "space directions": "(1,0,0) (0,2,0) (0,0,3)", "kinds": "domain domain domain", "endian": "little",
        "encoding": "raw", "space origin": "(1,2,3)",
    }
    fields.update({name.replace("_", " "): value for name, value in changes.items()})
    text = "".join(f"{name}: {value}\n" for name, value in fields.items() if name != drop)
    raw = VOXELS.astype("<i2").tobytes(order="F") if data is None else data
    return f"NRRD0004\n{text}{add}\n".encode("latin-1") + raw


def patched(content: bytes, **fields: object) -> bytes:
    """A NIfTI file with header fields overwritten."""
    data = bytearray(content)
    for name, value in fields.items():
        offset, form = OFFSETS[name]
        struct.pack_into(form, data, offset, *(value if isinstance(value, tuple) else (value,)))
    return bytes(data)


def outcome(path: Path, content: bytes, expected: Volume | None) -> str:
    """Load a written case: the error's code, or ``exact`` / ``moved`` when it was accepted with the right voxels."""
    path.write_bytes(content)
    try:
        volume = Volume.load(path)
    except VolumeError as error:
        assert error.code.startswith("volume.")
        assert path.name in error.message
        assert error.hint
        return error.code
    assert expected is not None, "accepted"
    assert volume.shape == expected.shape
    assert np.array_equal(volume.array, expected.array), "accepted with wrong voxels"
    if np.array_equal(volume.affine, expected.affine):
        return "exact"
    shift = shift_mm(volume.affine, expected.affine, SHAPE)
    assert shift <= 0.5 * min(expected.spacing_mm), "accepted in a wrong place"
    return "moved"


def sound(folder: Path, name: str, content: bytes) -> Volume:
    (folder / f"sound_{name}").write_bytes(content)
    return Volume.load(folder / f"sound_{name}")
