"""Flipped bits, lost bytes, moved blocks: a damaged copy of a sound file is refused, or read exactly as the sound one.

Limit of what can be seen: an uncompressed .nii has no checksum. Of its header every single flipped bit is tried; the
volume may then move by less than the half voxel that sform and qform may differ by, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.errors import VolumeError
from braing3n_core.volume import Volume
from Testing.core.damaged_volumes import outcome, sound, sound_files, time_limit

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return sound_files(tmp_path_factory.mktemp("good"))


FORMATS = ["f.nii", "f.nii.gz", "i.nii", "f.nrrd", "raw.nrrd"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [i / 16 for i in range(16)])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, good, name: str, share: float) -> None:
    content = good[name]
    span = len(content) // 16
    cuts = np.random.default_rng(int(share * 16)).integers(0, span, 8) + int(share * len(content))
    for cut in {int(share * len(content)), *cuts.tolist()}:
        assert outcome(tmp_path / name, content[:cut], None) != "exact"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("extra", [1, 7, 990, 70_000])
def test_a_file_with_bytes_too_many_is_refused(tmp_path: Path, good, name: str, extra: int) -> None:
    content = good[name] + np.random.default_rng(extra).bytes(extra)
    assert outcome(tmp_path / name, content, None) == "volume.trailing_data"


_SCALING = range(112, 120)
"""Slope and intercept stand once in the header: for integers another slope is another, equally valid scan."""


@pytest.mark.parametrize("name, byte", [
    (name, byte) for name in ("f.nii", "i.nii") for byte in range(352) if name == "f.nii" or byte not in _SCALING
])
def test_every_flipped_bit_of_a_plain_nifti_header_is_refused_or_harmless(tmp_path: Path, good, name, byte) -> None:
    expected = sound(tmp_path, name, good[name])
    for bit in range(8):
        data = bytearray(good[name])
        data[byte] ^= 1 << bit
        outcome(tmp_path / name, bytes(data), expected)


@pytest.mark.parametrize("seed", range(64))
def test_flipped_bits_of_a_gzip_nifti_never_change_a_voxel_or_its_place(tmp_path: Path, good, seed: int) -> None:
    expected = sound(tmp_path, "f.nii.gz", good["f.nii.gz"])
    rng = np.random.default_rng(seed)
    for _ in range(16):
        data = bytearray(good["f.nii.gz"])
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] ^= 1 << int(rng.integers(8))
        assert outcome(tmp_path / "f.nii.gz", bytes(data), expected) != "moved"


@pytest.mark.parametrize("byte", range(18))
def test_every_flipped_bit_of_gzip_header_and_trailer_is_refused_or_harmless(tmp_path: Path, good, byte) -> None:
    expected = sound(tmp_path, "f.nii.gz", good["f.nii.gz"])
    for bit in range(8):
        data = bytearray(good["f.nii.gz"])
        data[byte if byte < 10 else byte - 18] ^= 1 << bit
        result = outcome(tmp_path / "f.nii.gz", bytes(data), expected)
        if byte in range(4, 10):  # time, effort and system of the packer
            assert result == "exact"
        if byte >= 10:  # CRC-32 and length
            assert result == "volume.checksum"


def _geometry_bytes(content: bytes) -> set[int]:
    """Where the text of directions and origin lies: another digit is another, equally valid place."""
    found: set[int] = set()
    for field in (b"space directions:", b"space origin:"):
        start = content.index(field) + len(field)
        found |= set(range(start, content.index(b"\n", start)))
    return found


@pytest.mark.parametrize("part", range(20))
@pytest.mark.parametrize("name", ["f.nrrd", "raw.nrrd"])
def test_every_flipped_bit_of_a_nrrd_header_is_refused_or_harmless(tmp_path: Path, good, name: str, part: int) -> None:
    content = good[name]
    expected, geometry = sound(tmp_path, name, content), _geometry_bytes(content)
    for position in range(part, content.index(b"\n\n") + 2, 20):
        for bit in range(8):
            data = bytearray(content)
            data[position] ^= 1 << bit
            if position not in geometry:
                assert outcome(tmp_path / name, bytes(data), expected) != "moved"
                continue
            (tmp_path / name).write_bytes(data)
            try:
                assert np.array_equal(Volume.load(tmp_path / name).array, expected.array)
            except VolumeError as error:
                assert error.hint


@pytest.mark.parametrize("seed", range(32))
def test_flipped_bits_of_gzip_nrrd_voxels_never_change_a_voxel(tmp_path: Path, good, seed: int) -> None:
    expected = sound(tmp_path, "f.nrrd", good["f.nrrd"])
    start, rng = good["f.nrrd"].index(b"\n\n") + 12, np.random.default_rng(seed)
    for position in rng.integers(start, len(good["f.nrrd"]), 16):
        data = bytearray(good["f.nrrd"])
        data[position] ^= 1 << int(rng.integers(8))
        assert outcome(tmp_path / "f.nrrd", bytes(data), expected) != "moved"


def _mutations(content: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """Damage as disks and networks do it: lost, doubled, zeroed, moved and random blocks."""
    a, b = sorted(rng.integers(0, len(content), 2).tolist())
    b = max(b, a + 1)
    yield content[:a] + content[b:]
    yield content[:b] + content[a:]
    yield content[:a] + rng.bytes(b - a) + content[b:]
    yield content[b:] + content[:b]
    yield content[:a] + content[a:b][::-1] + content[b:]
    yield content[:a] + b"\r\n" + content[a:]
    yield content.replace(b"\n", b"\r\n")
    yield content[:a] + bytes(b - a) + content[b:]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", ["f.nii.gz", "f.nrrd"])
def test_blocks_lost_doubled_zeroed_or_moved_are_refused_or_harmless(tmp_path: Path, good, name, seed) -> None:
    expected = sound(tmp_path, name, good[name])
    for content in _mutations(good[name], np.random.default_rng(seed)):
        outcome(tmp_path / name, content, expected)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd"])
def test_random_bytes_behind_a_right_beginning_are_refused(tmp_path: Path, good, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = {"a.nii": "f.nii", "a.nii.gz": "f.nii.gz", "a.nrrd": "raw.nrrd"}[name]
    for keep in (4, 10, 44, 348):
        content = good[source][:keep] + rng.bytes(int(rng.integers(1, 6000)))
        assert outcome(tmp_path / name, content, None).startswith("volume.")
