"""The engine as a whole, on a tiny checkpoint with random weights and on the embedded default."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from braing3n_core.checkpoint import default_checkpoint
from braing3n_core.engine import Engine
from braing3n_core.errors import BrainG3NError, Cancelled, RequestError
from braing3n_core.outcomes import Encoded
from braing3n_core.preprocess.pipeline import Preprocessed
from braing3n_core.preprocess.record import as_matrix
from braing3n_core.preprocess.spatial import to_grid
from braing3n_core.progress import Cancel
from braing3n_core.schema import (
    Conditions,
    CounterfactualRequest,
    EncodeRequest,
    ForecastRequest,
    Output,
    PreprocessRequest,
    ProbeRequest,
    ReconstructRequest,
    Request,
    Result,
    result_from_dict,
)
from braing3n_core.volume import Volume

AD = Conditions(disease="AD")
KNOWN = Conditions(disease="HC", sex="F", age_years=60.0)


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> Engine:
    return Engine(tiny_checkpoint, "cpu")


@pytest.fixture(scope="module")
def encoded(engine: Engine, registered_scan: Path) -> Encoded:
    return engine.encode(engine.preprocess(Volume.load(registered_scan, modality="T1")))


def counterfactual(scan: Path, **changes: object) -> CounterfactualRequest:
    plain = CounterfactualRequest(str(scan), target=AD, source=KNOWN, num_steps=2)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def images(result: Result, role: str, space: str = "native") -> dict[float | None, Volume]:
    """The images of one role by horizon."""
    found = [o for o in result.outputs if o.role == role and o.space == space]
    return {o.horizon_years: Volume.load(o.path, allow_constant=True) for o in found}


def names(result: Result) -> set[str]:
    return {Path(o.path).name for o in result.outputs}


def test_the_null_edit_is_the_input_voxel_for_voxel(engine: Engine, registered_scan: Path, tmp_path: Path) -> None:
    result = engine.run(counterfactual(registered_scan, target=Conditions()), tmp_path)
    scan, answer = Volume.load(registered_scan), images(result, "counterfactual")[None]
    assert np.array_equal(answer.array, scan.array)
    assert np.array_equal(answer.affine, scan.affine)
    assert not images(result, "difference")[None].array.any()
    assert any("Null edit" in w for w in result.warnings)


def test_a_counterfactual_changes_the_brain_and_nothing_else(
    engine: Engine, registered_scan: Path, tmp_path: Path
) -> None:
    result = engine.run(counterfactual(registered_scan), tmp_path)
    scan, edited = Volume.load(registered_scan), images(result, "counterfactual")[None]
    change = images(result, "difference")[None].array
    outside = engine.preprocess(scan).native_mask.array == 0
    assert np.abs(change).max() > 0
    assert not change[outside].any()
    np.testing.assert_allclose(edited.array - scan.array, change, atol=1e-4)
    assert names(result) == {
        f"sub-01_ses-2_space-{space}_desc-{what}_T1w.nii.gz"
        for space in ("native", "SRI24") for what in ("counterfactual", "difference")
    } | {"effects.json"}
    assert {e.task for e in result.effects if e.asked} == {"disease"}
    told = json.loads((tmp_path / "effects.json").read_text())["effects"]
    assert [row["task"] for row in told] == [e.task for e in result.effects]
    assert all(isinstance(row["drift"], float) for row in told)
    assert result_from_dict(json.loads(json.dumps(result.to_dict()))).effects == result.effects


def test_every_synthetic_image_says_so_and_where_it_comes_from(
    engine: Engine, registered_scan: Path, tmp_path: Path
) -> None:
    result = engine.run(counterfactual(registered_scan), tmp_path)
    for output in (o for o in result.outputs if o.role != "effects"):
        sidecar = json.loads(Path(output.path.replace(".nii.gz", ".json")).read_text())
        assert output.synthetic and sidecar["Synthetic"] is True
        assert "SYNTHETIC" in sidecar["Description"]
        assert Volume.load(output.path).description.startswith("SYNTHETIC")
        assert sidecar["Sources"] == [registered_scan.name]
        assert sidecar["Conditions"]["target"]["disease"] == "AD"
        assert sidecar["GeneratedBy"]["CheckpointIds"].keys() == {"encoder", "tokenizer", "dit", "probes"}
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["input"]["sha256"] and provenance["checkpoint"]["card"].endswith("not for clinical use")
    assert provenance["runtime"]["device_why"] and provenance["preprocess"]["stage"] == "registered"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    engine: Engine, registered_scan: Path, tmp_path: Path
) -> None:
    def voxels(name: str, seed: int) -> bytes:
        result = engine.run(counterfactual(registered_scan, seed=seed), tmp_path / name)
        return next(Path(o.path) for o in result.outputs if o.role == "counterfactual").read_bytes()

    first = voxels("a", 3)
    assert voxels("b", 3) == first
    assert voxels("c", 4) != first


def test_a_second_question_about_the_same_file_does_not_preprocess_again(
    tiny_checkpoint: Path, registered_scan: Path, tmp_path: Path
) -> None:
    engine = Engine(tiny_checkpoint, "cpu")
    first = engine.run(ProbeRequest(str(registered_scan)), tmp_path / "a")
    again = engine.run(ProbeRequest(str(registered_scan)), tmp_path / "b")
    assert "preprocess" in first.provenance["seconds"] and "preprocess" not in again.provenance["seconds"]
    assert first.readings == again.readings
    assert again.provenance["input"] == first.provenance["input"]


def test_what_is_made_ahead_is_used_and_changes_no_voxel(
    tiny_checkpoint: Path, registered_scan: Path, tmp_path: Path
) -> None:
    asked = counterfactual(registered_scan)
    prepared = PreprocessRequest(str(registered_scan), asked.preprocess)

    def voxels(name: str, engine: Engine) -> bytes:
        result = engine.run(asked, tmp_path / name)
        return next(Path(o.path) for o in result.outputs if o.role == "counterfactual").read_bytes()

    plain = voxels("plain", Engine(tiny_checkpoint, "cpu"))
    engine = Engine(tiny_checkpoint, "cpu")
    engine.run(prepared, tmp_path / "prepared")
    made = [piece() for piece in engine.ahead()]
    assert any(isinstance(piece, Encoded) for piece in made)
    assert voxels("ahead", engine) == plain
    again = [piece() for piece in engine.ahead()]
    assert len(again) == len(made) and all(a is b for a, b in zip(again, made, strict=True))  # nothing was made anew


def test_a_changed_file_of_the_same_name_is_read_again(
    engine: Engine, registered_scan: Path, tmp_path: Path
) -> None:
    scan = Volume.load(registered_scan)
    path = scan.save(tmp_path / "scan_T1w.nii.gz")
    before = engine.run(EncodeRequest(str(path)), tmp_path / "a")
    scan.with_array(scan.array * (1 + 0.3 * (np.arange(240) > 120)[:, None, None])).save(path)
    after = engine.run(EncodeRequest(str(path)), tmp_path / "b")
    latents = [np.load(r.outputs[0].path)["latents"] for r in (before, after)]
    assert latents[0].shape == (1200, 32)
    assert not np.array_equal(latents[0], latents[1])


def test_a_forecast_starts_at_the_scan_and_grows_with_the_horizon(
    engine: Engine, registered_scan: Path, tmp_path: Path
) -> None:
    request = ForecastRequest(
        str(registered_scan), horizons_years=(0.0, 1.0, 5.0), age_years=60.0, sex="F", samples=2, num_steps=2
    )
    result = engine.run(request, tmp_path)
    scan, forecasts, changes = Volume.load(registered_scan), images(result, "forecast"), images(result, "difference")
    assert np.array_equal(forecasts[0.0].array, scan.array)
    sizes = [float(np.abs(changes[h].array).mean()) for h in (0.0, 1.0, 5.0)]
    assert sizes[0] == 0 < sizes[1] < sizes[2]
    assert {"sub-01_ses-2_space-native_desc-forecast_years-5_T1w.nii.gz",
            "sub-01_ses-2_space-SRI24_desc-difference_years-1_T1w.nii.gz"} <= names(result)  # fmt: skip
    spread = images(result, "uncertainty")
    assert list(spread) == [5.0] and spread[5.0].array.min() >= 0 < spread[5.0].array.max()
    table = json.loads((tmp_path / "forecast.json").read_text())
    assert table["read_from_probes"] == ["disease"] and table["conditions"]["age_years"] == 60.0
    assert [row["horizon_years"] for row in table["horizons"]] == [0.0, 1.0, 5.0]
    low, high = table["horizons"][2]["readings"]["age"]["interval"]
    assert low < high
    assert table["horizons"][0]["readings"]["age"]["value"] == table["baseline"]["age"]["value"]


def test_what_the_probes_supplied_is_said(engine: Engine, registered_scan: Path, tmp_path: Path) -> None:
    result = engine.run(counterfactual(registered_scan, source=Conditions(sex="M")), tmp_path)
    conditions = result.provenance["conditions"]
    assert conditions["source"]["sex"] == "M" and conditions["source"]["modality"] == "T1"
    assert set(result.provenance["conditions_read_from_probes"]) == {"disease", "age_years"}
    assert any("read from the scan" in w for w in result.warnings)
    assert conditions["target"] == {**conditions["source"], "disease": "AD"}


def test_full_rendering_and_reconstruction_decode_the_brain_only(
    engine: Engine, registered_scan: Path, tmp_path: Path
) -> None:
    outside = engine.preprocess(Volume.load(registered_scan)).native_mask.array == 0
    full = engine.run(counterfactual(registered_scan, rendering="full"), tmp_path / "full")
    kept = engine.run(ReconstructRequest(str(registered_scan)), tmp_path / "kept")
    for volume in (images(full, "counterfactual")[None], images(kept, "reconstruction")[None]):
        assert not volume.array[outside].any() and volume.array.max() > 0
    assert kept.provenance["quality"]["mse_zscored_brain"] > 0


def test_preprocessing_needs_no_checkpoint_and_writes_masks_in_both_grids(
    registered_scan: Path, tmp_path: Path
) -> None:
    result = Engine(tmp_path / "nothing").run(PreprocessRequest(str(registered_scan)), tmp_path / "out")
    mask = images(result, "mask")[None]
    assert set(np.unique(mask.array)) == {0.0, 1.0}
    assert "sub-01_ses-2_space-native_desc-brain_mask.nii.gz" in names(result)
    assert not any(o.synthetic for o in result.outputs)


def test_nrrd_in_is_nrrd_out(engine: Engine, registered_scan: Path, tmp_path: Path) -> None:
    path = Volume.load(registered_scan).save(tmp_path / "scan.nrrd")
    result = engine.run(PreprocessRequest(str(path)), tmp_path / "out")
    assert names(result) >= {"scan_space-SRI24_desc-preproc_T1w.nrrd"}


@pytest.mark.parametrize("target", [{"disease": "Alzheimer"}, {"sex": "X"}, {"age_years": 300.0}, {"site": "A"}])
def test_conditions_the_checkpoint_does_not_know_are_refused_by_name(
    engine: Engine, registered_scan: Path, tmp_path: Path, target: dict[str, object]
) -> None:
    with pytest.raises(RequestError) as caught:
        engine.run(counterfactual(registered_scan, target=Conditions(**target)), tmp_path / "out")  # type: ignore[arg-type]
    assert str(next(iter(target))) in caught.value.message
    assert not (tmp_path / "out").exists()
    if "disease" in target:
        assert "Did you mean 'AD'?" in caught.value.hint


@pytest.mark.parametrize(
    "changes", [{"strength": 2.0}, {"num_steps": 0}, {"num_steps": 2.5}, {"guidance_scale": float("nan")},
                {"rendering": "residal"}, {"seed": -1}, {"input": ""}],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(
    engine: Engine, registered_scan: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(RequestError):
        engine.run(counterfactual(registered_scan, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bad_request_is_refused_before_torch_is_imported(tiny_checkpoint: Path, registered_scan: Path) -> None:
    code = (
        "import sys\n"
        "from braing3n_core.engine import Engine\n"
        "from braing3n_core.schema import *\n"
        "from braing3n_core.errors import RequestError\n"
        "try:\n"
        f"    Engine({str(tiny_checkpoint)!r}).run(CounterfactualRequest({str(registered_scan)!r},"
        " target=Conditions(disease='flu')), 'nowhere')\n"
        "except RequestError:\n"
        "    sys.exit(3 if 'torch' in sys.modules else 0)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_cancelled_run_leaves_no_file(engine: Engine, registered_scan: Path, tmp_path: Path) -> None:
    cancel, out = Cancel(), tmp_path / "out"

    def stop_at_writing(fraction: float, message: str) -> None:
        if message.startswith("Writing"):
            cancel.cancel()

    with pytest.raises(Cancelled):
        engine.run(counterfactual(registered_scan), out, progress=stop_at_writing, cancel=cancel)
    assert not out.exists()


def test_a_change_arrives_in_the_scanners_own_space_times_the_bias_field(engine: Engine, encoded: Encoded) -> None:
    tilted = _tilted(encoded.preprocessed)
    scan = dataclasses.replace(encoded, preprocessed=tilted)
    rendered = engine.counterfactual(scan, CounterfactualRequest("-", target=AD, source=KNOWN, num_steps=2)).rendered
    assert rendered.native.same_grid(tilted.native)
    back = np.linalg.inv(tilted.record.transform())
    moved = to_grid(rendered.atlas_difference, back, tilted.native.shape, tilted.native.affine).array
    deep = to_grid(tilted.mask, back, tilted.native.shape, tilted.native.affine).array == 1
    deep[:, ::2] = False
    answer = rendered.native_difference.array
    assert np.corrcoef(answer[deep], moved[deep])[0, 1] > 0.9
    assert tilted.bias is not None
    left, right = deep.copy(), deep.copy()
    half = answer.shape[0] // 2
    left[half:], right[:half] = False, False
    # The field is 2 in one half and 1 in the other; inside both masks the rest is the same.
    kept = [np.abs(answer[side]).sum() / np.abs(moved[side]).sum() for side in (left, right)]
    ratio = kept[0] / kept[1]
    assert 1.7 < ratio < 2.3


def _tilted(preprocessed: Preprocessed) -> Preprocessed:
    """The same brain in a 2 mm LIA-like grid, rotated and shifted against the atlas, with a step in the bias field."""
    angle = np.deg2rad(12)
    transform = np.eye(4)
    transform[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    transform[:3, 3] = (4, -3, 6)
    affine = np.array([[0, 0, -2.0, 5], [0, -2, 0, 245], [2, 0, 0, -5], [0, 0, 0, 1]])
    affine = np.linalg.inv(transform) @ np.array([[-2.0, 0, 0, 10], [0, 0, 2, -10], [0, -2, 0, 165], [0, 0, 0, 1]])
    shape, back = (130, 90, 130), np.linalg.inv(transform)
    native = to_grid(preprocessed.volume, back, shape, affine)
    inside = to_grid(preprocessed.mask, back, shape, affine, order=0)
    bias = np.ones(shape, np.float32)
    bias[: shape[0] // 2] = 2
    record = dataclasses.replace(
        preprocessed.record, native_to_atlas=as_matrix(transform), input_shape=shape, input_affine=as_matrix(affine)
    )
    return dataclasses.replace(
        preprocessed, native=native, native_mask=inside, bias=native.with_array(bias), record=record
    )


def test_bfloat16_reads_what_float32_reads(tiny_checkpoint: Path, encoded: Encoded) -> None:
    latents = {}
    for precision in ("float32", "bfloat16"):
        latents[precision] = Engine(tiny_checkpoint, "cpu", precision).encode(encoded.preprocessed).latents
    scale = latents["float32"].std()
    assert np.abs(latents["float32"] - latents["bfloat16"]).mean() < 0.02 * scale


def test_the_embedded_default_reads_and_edits_the_template(registered_scan: Path, tmp_path: Path) -> None:
    if not default_checkpoint().is_dir():
        pytest.skip("The embedded default is not in this checkout.")
    engine = Engine(device="cpu")
    probed = engine.run(ProbeRequest(str(registered_scan)), tmp_path / "probe")
    readings = {r.task: r for r in probed.readings}
    assert readings.keys() >= {"age", "sex", "disease", "modality"}
    assert readings["modality"].value == "T1"
    edited = engine.run(counterfactual(registered_scan, num_steps=6), tmp_path / "edit")
    effects = {e.task: e for e in edited.effects}
    assert isinstance(effects["ventricle_volume"].after, float)
    assert effects["ventricle_volume"].after > effects["ventricle_volume"].before  # type: ignore[operator]


def test_an_output_folder_that_is_a_file_is_refused(engine: Engine, registered_scan: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BrainG3NError) as caught:
        engine.run(ProbeRequest(str(registered_scan)), tmp_path / "out")
    assert caught.value.code == "output.folder"


def test_requests_and_outputs_are_listed_as_they_lie(engine: Engine, registered_scan: Path, tmp_path: Path) -> None:
    request: Request = EncodeRequest(str(registered_scan))
    result = engine.run(request, tmp_path / "deep" / "er")
    assert result.outputs == (Output("encoding", str(tmp_path / "deep" / "er" / "sub-01_ses-2_desc-encoding.npz")),)
    arrays = np.load(result.outputs[0].path)
    assert arrays["tokens"].shape == (1200, 48) and arrays["embedding"].shape == (48,)
    np.testing.assert_allclose(arrays["tokens"].astype(np.float32).mean(0), arrays["embedding"], atol=2e-3)
