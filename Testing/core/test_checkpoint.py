"""A checkpoint is a verified folder; whatever is wrong with it is said in a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from braing3n_core import checkpoint as module
from braing3n_core.checkpoint import (
    FILES,
    CheckpointSpec,
    load_checkpoint,
    require_parent,
    resolve,
    save_checkpoint,
)
from braing3n_core.errors import CheckpointError

CARD = "Trained on digital phantoms; not for clinical use.\n\nMore.\n"


def _spec(kind: str = "dit", **changes: object) -> CheckpointSpec:
    ramp = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    weights = {"w": ramp, "std": np.float32([1e5, 2.0]), "n": np.array(3)}
    fields: dict[str, object] = {
        "kind": kind, "config": {"width": 8, "grid": (10, 12, 10)}, "tensors": weights, "card": CARD,
        "keep_float32": ("std",), "parents": {"tokenizer": "0123456789abcdef"}, "vocabularies": {"sex": ["F", "M"]},
    }
    return CheckpointSpec(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_saved_checkpoint_is_a_folder_a_person_can_open_and_comes_back_whole(tmp_path: Path) -> None:
    saved = save_checkpoint(tmp_path / "deep" / "dit", _spec())
    loaded = load_checkpoint(tmp_path / "deep" / "dit", "dit")
    assert sorted(p.name for p in saved.folder.iterdir()) == sorted([*FILES, "manifest.json"])
    assert loaded == saved and len(loaded.id) == 16 and loaded.config == {"width": 8, "grid": [10, 12, 10]}
    assert loaded.card == CARD and loaded.vocabularies == {"sex": ["F", "M"]}
    assert "Apache License" in (saved.folder / "LICENSE").read_text()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["dit"]


def test_weights_are_stored_in_half_precision_except_the_named_statistics(tmp_path: Path) -> None:
    saved = save_checkpoint(tmp_path / "dit", _spec())
    stored = saved.tensors(dtype=None)
    assert stored["w"].dtype == np.float16 and stored["std"].dtype == np.float32 and stored["n"].dtype.kind == "i"
    assert stored["std"][0] == 1e5 and stored["n"].shape == ()
    np.testing.assert_allclose(saved.tensors()["w"], np.linspace(-1, 1, 12).reshape(3, 4), atol=5e-4)
    assert saved.tensors()["w"].dtype == np.float32


def test_torch_tensors_go_in_and_come_out(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transposed, brain_float = torch.arange(6.0).reshape(2, 3).T, torch.ones(2, dtype=torch.bfloat16)
    weights = {"a": transposed, "b": brain_float, "p": torch.nn.Parameter(torch.ones(1))}
    loaded = save_checkpoint(tmp_path / "x", _spec(tensors=weights)).tensors("pt")
    assert torch.equal(loaded["a"], transposed) and loaded["b"].dtype == torch.float32
    assert not loaded["p"].requires_grad
    with pytest.raises(CheckpointError, match="framework"):
        load_checkpoint(tmp_path / "x").tensors("jax")


def test_values_that_overflow_half_precision_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'std'.*float16"):
        save_checkpoint(tmp_path / "x", _spec(keep_float32=()))
    assert list(tmp_path.iterdir()) == []


def test_the_id_follows_config_and_weights_but_not_card_or_metrics(tmp_path: Path) -> None:
    first = save_checkpoint(tmp_path / "a", _spec()).id
    assert first == save_checkpoint(tmp_path / "b", _spec(card=CARD + "x", metrics={"mse": 0.1})).id
    assert first != save_checkpoint(tmp_path / "c", _spec(config={"width": 9})).id
    assert first != save_checkpoint(tmp_path / "d", _spec(tensors={"w": np.ones(2)})).id
    assert first != save_checkpoint(tmp_path / "e", _spec(parents={})).id


@pytest.mark.parametrize("name", FILES)
def test_a_single_flipped_bit_in_any_file_is_found(tmp_path: Path, name: str) -> None:
    folder = save_checkpoint(tmp_path / "x", _spec()).folder
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = save_checkpoint(tmp_path / "x", _spec()).folder
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"lacks {name}"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sha256": 3}', "{}", '{"sha256": {}}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    folder = save_checkpoint(tmp_path / "x", _spec()).folder
    (folder / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match="never read"):
        load_checkpoint(tmp_path)


def _rewrite_config(folder: Path, change: dict[str, object]) -> None:
    """Edit config.json as its author could: with a consistent id and manifest."""
    import hashlib

    config = {**json.loads((folder / "config.json").read_text()), **change}
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    config["id"] = module._identity(config, weights)
    (folder / "config.json").write_bytes(module._json(config))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["config.json"] = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "x", _spec()).folder
    _rewrite_config(folder, {"format": 99})
    with pytest.raises(CheckpointError, match=r"format 99.*Update"):
        load_checkpoint(folder)


def test_an_older_format_goes_through_its_named_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def from_0(config: dict[str, object]) -> dict[str, object]:
        return {**config, "format": module.FORMAT, "config": {"width": 16}}

    folder = save_checkpoint(tmp_path / "x", _spec()).folder
    _rewrite_config(folder, {"format": 0})
    monkeypatch.setattr(module, "MIGRATIONS", {0: from_0})
    assert load_checkpoint(folder).config == {"width": 16}


@pytest.mark.parametrize("kind", ["dit", "forecaster", "tokenizer"])
def test_a_transformer_of_format_1_keeps_the_even_waves_it_was_trained_with(tmp_path: Path, kind: str) -> None:
    folder = save_checkpoint(tmp_path / "x", _spec(kind, parents={})).folder
    before = load_checkpoint(folder)
    _rewrite_config(folder, {"format": 1})
    waves = {} if kind == "tokenizer" else {"waves": "even"}
    assert load_checkpoint(folder).config == {**before.config, **waves}


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x", _spec("tokenizer", parents={}))
    with pytest.raises(CheckpointError, match="'tokenizer', not 'dit'"):
        load_checkpoint(tmp_path / "x", "dit")


def test_a_child_refuses_a_parent_it_was_not_trained_on(tmp_path: Path) -> None:
    tokenizer = save_checkpoint(tmp_path / "t", _spec("tokenizer", parents={}))
    other = save_checkpoint(tmp_path / "o", _spec("tokenizer", parents={}, config={}))
    child = save_checkpoint(tmp_path / "d", _spec(parents={"tokenizer": tokenizer.id}))
    require_parent(child, tokenizer)
    with pytest.raises(CheckpointError, match=f"{tokenizer.id}.*{other.id}"):
        require_parent(child, other)
    with pytest.raises(CheckpointError, match="none recorded"):
        require_parent(save_checkpoint(tmp_path / "e", _spec(parents={})), tokenizer)


def test_saving_over_a_checkpoint_needs_to_be_asked_for(tmp_path: Path) -> None:
    first = save_checkpoint(tmp_path / "x", _spec())
    with pytest.raises(CheckpointError, match="exists"):
        save_checkpoint(tmp_path / "x", _spec(config={}))
    assert load_checkpoint(tmp_path / "x").id == first.id
    assert save_checkpoint(tmp_path / "x", _spec(config={}), overwrite=True).id != first.id
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_save_that_fails_leaves_nothing_and_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save_checkpoint(tmp_path / "x", _spec())

    def full_disk(self: Path, content: bytes) -> int:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path / "x", _spec(config={}), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and load_checkpoint(tmp_path / "x").id == first.id


@pytest.mark.parametrize("card", ["", "  \n", "A fine model.\nNot for clinical use."])
def test_the_first_line_of_the_card_must_carry_the_disclaimer(tmp_path: Path, card: str) -> None:
    with pytest.raises(CheckpointError, match="not for clinical use"):
        save_checkpoint(tmp_path / "x", _spec(card=card))


@pytest.mark.parametrize(
    "changes", [{"kind": "vae"}, {"dtype": "int8"}, {"config": {"x": float("nan")}}, {"config": {"x": object()}}]
)
def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(CheckpointError):
        save_checkpoint(tmp_path / "x", _spec(**{"kind": "dit", **changes}))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_config_fills_its_dataclass_and_names_the_nearest_key(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Config:
        width: int = 4
        grid: tuple[int, int, int] = (1, 1, 1)

    Config.__annotations__ = {"width": int, "grid": tuple[int, int, int]}
    assert save_checkpoint(tmp_path / "x", _spec()).fill(Config) == Config(8, (10, 12, 10))
    with pytest.raises(CheckpointError, match="'width'"):
        save_checkpoint(tmp_path / "y", _spec(config={"widht": 3})).fill(Config)


def test_small_names_the_embedded_default_and_an_unknown_path_is_refused(tmp_path: Path) -> None:
    assert resolve(tmp_path) == tmp_path
    assert module.default_checkpoint().parts[-3:] == ("braing3n_core", "checkpoints", "small")
    with pytest.raises(CheckpointError, match="nowhere"):
        resolve(tmp_path / "nowhere")


def test_checkpoints_load_without_torch(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x", _spec())
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from braing3n_core.checkpoint import load_checkpoint\n"
        "import braing3n_core.probes\n"
        f"print(load_checkpoint({str(tmp_path / 'x')!r}).tensors()['w'].sum())"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=env)
