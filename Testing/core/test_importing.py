"""Released weights become an encoder only by a mapping that fits, and each mismatch is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.cli import main
from braing3n_core.errors import CheckpointError, ConfigError
from braing3n_core.importing import import_encoder
from braing3n_core.models.mae import Encoder, EncoderConfig

CONFIG = EncoderConfig(width=24, depth=2, num_heads=2)
MAPPING = """
[encoder]
width = 24
depth = 2
num_heads = 2

[tensors]
"cls" = { from = ["token.cls", "token.positions"], op = "add_first" }
"positions" = { from = "token.positions", op = "drop_first" }
"patch_embed.weight" = { from = "stem.kernel", op = "flatten" }
"patch_embed.bias" = "stem.bias"
"blocks.{i}.norm1.weight" = "layer.{i}.a.gain"
"blocks.{i}.norm1.bias" = "zeros"
"blocks.{i}.norm2.weight" = "layer.{i}.b.gain"
"blocks.{i}.norm2.bias" = "layer.{i}.b.shift"
"blocks.{i}.attn.qkv.weight" = { from = ["layer.{i}.q", "layer.{i}.k", "layer.{i}.v"], op = "join" }
"blocks.{i}.attn.qkv.bias" = "zeros"
"blocks.{i}.attn.out.weight" = { from = "layer.{i}.o", op = "transpose" }
"blocks.{i}.attn.out.bias" = "layer.{i}.o_bias"
"blocks.{i}.mlp.0.weight" = "layer.{i}.up"
"blocks.{i}.mlp.0.bias" = "layer.{i}.up_bias"
"blocks.{i}.mlp.2.weight" = "layer.{i}.down"
"blocks.{i}.mlp.2.bias" = "layer.{i}.down_bias"
"norm.weight" = "last.gain"
"norm.bias" = "last.shift"

[ignore]
names = ["head.*"]
"""


def encoder() -> Encoder:
    """Random weights, with the biases that the foreign file does not have at zero."""
    torch.manual_seed(3)
    model = Encoder(CONFIG)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1)
        if name.endswith(("norm1.bias", "qkv.bias")):
            torch.nn.init.zeros_(parameter)
    return model.eval()


def foreign(model: Encoder) -> dict[str, torch.Tensor]:
    """The same weights under other names and in other shapes, as somebody else might have released them."""
    first = torch.full((1, 1, 24), 0.5)
    tensors = {
        "token.cls": model.cls - first, "token.positions": torch.cat([first, model.positions], 1),
        "stem.kernel": model.patch_embed.weight.reshape(24, 1, 16, 16, 16), "stem.bias": model.patch_embed.bias,
        "last.gain": model.norm.weight, "last.shift": model.norm.bias, "head.weight": torch.ones(3),
    }
    for i, block in enumerate(model.blocks):
        q, k, v = block.attn.qkv.weight.chunk(3)
        tensors |= {f"layer.{i}.{n}": t for n, t in {
            "q": q, "k": k, "v": v, "o": block.attn.out.weight.T, "o_bias": block.attn.out.bias,
            "a.gain": block.norm1.weight, "b.gain": block.norm2.weight, "b.shift": block.norm2.bias,
            "up": block.mlp[0].weight, "up_bias": block.mlp[0].bias, "down": block.mlp[2].weight,
            "down_bias": block.mlp[2].bias,
        }.items()}  # fmt: skip
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def write(folder: Path, tensors: dict[str, torch.Tensor], mapping: str = MAPPING) -> tuple[Path, Path]:
    file, rules = folder / "released.safetensors", folder / "map.toml"
    save_file(tensors, file)
    rules.write_text(mapping)
    return file, rules


def test_an_imported_encoder_gives_the_tokens_of_the_one_that_was_released(tmp_path: Path) -> None:
    original = encoder()
    file, rules = write(tmp_path, foreign(original))
    assert main(["import-encoder", str(file), "--mapping", str(rules), "-o", str(tmp_path / "encoder")]) == 0
    checkpoint = load_checkpoint(tmp_path / "encoder", "encoder")
    imported = Encoder(checkpoint.fill(EncoderConfig)).eval()
    imported.load_state_dict(checkpoint.tensors("pt"))
    patches = torch.randn(1, 1200, 4096)
    with torch.inference_mode():
        torch.testing.assert_close(imported.encode_patches(patches), original.encode_patches(patches))


@pytest.mark.parametrize(("old", "new", "sentence"), [
    ('"norm.bias" = "last.shift"', "", "does not say what 'norm.bias' is"),
    ('"last.gain"', '"last.gian"', "Did you mean 'last.gain'"),
    ('"norm.bias" =', '"norm.bais" =', "which the encoder does not have. Did you mean 'norm.bias'"),
    ('names = ["head.*"]', "names = []", "'head.weight' (3,) is neither used nor ignored"),
    ('op = "transpose"', 'op = "flip"', "has the operation 'flip'"),
    ('op = "flatten"', 'op = "same"', "has the shape (24, 4096), but stem.kernel give (24, 1, 16, 16, 16)"),
    ('"layer.{i}.k", ', "", "has the shape (72, 24), but layer.0.q and layer.0.v give (48, 24)"),
])  # fmt: skip
def test_a_mismatch_is_a_sentence_and_nothing_is_written(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in MAPPING
    file, rules = write(tmp_path, foreign(encoder()), MAPPING.replace(old, new, 1))
    with pytest.raises(CheckpointError) as caught:
        import_encoder(file, rules, tmp_path / "encoder")
    assert sentence in str(caught.value)
    assert not (tmp_path / "encoder").exists()


def test_every_mismatch_is_told_at_once(tmp_path: Path) -> None:
    mapping = MAPPING.replace('"last.gain"', '"nothing"').replace('names = ["head.*"]', "names = []")
    file, rules = write(tmp_path, foreign(encoder()), mapping)
    with pytest.raises(CheckpointError) as caught:
        import_encoder(file, rules, tmp_path / "encoder")
    assert all(word in caught.value.message for word in ("'nothing'", "'last.gain'", "'head.weight'"))


def test_a_pickled_file_is_not_read(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pt")
    (tmp_path / "map.toml").write_text(MAPPING)
    with pytest.raises(CheckpointError, match="never read"):
        import_encoder(tmp_path / "weights.pt", tmp_path / "map.toml", tmp_path / "encoder")


def test_a_table_that_is_not_known_names_the_nearest(tmp_path: Path) -> None:
    file, rules = write(tmp_path, foreign(encoder()), MAPPING.replace("[ignore]", "[ignored]"))
    with pytest.raises(ConfigError, match="Did you mean 'ignore'"):
        import_encoder(file, rules, tmp_path / "encoder")
