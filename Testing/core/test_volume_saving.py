"""Saving a Volume: whole or not at all, equal bytes for equal volumes, no silent loss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braing3n_core.errors import VolumeError
from braing3n_core.volume import EXTENSIONS, Volume
from Testing.core.sample_volumes import SHAPE, affine_of, refused, voxels


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_equal_volumes_give_equal_bytes_whatever_the_name_and_memory_order(tmp_path: Path, extension: str) -> None:
    first = Volume.from_array(np.ascontiguousarray(voxels()), affine_of()).save(tmp_path / f"a{extension}")
    second = Volume.from_array(np.asfortranarray(voxels()), affine_of()).save(tmp_path / f"other{extension}")
    assert first.read_bytes() == second.read_bytes()
    if extension == ".nii.gz":
        assert first.read_bytes()[3:8] == bytes(5)  # no name flag, no time


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_the_description_travels_with_the_file(tmp_path: Path, extension: str) -> None:
    text = "SYNTHETIC counterfactual, BrainG3N"
    path = Volume.from_array(voxels(), affine_of()).save(tmp_path / f"a{extension}", description=text)
    assert Volume.load(path).description == text
    if extension != ".nrrd":
        assert bytes(nib.load(path).header["descrip"].item()) == text.encode()


@pytest.mark.parametrize("text", ["x" * 80, "ü" * 40, "two\nlines", "nul\0"])
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, text: str) -> None:
    with refused("volume.description"):
        Volume.from_array(voxels(), affine_of()).save(tmp_path / "a.nii", description=text)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "dtype, value", [("uint8", 256), ("uint8", -1), ("uint8", 3.25), ("int16", 0.5), ("int16", 40000)]
)
def test_a_lossy_integer_type_is_refused_and_nothing_is_written(tmp_path: Path, dtype: str, value: float) -> None:
    data = np.ones(SHAPE, dtype=np.float32)
    data[4, 5, 6] = value
    with refused("volume.lossy_cast"):
        Volume.from_array(data, affine_of()).save(tmp_path / "a.nii.gz", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_mask_is_stored_in_one_byte_per_voxel(tmp_path: Path) -> None:
    path = Volume.from_array(voxels() > 0, affine_of()).save(tmp_path / "mask.nii", dtype="uint8")
    assert path.stat().st_size == 352 + 990
    assert nib.load(path).get_data_dtype() == np.uint8


@pytest.mark.parametrize("dtype", ["float64", "int32", "complex64", ""])
def test_an_unknown_stored_type_is_refused(tmp_path: Path, dtype: str) -> None:
    with refused("volume.dtype"):
        Volume.from_array(voxels(), affine_of()).save(tmp_path / "a.nii", dtype=dtype)


@pytest.mark.parametrize("name", ["a.mha", "a.nhdr", "a.img", "a", "a.nii.bz2"])
def test_an_unknown_output_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(VolumeError, check=lambda e: e.code in ("volume.format", "volume.detached")):
        Volume.from_array(voxels(), affine_of()).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_saving_creates_parents_and_replaces_an_older_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "scan.nii.gz"
    Volume.from_array(voxels(0), affine_of()).save(target)
    Volume.from_array(voxels(1), affine_of()).save(target)
    assert np.array_equal(Volume.load(target).array, voxels(1))
    assert [p.name for p in target.parent.iterdir()] == ["scan.nii.gz"]


def test_a_target_that_cannot_be_written_is_a_typed_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder.nii").mkdir()
    for target in ("file/scan.nii", "folder.nii"):
        with refused("volume.unwritable"):
            Volume.from_array(voxels(), affine_of()).save(tmp_path / target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.nii"]


_SAVE_BIG = """
import resource, signal, sys
import numpy as np
from braing3n_core.errors import VolumeError
from braing3n_core.volume import Volume
big = Volume.from_array(np.random.default_rng(0).normal(size=(256, 256, 200)), np.eye(4))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
if sys.argv[2] == "limited":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    big.save(sys.argv[1])
except KeyboardInterrupt:
    sys.exit(42)
except VolumeError as error:
    sys.exit(43 if error.code == "volume.unwritable" else 1)
"""


def _saving_process(target: Path, mode: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", _SAVE_BIG, str(target), mode], env=environment)


@pytest.mark.skipif(sys.platform == "win32", reason="Needs POSIX signals.")
def test_an_interrupt_in_the_middle_of_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "scan.nii.gz"
    for _ in range(5):  # on a busy machine the writer may be done before the signal arrives
        Volume.from_array(voxels(), affine_of()).save(target)
        before = target.read_bytes()
        if (code := _interrupted(_saving_process(target, "interrupted"), tmp_path)) != 0:
            break
    assert code == 42
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nii.gz"]


def _interrupted(process: subprocess.Popen, folder: Path) -> int:
    """The exit code after an interrupt as soon as the partial file holds something."""
    deadline = time.monotonic() + 60
    while process.poll() is None and not any(p.stat().st_size > 1000 for p in folder.glob(".*.partial")):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    return process.wait(timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="Needs POSIX resource limits.")
def test_a_full_disk_is_a_typed_error_and_leaves_nothing(tmp_path: Path) -> None:
    process = _saving_process(tmp_path / "scan.nii", "limited")
    assert process.wait(timeout=60) == 43
    assert not list(tmp_path.iterdir())
