"""The whole report on a tiny checkpoint: every table in every form, no broken picture, nothing computed twice."""

from __future__ import annotations

import base64
import csv
import dataclasses
import html.parser
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from braing3n_core.calibration import Calibration
from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from training.calibrate_forecaster import recalibrated
from training.evaluate.__main__ import main, run_all
from training.evaluate.features import TorchScriptFeatures
from training.evaluate.study import QUICK, Study
from training.evaluate.table import Table, load_table, save_table
from training.evaluate.tables import TABLES, control, truncation
from training.evaluate.tables.control import AGE, TYPICAL, TYPICAL_SHARE
from training.evaluate.tables.longitudinal import CALIBRATED, OURS, THE_BRIDGE
from training.evaluate.tables.truncation import SHARES
from training.store import Store

from ..core.tiny_checkpoint import make_tiny_bridge, make_tiny_checkpoint, with_plain_generator


class Page(html.parser.HTMLParser):
    """Sections and the bytes of every picture."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.images: list[bytes] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "section":
            self.sections.append(given["id"] or "")
        if tag == "a":
            self.links.append((given["href"] or "").removeprefix("#"))
        if tag == "img":
            head, data = (given["src"] or "").split(",", 1)
            assert head == "data:image/png;base64" and given["alt"]
            self.images.append(base64.b64decode(data, validate=True))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny set with a calibrated forecaster, and a bridge on its latents in ``bridge``."""
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    make_tiny_bridge(folder)
    recalibrated(load_checkpoint(folder / "forecaster"), Calibration(2.0, {"ventricle_volume": 1e6}), folder)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("other"), seed=2)


