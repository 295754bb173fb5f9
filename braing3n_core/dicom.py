"""A folder of DICOM slices as one volume, or a sentence on why it is none.

SimpleITK (GDCM) decodes explicit and implicit VR alike; what it does not look at is checked here first: one series, one
geometry, no gap, no slice twice, no tilted gantry. DICOM's world is LPS mm; what leaves this file is RAS+.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DependencyError, VolumeError

DICOM_DESCRIPTION = "DICOM series"
"""The description of a volume that was read from DICOM."""
GANTRY_TILT = "0018|1120"
MODALITY = "0008|0060"
SERIES_DESCRIPTION = "0008|103e"
STEP_TOLERANCE = 0.05
"""Share of the usual distance between slices by which one may differ."""
TILT_LIMIT_DEGREES = 0.2


@dataclass(frozen=True, eq=False)
class _Slice:
    """The header of one file. size: voxels; direction: (3,3) columns of the axes; origin: LPS mm."""

    path: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    direction: np.ndarray
    origin: np.ndarray
    tags: dict[str, str]

    @property
    def height_mm(self) -> float:
        """Its place along the slice normal."""
        return float(self.origin @ self.direction[:, 2])


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The one series in a folder: array (X,Y,Z) float32, affine voxel to RAS+ world (mm).

    Raises VolumeError (codes ``dicom.none``, ``.series``, ``.unreadable``, ``.modality``, ``.colour``, ``.mixed``,
    ``.gantry_tilt``, ``.duplicate``, ``.gap``, ``.slices``), DependencyError without SimpleITK.
    """
    sitk = _simpleitk()
    slices = sorted((_header(sitk, path) for path in _files(sitk, folder)), key=lambda s: s.height_mm)
    if len(slices) == 1 and (len(slices[0].size) < 3 or slices[0].size[2] < 2):
        raise VolumeError("dicom.slices", "The series has one slice.", "Give the folder of the whole series.")
    _check_kind(slices)
    _check_one_geometry(slices)
    step = _checked_step(slices)
    try:
        image = sitk.ReadImage([s.path for s in slices], sitk.sitkFloat32)
    except RuntimeError as error:
        raise _unreadable(slices[0].path, error) from error
    array = np.ascontiguousarray(sitk.GetArrayFromImage(image).T)
    return array, _affine(slices[0], step)


def _simpleitk() -> Any:
    try:
        import SimpleITK as sitk
    except ImportError as error:
        message = f"DICOM needs SimpleITK: {error}."
        raise DependencyError("dependency.simpleitk", message, "pip install SimpleITK") from error
    sitk.ProcessObject.GlobalWarningDisplayOff()
    return sitk


def _files(sitk: Any, folder: Path) -> tuple[str, ...]:
    """The files of the only series in the folder."""
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise VolumeError(
            "dicom.none", "There is no DICOM image in this folder (its subfolders are not searched).",
            "Give the folder in which the slices of one series lie.",
        )
    found = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series}
    if len(found) > 1:
        listed = "; ".join(f"{_described(sitk, files[0])}, {len(files)} files" for files in found.values())
        raise VolumeError(
            "dicom.series", f"The folder holds {len(found)} series: {listed}.", "Give a folder with one series alone.",
        )
    files = tuple(found[series[0]])
    _check_all_seen(folder, files)
    return files


def _check_all_seen(folder: Path, files: tuple[str, ...]) -> None:
    """GDCM passes over what it cannot decode; a lost slice at either end would leave no gap."""
    seen = {Path(path).name for path in files} | {"DICOMDIR"}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name not in seen):
        with open(path, "rb") as handle:
            if handle.read(132)[128:] == b"DICM":
                raise VolumeError(
                    "dicom.unreadable", f"{path.name} is DICOM, but cannot be decoded as a slice.",
                    "Export the series again, or remove the file if it is no image.",
                )


def _described(sitk: Any, path: str) -> str:
    return repr(_header(sitk, path).tags.get(SERIES_DESCRIPTION, "").strip() or Path(path).name)


