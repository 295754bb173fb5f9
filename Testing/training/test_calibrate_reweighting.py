"""The weights of the parts that brains are put together from, by contrast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.errors import RequestError
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from training.calibrate_reweighting import best, main
from training.drawn import drawn_like, reweighted_like
from training.likeness import Likeness
from training.loop import TrainingError

from ..core.tiny_checkpoint import make_tiny_checkpoint, with_another_generator, with_varied_generator
from .validation_scans import Calibration, scans


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return with_varied_generator(make_tiny_checkpoint(folder / "plain"), folder / "varied")


@pytest.fixture
def calibrate(monkeypatch: pytest.MonkeyPatch) -> Calibration:
    return Calibration(main, monkeypatch)


def test_the_weights_at_which_brains_are_least_apart_are_the_best_and_of_equals_the_least_specific() -> None:
    def chosen(means: dict[tuple[float, float], float]) -> tuple[float, ...]:
        return best({way: [Likeness(mean - 0.5, 1, 1), Likeness(mean + 0.5, 1, 1)] for way, mean in means.items()})

    assert chosen({(1, 1): 0.4, (1.5, 0.8): 0.2, (1.5, 0.4): 0.25}) == (1.5, 0.8)
    assert chosen({(1.5, 0.6): -0.6, (1.25, 0.4): -0.52, (1.5, 0.4): -0.57, (1.5, 0.2): -0.4}) == (1.5, 0.4)
    assert chosen({(1, 1): 0.1, (1.5, 0.8): -0.05, (1.5, 0.4): 0.01}) == (1.5, 0.8)
    assert chosen({(1, 1): 0.1, (1.5, 0.8): 0.2}) == (1, 1)


def test_the_calibrated_generator_puts_brains_together_with_the_weights_it_found(
    checkpoint: Path, tmp_path: Path, calibrate: Calibration, capsys: pytest.CaptureFixture[str]
) -> None:
    data = scans(load_checkpoint(checkpoint / "tokenizer").id)
    after = load_checkpoint(calibrate(checkpoint, data, tmp_path, "--common", "1.5", "--specific", "0.5", "0.9"))
    table, chosen = after.metrics["reweighting"]["T1"], tuple(after.config["reweighting"]["T1"])
    means = {
        tuple(map(float, way.split(", "))): [Likeness(**found) for found in row.values()] for way, row in table.items()
    }
    assert set(means) == {(1.0, 1.0), (1.5, 0.5), (1.5, 0.9)} and chosen == best(means)
    assert set(after.config["reweighting"]) == {"T1"} and f"T1: {chosen[0]:g}, {chosen[1]:g}" in capsys.readouterr().out
    before = load_checkpoint(checkpoint / "dit")
    assert all(np.array_equal(a, before.tensors()[name]) for name, a in after.tensors().items())
    run = Inference(Parts(with_another_generator(checkpoint, after.folder, tmp_path / "set"), "cpu"))
    assert run.reweighting("T1") == chosen and run.reweighting("T2") == (1, 1)


def test_brains_that_are_put_together_again_are_those_that_are_drawn_so(checkpoint: Path) -> None:
    run, records = Inference(Parts(checkpoint, "cpu")), scans("any").records[:6]
    drawn = drawn_like(run, records, reweighting=(1.0, 1.0))
    again, at_once = reweighted_like(run, records, drawn, (1.5, 0.5)), drawn_like(run, records, reweighting=(1.5, 0.5))
    np.testing.assert_allclose(again, at_once, atol=1e-5)
    assert np.array_equal(reweighted_like(run, records, drawn, (1.0, 1.0)), drawn)
    assert np.abs(again - drawn).max() > 0.1


def test_weights_that_are_none_and_generators_without_parts_are_refused(
    checkpoint: Path, tmp_path: Path, calibrate: Calibration
) -> None:
    data = scans(load_checkpoint(checkpoint / "tokenizer").id)
    with pytest.raises(TrainingError, match=r"from 0 to 3, got \[-1\.0\] and \[0\.8, 0\.6, 0\.4, 0\.2\]"):
        calibrate(checkpoint, data, tmp_path, "--common", "-1")
    with pytest.raises(RequestError, match="neither factors nor fields"):
        calibrate(make_tiny_checkpoint(tmp_path / "plain"), data, tmp_path)