@pytest.fixture(scope="module")
def report(balls: Path, checkpoint: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick report, made as a user makes it."""
    out = tmp_path_factory.mktemp("report")
    arguments = ["all", "--store", str(balls), "--checkpoint", str(checkpoint), "-o", str(out), "--quick",
                 "--bridge", str(checkpoint / "bridge"), "--reconstructors", str(other)]
    assert main(arguments) == 0
    return out


def values(report: Path, name: str) -> dict[str, float]:
    found = json.loads((report / "tables" / f"{name}.json").read_text())
    return dict(found["table"]["values"])


def test_every_table_is_there_in_the_papers_order_in_every_form(report: Path) -> None:
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    assert page.sections == list(TABLES) == page.links
    text = (report / "report.md").read_text(encoding="utf-8")
    for name in TABLES:
        rows = list(csv.reader(io.StringIO((report / "tables" / f"{name}.tsv").read_text()), delimiter="\t"))
        assert len(rows) > 1 and len({len(row) for row in rows}) == 1, name
        assert f"tables/{name}.tsv" in text
        assert all("phantoms" in row[0] for row in rows[1:])


def test_no_picture_of_the_report_is_broken_or_blank(report: Path) -> None:
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    files = sorted((report / "pictures").glob("*.png"))
    assert len(page.images) == len(files) > len(TABLES)
    for data in [*page.images, *(f.read_bytes() for f in files)]:
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        assert min(pixels.shape) > 100 and pixels.std() > 5


def test_the_markdown_names_only_pictures_that_are_there(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    named = [part.split(")")[0] for part in text.split("](")[1:]]
    assert named and all((report / name).is_file() for name in named)


def test_the_report_says_that_it_is_synthetic_and_names_no_folder_of_the_machine(report: Path, balls: Path) -> None:
    for name in ("report.html", "report.md"):
        text = (report / name).read_text(encoding="utf-8")
        assert "SYNTHETIC" in text and str(balls.parent) not in text and "paper (patients)" in text


def test_the_facts_that_hold_for_any_weights_come_out(report: Path) -> None:
    edits = values(report, "counterfactual")
    assert edits["HC -> AD/composition"] == 0 == edits["age +10 y/composition"]
    audit = values(report, "memorisation")
    assert audit["planted copies/copies"] == audit["planted copies/number"] > 0
    follow_up = values(report, "longitudinal")
    assert follow_up["copy of the baseline/ventricle volume (ml)/delta-RMAE"] == 1
    assert follow_up["real follow-up (ceiling)/brain age (years)/over change"] == pytest.approx(1)
    assert values(report, "bottleneck")["mse"] > 0


def test_truncation_starts_at_the_brains_as_they_are_drawn_and_takes_variety_away(report: Path) -> None:
    found, asked = values(report, "truncation"), values(report, "controllability")
    assert found["shipped/r/1"] == asked[f"{AGE}/shipped/r"] != asked[f"{TYPICAL}/shipped/r"]
    assert found[f"shipped/r/{TYPICAL_SHARE:g}"] == asked[f"{TYPICAL}/shipped/r"]
    spread = [found[f"slices, 8 mm/variety/{share:g}"] for share in SHARES]
    assert all(more > less for more, less in itertools.pairwise(spread))


def test_a_generator_without_a_mean_brain_is_shown_as_it_is(balls: Path, checkpoint: Path, tmp_path: Path) -> None:
    folder = with_plain_generator(checkpoint, tmp_path)
    study = Study(Store.open(balls), "balls", Inference(Parts(folder)), tmp_path / "out", QUICK)
    table = truncation.compute(study)
    assert [row[0] for row in table.rows] == ["1", "people"] and "no mean brain" in table.notes[0]
    assert control.aged(study, TYPICAL, TYPICAL_SHARE, {})[2] == "the checkpoint knows no mean brain"


def test_the_checkpoints_calibration_multiplies_its_forecast_and_widens_its_intervals(report: Path) -> None:
    found = values(report, "longitudinal")
    key = "ventricle volume (ml)/over time"
    assert found[f"{CALIBRATED}/{key}"] == pytest.approx(2 * found[f"{OURS}/{key}"])
    assert found[f"{CALIBRATED}/ventricle volume (ml)/coverage"] == 1


def test_the_papers_bridge_and_another_tokenizer_have_rows_beside_ours(report: Path, other: Path) -> None:
    found = values(report, "longitudinal")
    assert np.isfinite(found[f"{THE_BRIDGE}/ventricle volume (ml)/delta-RMAE"])
    assert found[f"{THE_BRIDGE}/ventricle volume (ml)/delta-RMAE"] != found[f"{OURS}/ventricle volume (ml)/delta-RMAE"]
    rebuilt = values(report, "bottleneck")
    assert rebuilt[f"{other.name}, 32 channels/mse"] > 0


def test_a_bridge_on_other_latents_is_refused_at_once(checkpoint: Path, other: Path, balls: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture) -> None:
    arguments = ["all", "--store", str(balls), "--checkpoint", str(other), "-o", str(tmp_path), "--quick", "--only",
                 "shipped", "longitudinal", "--bridge", str(checkpoint / "bridge")]
    assert main(arguments) == 1
    assert not (tmp_path / "tables").exists()  # before any table was computed
    assert "The bridge was trained on latents of the tokenizer" in capsys.readouterr().err


def test_no_published_encoder_is_shown_without_its_weights(report: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((report / "tables/encoders.tsv").read_text()), delimiter="\t"))
    with_data = [row for row in rows if row["scans"] != "0"]
    assert {row["task"] for row in with_data} == {"disease", "sex", "modality", "age"}
    assert all(row[k] == "no weights given" for row in with_data for k in ("BrainIAC", "BrainSegFounder", "MedicalNet"))
    assert all(row["small CNN, from scratch"] != "-" for row in with_data)


def test_tasks_without_data_say_so_and_those_with_data_have_both_readings(report: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((report / "tables/probing.tsv").read_text()), delimiter="\t"))
    by_task = {row["task"]: row for row in rows if row["slice"] == "all"}
    assert len(by_task) == 23
    assert by_task["MMSE"]["mean token"] == "no data in this cohort" == by_task["handedness"]["flattened latents"]
    assert float(by_task["age"]["flattened latents"].split()[0]) <= 1
    assert by_task["age"]["scans/subjects"] == "30/12" and by_task["sex"]["latents, leave site out"] != "-"


def test_a_finished_table_is_not_computed_again(report: Path, balls: Path, checkpoint: Path,
                                                monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def never(study: Study) -> Table:
        raise AssertionError("computed again")

    study = Study(Store.open(balls), "other words", Inference(Parts(checkpoint)), report, QUICK)
    same = dataclasses.replace(study, label=json.loads((report / "tables/guidance.json").read_text())["of"]["label"])
    monkeypatch.setitem(TABLES, "guidance", never)
    run_all(same, ["guidance"], "again")
    assert "finished before" in capsys.readouterr().err
    with pytest.raises(AssertionError, match="computed again"):
        run_all(study, ["guidance"], "other data")


def test_a_table_whose_picture_is_gone_is_not_finished(tmp_path: Path) -> None:
    from training.evaluate.table import Picture

    table = Table("t", "T", "data", ("a",), (("1",),), pictures=(Picture("p.png", "c"),))
    save_table(tmp_path, table, {"of": 1})
    assert load_table(tmp_path, "t", {"of": 1}) is None
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/p.png").write_bytes(b"")
    assert load_table(tmp_path, "t", {"of": 1}) == table
    assert load_table(tmp_path, "t", {"of": 2}) is None


def test_an_unknown_table_names_the_nearest(balls: Path, checkpoint: Path, tmp_path: Path,
                                            capsys: pytest.CaptureFixture) -> None:
    arguments = ["all", "--store", str(balls), "--checkpoint", str(checkpoint), "-o", str(tmp_path), "--only", "probin"]
    assert main(arguments) == 1
    assert "Did you mean 'probing'?" in capsys.readouterr().err


def test_a_missing_store_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["all", "--store", str(tmp_path), "-o", str(tmp_path)]) == 1
    assert "No finished training store" in capsys.readouterr().err


def test_a_local_torchscript_network_gives_the_features_of_three_slices(tmp_path: Path) -> None:
    import torch

    class Means(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    torch.jit.script(Means()).save(str(tmp_path / "means.pt"))
    features = TorchScriptFeatures(tmp_path / "means.pt", size=32)
    volume = np.zeros((160, 192, 160), np.float32)
    volume[80] = 1  # the sagittal slice is all bright, a line of the others is
    found = features.of(volume)
    assert features.name == "means" and found.shape == (9,)
    np.testing.assert_allclose(found[6:], 1, atol=1e-6)
    assert (found[:6] < -0.9).all()