def _header(sitk: Any, path: str) -> _Slice:
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    if reader.GetNumberOfComponents() != 1:
        raise VolumeError(
            "dicom.colour", f"{Path(path).name} is a colour picture.", "Give the series of the scan itself."
        )
    tags = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    direction, origin = np.array(reader.GetDirection()).reshape(3, 3), np.array(reader.GetOrigin())
    return _Slice(path, reader.GetSize(), reader.GetSpacing(), direction, origin, tags)


def _unreadable(path: str, error: RuntimeError) -> VolumeError:
    last = str(error).strip().splitlines()[-1]
    return VolumeError("dicom.unreadable", f"{Path(path).name} cannot be decoded: {last}", "Export the series again.")


def _check_kind(slices: list[_Slice]) -> None:
    for one in slices:
        modality = one.tags.get(MODALITY, "MR").strip()
        if modality != "MR":
            raise VolumeError("dicom.modality", f"{Path(one.path).name} is {modality}, not MR.", "Give an MRI series.")


def _check_one_geometry(slices: list[_Slice]) -> None:
    first = slices[0]
    for one in slices[1:]:
        for what, same in (
            ("size", one.size == first.size),
            ("voxel size", np.allclose(one.spacing[:2], first.spacing[:2], atol=1e-3)),
            ("orientation", np.allclose(one.direction, first.direction, atol=1e-3)),
        ):
            if not same:
                raise VolumeError(
                    "dicom.mixed", f"{Path(one.path).name} and {Path(first.path).name} differ in {what}: "
                    "several stacks are mixed in this series (a localiser, for instance).",
                    "Split them, and give the folder of one stack.",
                )


def _checked_step(slices: list[_Slice]) -> np.ndarray:
    """From one slice to the next, LPS mm (3,). Refuses tilt, slices of the same place, and gaps."""
    first, last = slices[0], slices[-1]
    if len(slices) == 1:
        return first.direction[:, 2] * first.spacing[2]
    steps = np.diff([s.height_mm for s in slices])
    usual = float(np.median(steps))
    if steps.min() < 1e-3:
        twin = int(steps.argmin())
        raise VolumeError(
            "dicom.duplicate", f"{Path(slices[twin].path).name} and {Path(slices[twin + 1].path).name} lie in the same "
            "place: two echoes, times or exports are mixed in this series.", "Give the folder of one of them.",
        )
    _check_upright(slices, last.origin - first.origin)
    odd = int(np.abs(steps - usual).argmax())
    if abs(steps[odd] - usual) > STEP_TOLERANCE * usual:
        raise VolumeError(
            "dicom.gap", f"Between {Path(slices[odd].path).name} and {Path(slices[odd + 1].path).name} lie "
            f"{steps[odd]:.2f} mm, elsewhere {usual:.2f} mm: slices are missing.", "Export the whole series again.",
        )
    return np.asarray((last.origin - first.origin) / (len(slices) - 1))


def _check_upright(slices: list[_Slice], way: np.ndarray) -> None:
    """Refuse a stack whose slices are sheared, by the header's word or by their places."""
    said = max((abs(_number(s.tags.get(GANTRY_TILT, "0"))) for s in slices), default=0.0)
    along = min(abs(float(way @ slices[0].direction[:, 2])) / float(np.linalg.norm(way)), 1.0)
    tilt = max(said, float(np.degrees(np.arccos(along))))
    if tilt > TILT_LIMIT_DEGREES:
        raise VolumeError(
            "dicom.gantry_tilt", f"The slices are sheared by {tilt:.1f} degrees (a tilted gantry).",
            "Resample the series to a right-angled grid first (dcm2niix does), and give that file.",
        )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _affine(first: _Slice, step: np.ndarray) -> np.ndarray:
    """Voxel to RAS+ world (4,4)."""
    lps = np.eye(4)
    lps[:3, :2] = first.direction[:, :2] * np.array(first.spacing[:2])
    lps[:3, 2] = step
    lps[:3, 3] = first.origin
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)
