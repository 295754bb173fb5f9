"""Volume: what is written is read back exactly, and other libraries agree on every voxel and its place."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from braing3n_core.volume import EXTENSIONS, Volume, stem
from Testing.core.sample_volumes import SHAPE, SIGNED_AXES, affine_of, refused, rotation, voxels

DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"]
finite = st.floats(-200, 200, width=32)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(8, 13)] * 3), spacing=st.tuples(*[st.floats(0.25, 6, width=32)] * 3),
    angle=st.floats(-3.2, 3.2), mirrored=st.booleans(), shear=st.sampled_from([0.0, 0.0, 0.2]),
    origin=st.tuples(finite, finite, finite), fortran=st.booleans(), seed=st.integers(0, 99),
    dtype=st.sampled_from(["float32", "int16", "uint8"]), extension=st.sampled_from(EXTENSIONS),
)
def test_any_volume_is_read_back_as_it_was_written(
    tmp_path: Path, shape, spacing, angle, mirrored, shear, origin, fortran, seed, dtype, extension
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation(seed, angle) @ np.diag(spacing) @ np.diag((-1.0 if mirrored else 1.0, 1, 1))
    affine[:3, 1] += shear * affine[:3, 0]
    affine[:3, 3] = origin
    stored = voxels(seed, {"float32": "f4", "int16": "i2", "uint8": "u1"}[dtype], shape)
    volume = Volume.from_array(np.asarray(stored, order="F" if fortran else "C"), affine)
    again = Volume.load(volume.save(tmp_path / f"round{extension}", dtype=dtype))
    assert np.array_equal(again.array, stored.astype(np.float32))
    expected = affine if extension == ".nrrd" else affine.astype(np.float32).astype(float)
    assert np.array_equal(again.affine, expected)


@pytest.mark.parametrize("axes", SIGNED_AXES, ids=str)
def test_nibabel_and_volume_agree_on_all_48_orientations(tmp_path: Path, axes) -> None:
    image = nib.Nifti1Image(voxels(), affine_of(axes))
    nib.save(image, tmp_path / "scan.nii.gz")
    reference = nib.load(tmp_path / "scan.nii.gz")
    volume = Volume.load(tmp_path / "scan.nii.gz")
    assert np.array_equal(volume.array, reference.get_fdata(dtype=np.float32))
    assert np.array_equal(volume.affine, reference.affine)
    assert volume.orientation == "".join(nib.aff2axcodes(reference.affine))


@pytest.mark.parametrize("axes", SIGNED_AXES, ids=str)
def test_nibabel_reads_what_volume_writes_by_sform_and_by_qform(tmp_path: Path, axes) -> None:
    volume = Volume.from_array(voxels(), affine_of(axes, angle=0.0 if sum(axes[1]) > 0 else 0.4))
    image = nib.load(volume.save(tmp_path / "scan.nii"))
    assert np.array_equal(image.get_fdata(dtype=np.float32), volume.array)
    assert np.allclose(image.affine, volume.affine, atol=1e-5)
    qform, code = image.get_qform(coded=True)
    assert code == 1
    assert np.allclose(qform, volume.affine, atol=2e-3)  # float32 quaternions near half a turn
    assert image.header.get_zooms() == pytest.approx(volume.spacing_mm)
    assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "<>")
def test_every_data_type_is_read_in_both_byte_orders(tmp_path: Path, dtype: str, order: str) -> None:
    data = voxels(3, dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    image = nib.Nifti1Image(data, affine_of(), header)
    image.set_data_dtype(dtype)
    (tmp_path / "scan.nii").write_bytes(image.to_bytes())
    volume = Volume.load(tmp_path / "scan.nii")
    assert np.array_equal(volume.array, nib.load(tmp_path / "scan.nii").get_fdata(dtype=np.float32))
    assert np.array_equal(volume.array, data.astype(np.float32))


def test_slope_and_intercept_are_applied_as_nibabel_does(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels(dtype="f8") * 1000, affine_of())
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "scaled.nii.gz")
    reference = nib.load(tmp_path / "scaled.nii.gz")
    assert reference.dataobj.slope != 1
    expected = reference.get_fdata(dtype=np.float64).astype(np.float32)
    assert np.array_equal(Volume.load(tmp_path / "scaled.nii.gz").array, expected)


@pytest.mark.parametrize("axes", SIGNED_AXES[::5], ids=str)
def test_a_qform_alone_is_read_as_nibabel_reads_it(tmp_path: Path, axes) -> None:
    image = nib.Nifti1Image(voxels(), None)
    image.set_qform(affine_of(axes), 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "scan.nii")
    assert np.allclose(Volume.load(tmp_path / "scan.nii").affine, nib.load(tmp_path / "scan.nii").affine, atol=1e-5)


def test_extensions_trailing_axes_of_one_and_several_gzip_members_are_read(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels()[..., None, None], affine_of())
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"an extension of some length" * 9))
    data = image.to_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(data[:500]) + gzip.compress(b"") + gzip.compress(data[500:]))
    volume = Volume.load(tmp_path / "scan.nii.gz")
    assert np.array_equal(volume.array, voxels())


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("axes", SIGNED_AXES[::12], ids=str)
def test_nrrd_of_simpleitk_is_read_as_simpleitk_places_it(tmp_path: Path, dtype: str, compressed: bool, axes) -> None:
    sitk = pytest.importorskip("SimpleITK")
    data, affine = voxels(1, dtype), affine_of(axes)
    lps = np.diag((-1, -1, 1)) @ affine[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:, 3].tolist())
    image.SetDirection((lps[:, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"), useCompression=compressed)
    volume = Volume.load(tmp_path / "scan.nrrd")
    assert np.array_equal(volume.array, data.astype(np.float32))
    assert np.allclose(volume.affine, affine, atol=1e-9)


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz"])
def test_simpleitk_reads_what_volume_writes(tmp_path: Path, extension: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    volume = Volume.from_array(voxels(), affine_of(SIGNED_AXES[19]))
    image = sitk.ReadImage(str(volume.save(tmp_path / f"scan{extension}")))
    assert np.array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), volume.array)
    for index in ((0, 0, 0), (8, 0, 3), (2, 9, 10)):
        world = volume.affine @ (*index, 1)
        assert np.allclose(image.TransformIndexToPhysicalPoint(index), world[:3] * (-1, -1, 1), atol=1e-3)


@pytest.mark.parametrize("space, signs", [
    ("left-posterior-superior", (-1, -1, 1)), ("LPS", (-1, -1, 1)), ("right-anterior-superior", (1, 1, 1)),
    ("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1)), ("LAS", (-1, 1, 1)),
])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_nrrd_spaces_and_byte_orders(tmp_path: Path, space: str, signs, endian: str) -> None:
    data = voxels(2, "i2")
    header = (
        f"NRRD0005\r\n# a comment\r\nType: int16\r\nDimension: 3\r\nspace: {space}\r\nsizes: 9 10 11\r\n"
        "space directions: (1,0,0) (0, 2, 0) (0,0,3.5e0)\r\nkinds: space space space\r\n"
        'space units: "mm" "mm" "mm"\r\n'
        f"endian: {endian}\r\nencoding: RAW\r\nspace origin: (4,5,-6)\r\nmodality:=MR\r\n\r\n"
    )
    raw = data.astype("<i2" if endian == "little" else ">i2").tobytes(order="F")
    (tmp_path / "scan.nrrd").write_bytes(header.encode() + raw)
    volume = Volume.load(tmp_path / "scan.nrrd")
    assert np.array_equal(volume.array, data)
    expected = np.array([[1, 0, 0, 4], [0, 2, 0, 5], [0, 0, 3.5, -6], [0, 0, 0, 1]])
    assert np.array_equal(volume.affine, np.diag((*signs, 1)) @ expected)


def test_nifti_to_nrrd_and_back_keeps_voxels_and_world(tmp_path: Path) -> None:
    first = Volume.load(Volume.from_array(voxels(), affine_of(SIGNED_AXES[33])).save(tmp_path / "a.nii.gz"))
    second = Volume.load(first.save(tmp_path / "b.nrrd"))
    third = Volume.load(second.save(tmp_path / "c.nii"))
    for other in (second, third):
        assert np.array_equal(other.array, first.array)
        assert np.array_equal(other.affine, first.affine)


def test_properties_of_the_grid() -> None:
    affine = affine_of(((2, 0, 1), (-1, 1, -1)), angle=0.1)
    volume = Volume.from_array(voxels(), affine, modality="T1", name="scan")
    assert volume.shape == SHAPE
    assert volume.spacing_mm == pytest.approx((0.9, 1.1, 2.5))
    assert volume.voxel_volume_ml == pytest.approx(0.9 * 1.1 * 2.5 / 1000)
    assert volume.orientation == "".join(nib.aff2axcodes(affine))
    assert repr(volume) == f"Volume(scan, T1, 9x10x11 voxels, 0.9x1.1x2.5 mm, {volume.orientation})"


def test_same_grid_means_same_shape_and_same_place() -> None:
    volume = Volume.from_array(voxels(), affine_of())
    moved = affine_of()
    moved[0, 3] += 0.01
    assert volume.same_grid(volume.with_array(voxels(1)))
    assert not volume.same_grid(Volume.from_array(voxels(), moved))
    assert volume.same_grid(Volume.from_array(voxels(), moved), tolerance_mm=0.02)
    assert not volume.same_grid(Volume.from_array(voxels(shape=(9, 10, 12)), affine_of()))


def test_another_image_on_the_grid_keeps_modality_and_name_and_drops_the_description() -> None:
    volume = Volume.from_array(voxels(), affine_of(), "FLAIR", "scan", "from the scanner")
    other = volume.with_array(voxels(1))
    assert (other.modality, other.name, other.description) == ("FLAIR", "scan", "")
    with refused("volume.grid"):
        volume.with_array(voxels(shape=(9, 10, 12)))


def test_the_affine_cannot_be_changed_from_outside() -> None:
    affine = affine_of()
    volume = Volume.from_array(voxels(), affine)
    affine[0, 3] = 1000
    assert volume.affine[0, 3] == -12.5
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 3] = 0


def _changed(row: int, column: int, value: float) -> np.ndarray:
    affine = affine_of()
    affine[row, column] = value
    return affine


@pytest.mark.parametrize("array, affine, code", [
    (voxels()[0], affine_of(), "volume.dimensions"),
    (voxels(shape=(9, 10, 7)), affine_of(), "volume.dimensions"),
    (voxels(shape=(9, 10, 11, 2)), affine_of(), "volume.dimensions"),
    (voxels(shape=(8, 8, 1025)), affine_of(), "volume.too_large"),
    (voxels().astype(complex), affine_of(), "volume.dtype"),
    (voxels().astype(str), affine_of(), "volume.dtype"),
    (np.full(SHAPE, np.nan), affine_of(), "volume.not_finite"),
    (np.full(SHAPE, 1e300), affine_of(), "volume.not_finite"),
    (voxels(), np.eye(3), "volume.affine"),
    (voxels(), np.diag((1.0, 1, 1, 2)), "volume.affine"),
    (voxels(), _changed(0, 3, np.nan), "volume.affine"),
    (voxels(), _changed(0, 3, 1e5), "volume.affine"),
    (voxels(), np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "volume.affine"),
    (voxels(), np.diag((0.0, 1, 1, 1)), "volume.spacing"),
    (voxels(), np.diag((0.01, 1, 1, 1)), "volume.spacing"),
    (voxels(), np.diag((26.0, 1, 1, 1)), "volume.spacing"),
])
def test_an_array_that_is_no_placed_volume_is_refused(array, affine, code: str) -> None:
    with refused(code):
        Volume.from_array(array, affine)


def test_the_constructor_takes_float32_only_and_modality_must_be_known() -> None:
    with refused("volume.dtype"):
        Volume(voxels(dtype="f8"), affine_of())
    with refused("volume.modality"):
        Volume(voxels(), affine_of(), modality="T1w")


def test_a_strided_view_becomes_contiguous() -> None:
    volume = Volume(voxels(shape=(18, 10, 11))[::2], affine_of())
    assert volume.array.flags.c_contiguous


def test_an_image_of_one_value_is_read_only_when_allowed(tmp_path: Path) -> None:
    path = Volume.from_array(np.zeros(SHAPE), affine_of()).save(tmp_path / "difference.nii.gz")
    with refused("volume.constant"):
        Volume.load(path)
    assert not Volume.load(path, allow_constant=True).array.any()


@pytest.mark.parametrize("name, expected", [
    ("a/b/scan.nii.gz", "scan"), ("sub-01_T1w.NII.GZ", "sub-01_T1w"), ("x.y.nrrd", "x.y"), ("plain.nii", "plain"),
])
def test_the_name_is_the_file_without_folder_and_extension(name: str, expected: str) -> None:
    assert stem(name) == expected


def test_real_scans_are_read_as_nibabel_reads_them(test_data: Path) -> None:
    paths = sorted(test_data.glob("**/*.nii*"))[::4]
    if not paths:
        pytest.skip("The folder of real test MRI holds no NIfTI file.")
    for path in paths:
        volume, reference = Volume.load(path), nib.load(path)
        assert np.array_equal(volume.array, np.squeeze(reference.get_fdata(dtype=np.float32))), path.name
        assert np.array_equal(volume.affine, reference.affine), path.name
