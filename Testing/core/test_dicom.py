"""A DICOM series becomes a volume in its place; whatever is not one whole upright series is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.errors import VolumeError
from braing3n_core.volume import Volume

sitk = pytest.importorskip("SimpleITK")

SHAPE = (12, 10, 9)
TURN = np.array([[0.0, 1, 0], [0.8, 0, -0.6], [-0.6, 0, -0.8]]).T
"""Columns are the image axes in LPS: an oblique stack."""
SPACING, ORIGIN = (0.9, 1.1, 2.5), np.array([-40.0, 12.5, 33.0])


def write(folder: Path, *, uid: str = "1.2.3", origin: np.ndarray = ORIGIN, direction: np.ndarray = TURN,
          shear: np.ndarray | None = None, start: int = 0, **tags: str) -> np.ndarray:
    """A made-up series of SHAPE; its voxels."""
    folder.mkdir(exist_ok=True)
    array = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    for k in range(SHAPE[2]):
        image = sitk.GetImageFromArray(array[:, :, k].T[None])
        image.SetSpacing(SPACING)
        image.SetDirection(direction.ravel().tolist())
        place = origin + k * SPACING[2] * direction[:, 2] + (0 if shear is None else k * shear)
        image.SetOrigin(place.tolist())
        named = {"0008|0060": "MR", "0020|000e": uid, "0008|103e": f"stack {uid}", "0020|0013": str(k)}
        named |= {"0020|0032": "\\".join(f"{x:.6f}" for x in place)}
        named |= {"0020|0037": "\\".join(f"{x:.6f}" for x in direction[:, :2].T.ravel())}
        for key, value in (named | {k.replace("_", "|"): v for k, v in tags.items()}).items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        image.SetMetaData("0008|0018", f"{uid}.{start + k + 1}")
        writer.SetFileName(str(folder / f"{uid}_{(7 * k + start) % 101:03}.dcm"))  # names in no order
        writer.Execute(image)
    return array


def test_a_series_is_read_in_order_and_in_its_place(tmp_path: Path) -> None:
    array = write(tmp_path / "scan")
    volume = Volume.load(tmp_path / "scan", modality="T1")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.name == "scan" and volume.modality == "T1" and volume.description.startswith("DICOM")
    voxel = np.array([3, 4, 7])
    lps = ORIGIN + TURN @ (np.array(SPACING) * voxel)
    np.testing.assert_allclose(volume.affine @ [*voxel, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-3)


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("dicom.series", lambda f: write(f, uid="1.2.4", start=50)),
        ("dicom.gap", lambda f: (f / "1.2.3_014.dcm").unlink()),
        ("dicom.mixed", lambda f: write(f, direction=np.eye(3), start=50)),
        ("dicom.duplicate", lambda f: write(f, start=50)),
        ("dicom.gantry_tilt", lambda f: write(f, shear=0.4 * TURN[:, 1])),
        ("dicom.gantry_tilt", lambda f: write(f, **{"0018_1120": "-12.5"})),
        ("dicom.modality", lambda f: write(f, **{"0008_0060": "CT"})),
        ("dicom.slices", lambda f: [p.unlink() for p in sorted(f.iterdir())[1:]]),
        ("dicom.none", lambda f: [p.unlink() for p in f.iterdir()]),
    ],
)
def test_what_is_no_whole_upright_series_is_refused_by_name(code: str, spoil, tmp_path: Path) -> None:
    write(tmp_path / "scan")
    spoil(tmp_path / "scan")
    with pytest.raises(VolumeError) as caught:
        Volume.load(tmp_path / "scan")
    assert caught.value.code == code and caught.value.hint and "scan" in caught.value.message


@pytest.mark.parametrize("name", ["1.2.3_000.dcm", "1.2.3_014.dcm"])
def test_a_damaged_slice_is_named(name: str, tmp_path: Path) -> None:
    write(tmp_path / "scan")
    victim = tmp_path / "scan" / name
    victim.write_bytes(victim.read_bytes()[:-150])
    with pytest.raises(VolumeError) as caught:
        Volume.load(tmp_path / "scan")
    assert caught.value.code == "dicom.unreadable" and name in caught.value.message


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "scan")
    (tmp_path / "scan" / "README.txt").write_text("not an image")
    shutil.copytree(tmp_path / "scan", tmp_path / "scan" / "deeper")
    assert Volume.load(tmp_path / "scan").shape == SHAPE
