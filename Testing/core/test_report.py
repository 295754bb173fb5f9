"""The pictures show the right side, and the report says what is synthetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.pictures import PLANES, Canvas, Curve, Row, _slice, colour_limit, curves, montage, to_ras
from braing3n_core.report import Report, trajectory_curves
from braing3n_core.schema import Effect, Output, Reading, Result
from braing3n_core.volume import Volume

SHAPE = (40, 48, 44)
ORIENTATIONS = {
    "RAS": np.diag([1.0, 1, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1, 1]),
    "LIA": np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]),
    "PSR": np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
}


def brain(affine: np.ndarray) -> tuple[Volume, Volume]:
    """A bright ball at the left, front and top of a grey ellipsoid, in the voxel order of ``affine``; its mask."""
    world = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij"), -1)  # RAS mm
    inside = ((world / np.array([16, 20, 18])) ** 2).sum(-1) <= 1
    ball = ((world - np.array([-9, 10, 6])) ** 2).sum(-1) <= 16
    ras = inside * 100.0 + ball * 100.0
    axes = [int(np.flatnonzero(affine[:3, c])[0]) for c in range(3)]
    flips = tuple(slice(None, None, int(affine[axes[c], c])) for c in range(3))
    placed = [np.transpose(a, axes)[flips].astype(np.float32) for a in (ras, inside)]
    return Volume.from_array(placed[0], affine, "T1"), Volume.from_array(placed[1], affine)


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_left_is_shown_on_the_right_whatever_the_voxel_order(letters: str) -> None:
    scan, mask = brain(ORIENTATIONS[letters])
    canvas = Canvas.of(scan, mask)
    axial = _slice(scan.array, scan, canvas, (2, 0.62))[0]
    coronal = _slice(scan.array, scan, canvas, (1, 0.7))[0]
    sagittal = _slice(scan.array, scan, canvas, (0, 0.27))[0]
    for picture, right, up in ((axial, True, True), (coronal, True, True), (sagittal, False, True)):
        rows, columns = np.nonzero(picture > 150)  # rows run upwards, columns to the viewer's right
        assert len(rows)
        assert bool(columns.mean() > picture.shape[1] / 2) is right
        assert bool(rows.mean() > picture.shape[0] / 2) is up


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_turning_to_ras_keeps_every_voxel_and_its_spacing(letters: str) -> None:
    affine = ORIENTATIONS[letters] @ np.diag([1.0, 2.0, 3.0, 1.0])
    scan, _ = brain(ORIENTATIONS[letters])
    turned, spacing = to_ras(Volume.from_array(scan.array, affine))
    plain, _ = brain(ORIENTATIONS["RAS"])
    assert np.array_equal(turned, plain.array)
    assert sorted(spacing) == [1.0, 2.0, 3.0]


def test_one_colour_limit_serves_all_horizons() -> None:
    scan, mask = brain(ORIENTATIONS["RAS"])
    canvas = Canvas.of(scan, mask)
    small, large = scan.with_array(mask.array * 1.0), scan.with_array(mask.array * -10.0)
    assert colour_limit(canvas, [small, large]) == pytest.approx(10 / canvas.unit)
    assert colour_limit(canvas, [scan.with_array(np.zeros(SHAPE))]) == 1.0


def test_a_difference_is_drawn_red_where_brighter_and_blue_where_darker(tmp_path: Path) -> None:
    from matplotlib.image import imread

    scan, mask = brain(ORIENTATIONS["LPS"])
    canvas = Canvas.of(scan, mask)
    shares = {}
    for name, sign in (("brighter", 1), ("darker", -1)):
        change = scan.with_array(mask.array * np.float32(20 * sign))
        path = montage(tmp_path / f"{name}.png", canvas, [Row("x", scan, True, change, limit=20 / canvas.unit)])
        picture = imread(path)[:, : int(0.9 * imread(path).shape[1])]
        shares[name] = float(picture[..., 0].mean() - picture[..., 2].mean())
    assert shares["brighter"] > 0.05 and shares["darker"] < -0.05


def test_the_slices_cover_three_planes() -> None:
    assert {axis for axis, _ in PLANES} == {0, 1, 2}


def test_a_trajectory_starts_at_the_scan_and_is_sorted(tmp_path: Path) -> None:
    table = {
        "baseline": {"age": {"value": 60.0, "unit": "years"}, "sex": {"value": "F", "unit": ""}},
        "horizons": [
            {"horizon_years": 5.0, "readings": {"age": {"value": 64.0, "unit": "years", "interval": [63.0, 65.0]}}},
            {"horizon_years": 0.0, "readings": {"age": {"value": 60.0, "unit": "years", "interval": [60.0, 60.0]}}},
            {"horizon_years": -2.0, "readings": {"age": {"value": 59.0, "unit": "years", "interval": None}}},
        ],
    }
    found = trajectory_curves(table)
    x, y = (-2.0, 0.0, 5.0), (59.0, 60.0, 64.0)
    assert found == [Curve("age", "years", x, y, (59.0, 60.0, 63.0), (59.0, 60.0, 65.0))]
    assert curves(tmp_path / "trajectory.png", found).stat().st_size > 1000


@pytest.fixture
def results(tmp_path: Path) -> list[Result]:
    """What the runs on a made-up scan would have written."""
    scan, mask = brain(ORIENTATIONS["LIA"])
    scan.save(tmp_path / "scan.nii.gz")

    def output(role: str, array: np.ndarray, horizon: float | None = None) -> Output:
        path = scan.with_array(array).save(tmp_path / f"{role}{horizon}.nii.gz")
        return Output(role, str(path), "native", role != "mask", horizon)

    later = {"value": 64.0, "unit": "years", "interval": [63.0, 65.0]}
    table = {
        "baseline": {"age": {"value": 60.0, "unit": "years"}},
        "horizons": [{"horizon_years": 5.0, "readings": {"age": later}}],
    }
    (tmp_path / "forecast.json").write_text(json.dumps(table))
    quality = {"mae": 5.5, "data": "<phantoms>"}
    reading = Reading("age", 61.0, "years", (50.0, 72.0), quality=quality, in_distribution=False)
    request = {"target": {"disease": "AD", "sex": None}}
    change = mask.array * 5
    return [
        Result("preprocess", (output("mask", mask.array),), provenance={"preprocess": {"steps": ["N4"]}}),
        Result("probe", readings=(reading,)),
        Result("reconstruct", (output("reconstruction", scan.array),), provenance={"quality": {"mse_brain": 0.03}}),
        Result("counterfactual", (output("counterfactual", scan.array + change), output("difference", change)),
               effects=(Effect("disease", "HC", "AD", "", True, 0.75, "AD", 0.125, 0.875),
                        Effect("age", 61.0, 66.0, "years")), provenance={"request": request}, warnings=("Read <b>.",)),
        Result("forecast", (output("forecast", scan.array + change, 5.0), output("difference", change, 5.0),
                            output("uncertainty", change, 5.0), Output("trajectory", str(tmp_path / "forecast.json")))),
    ]  # fmt: skip


def test_the_report_holds_every_section_and_says_synthetic(results: list[Result], tmp_path: Path) -> None:
    path = Report(tmp_path / "scan.nii.gz", "T1", results, ("An average brain.",)).write(tmp_path / "out")
    page = path.read_text(encoding="utf-8")
    for words in ("SYNTHETIC", "not for clinical use", "digital phantoms", "An average brain.", "disease = AD",
                  "50.0 to 72.0", "61.0 years", "66.0 years", "AD 0.125 to 0.875 in probability",
                  "do not trust these readings", "N4"):  # fmt: skip
        assert words in page
    names = ["input", "reconstruction", "counterfactual", "forecast", "uncertainty", "trajectory"]
    assert sorted(p.stem for p in (tmp_path / "out" / "pictures").iterdir()) == sorted(names)
    assert page.count("data:image/png;base64,") == len(names)
    assert "&lt;phantoms&gt;" in page and "Read &lt;b&gt;." in page


def test_a_report_of_some_verbs_leaves_the_others_out(results: list[Result], tmp_path: Path) -> None:
    page = Report(tmp_path / "scan.nii.gz", "T1", results[:2]).write(tmp_path / "out").read_text(encoding="utf-8")
    assert "What the probes read" in page and "<h2>Forecast" not in page
