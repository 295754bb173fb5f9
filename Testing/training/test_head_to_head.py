"""What stands beside our encoder: published architectures with a user's file, and a small CNN that really learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from braing3n_core.errors import BrainG3NError
from training.evaluate import public_encoders
from training.evaluate.metrics.scores import auc, calibration_error, correlation
from training.evaluate.public_encoders import KINDS, Kind, PublicEncoder, cube
from training.evaluate.small_cnn import Answers, coarse, out_of_fold
from training.fit_linear import subject_folds


class Pooled(nn.Module):
    """A stand-in small enough for every test run, loaded by the same code as the published ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 4, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(x).mean((2, 3, 4))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Kind:
    kind = Kind("Tiny", ("module.", ""), lambda weights: Pooled(), lambda net, x: net(x))
    monkeypatch.setitem(public_encoders.KINDS, "tiny", kind)
    return kind


def volume() -> np.ndarray:
    made = np.zeros((160, 192, 160), np.float32)
    made[40:120, 40:150, 40:120] = np.random.default_rng(0).normal(100, 10, (80, 110, 80))
    return (made - made.mean()) / made.std()


def test_a_cube_has_two_millimetres_the_brain_in_its_middle_and_nothing_around_it() -> None:
    found = cube(volume())
    assert found.shape == (96, 96, 96)
    assert found[0].abs().max() == 0 == found[:, :, 0].abs().max()
    # x 40..120 of 160, padded by 16 on each side to 192, halved: 28..68.
    filled = np.flatnonzero(found.abs().amax((1, 2)).numpy())
    assert (filled.min(), filled.max()) == (28, 67)


@pytest.mark.parametrize("wrapped", [True, False])
def test_weights_are_found_below_their_prefix_and_give_the_features_of_the_network(
    tiny: Kind, wrapped: bool, tmp_path: Path
) -> None:
    network = Pooled().eval()
    weights = {f"module.{k}" if wrapped else k: v for k, v in network.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3} if wrapped else weights, tmp_path / "weights.pth")
    encoder = PublicEncoder("tiny", tmp_path / "weights.pth")
    with torch.inference_mode():
        expected = network(cube(volume())[None, None])[0]
    np.testing.assert_allclose(encoder.of(volume()), expected, rtol=1e-5)
    assert encoder.name == "Tiny" and encoder.source.startswith("weights.pth, sha256 ")


def test_a_file_that_lacks_a_weight_or_has_it_in_another_shape_is_refused(tiny: Kind, tmp_path: Path) -> None:
    weights = Pooled().state_dict()
    torch.save({"conv1.bias": weights["conv1.bias"]}, tmp_path / "lacks.pth")
    torch.save({**weights, "conv1.bias": torch.zeros(5)}, tmp_path / "other.pth")
    with pytest.raises(BrainG3NError, match=r"lacks conv1.weight \(4, 1, 8, 8, 8\)"):
        PublicEncoder("tiny", tmp_path / "lacks.pth")
    with pytest.raises(BrainG3NError, match=r"has the shape \(5,\) for conv1.bias"):
        PublicEncoder("tiny", tmp_path / "other.pth")


class Surprise:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code of a stranger ran",))


def test_a_file_that_would_run_code_is_refused(tiny: Kind, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"state_dict": Surprise()}, tmp_path / "evil.ckpt")
    with pytest.raises(BrainG3NError, match="cannot be read without running code"):
        PublicEncoder("tiny", tmp_path / "evil.ckpt")
    assert "stranger" not in capsys.readouterr().out


def test_an_unknown_encoder_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BrainG3NError) as caught:
        PublicEncoder("brainac", tmp_path)
    assert "Did you mean 'brainiac'?" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "prefix", "features"), [
    ("brainiac", "backbone.", 768), ("brainsegfounder", "module.swinViT.", 768), ("medicalnet", "module.", 2048),
])
def test_the_published_architectures_load_a_file_of_the_published_form(
    kind: str, prefix: str, features: int, tmp_path: Path
) -> None:
    pytest.importorskip("monai")
    made = KINDS[kind].build({})
    weights = {prefix + k: v for k, v in made.state_dict().items() if "cross_attn" not in k}
    torch.save({"state_dict": weights}, tmp_path / "weights.pth")
    found = PublicEncoder(kind, tmp_path / "weights.pth").of(volume())
    assert found.shape == (features,) and np.isfinite(found).all() and found.std() > 0


def planted(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Coarse volumes whose brightness is the number (n,)."""
    rng = np.random.default_rng(1)
    y = rng.uniform(20, 80, count)
    noise = rng.normal(0, 0.5, (count, 16, 16, 16))
    noise[:, 4:12, 4:12, 4:12] += y[:, None, None, None] / 20
    return noise.astype(np.float16), y


def test_the_small_cnn_learns_a_number_and_a_word_it_is_shown_and_predicts_them_of_others() -> None:
    volumes, y = planted()
    everyone = np.ones(len(y), bool)
    old = np.where(y > 50, "old", "young")
    tasks = {"age": Answers(y, everyone), "word": Answers(old, everyone, ("old", "young"))}
    found = out_of_fold(volumes, tasks, subject_folds(np.arange(len(y)).astype(str), old), epochs=12)
    assert correlation(y, found["age"]) > 0.8
    assert auc(old == "old", found["word"][:, 0]) > 0.9


def test_the_small_cnn_reads_nothing_where_there_is_nothing_and_leaves_the_global_seed_alone() -> None:
    volumes, _ = planted()
    labels = np.random.default_rng(7).permutation(np.repeat(["a", "b"], len(volumes) // 2))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tasks = {"word": Answers(labels, np.ones(len(labels), bool), ("a", "b"))}
    found = out_of_fold(volumes, tasks, subject_folds(np.arange(len(labels)).astype(str), labels), epochs=4)
    assert abs(auc(labels == "a", found["word"][:, 0]) - 0.5) < 0.25
    assert torch.equal(before, torch.get_rng_state())


def test_labels_that_are_not_known_teach_nothing() -> None:
    volumes, y = planted()
    known = np.arange(len(y)) % 2 == 0
    folds = subject_folds(np.arange(len(y)).astype(str))
    tasks = {"age": Answers(np.where(known, y, 1e6), known)}
    one = out_of_fold(volumes, tasks, folds[:1], epochs=2)["age"]
    other = out_of_fold(volumes, {"age": replace(tasks["age"], labels=np.where(known, y, -5.0))}, folds[:1], epochs=2)
    np.testing.assert_array_equal(one, other["age"])
    assert np.isnan(one[folds[0][0]]).all() and np.isfinite(one[folds[0][1]]).all()


def test_a_coarse_volume_is_the_mean_of_its_cells() -> None:
    made = coarse(np.arange(160 * 192 * 160, dtype=np.float32).reshape(160, 192, 160) / 1e6)
    assert made.shape == (40, 48, 40) and made.dtype == np.float16


def test_a_probe_that_is_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    right = np.arange(1000) % 10 < 8
    assert calibration_error(np.full(1000, 0.8), right) == pytest.approx(0, abs=1e-9)
    assert calibration_error(np.full(1000, 1.0), right) == pytest.approx(0.2)
