"""``braing3n export-bundle``: encoder and tokenizer as a MONAI bundle, which ``python -m monai.bundle run`` runs.

The bundle's network is :class:`braing3n_core.models.autoencoder.Autoencoder`, so BrainG3N must be installed beside
MONAI. Its input is a stripped volume on the SRI24 grid (240x240x155), as ``braing3n preprocess`` writes it; the bundle
takes the model grid's centre and the z-score itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .checkpoint import NOTICE, Checkpoint, load_checkpoint, require_parent, resolve
from .errors import CheckpointError

_MODELS = "braing3n_core.models"
_SHAPE = [160, 192, 160]
_BORDER = [0, 0, 0, 0, 3, 2]
"""From 155 to 160 slices as ``atlas.to_model_grid`` does it: one more below than above."""


def export_bundle(checkpoint: str, folder: str | Path) -> Path:
    """Write the bundle ``folder`` from a checkpoint set. Raises CheckpointError when the folder is not empty."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError("bundle.exists", f"{folder} is not empty.", "Choose another folder.")
    parts = resolve(checkpoint)
    encoder = load_checkpoint(parts / "encoder", "encoder")
    tokenizer = load_checkpoint(parts / "tokenizer", "tokenizer")
    require_parent(tokenizer, encoder)
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_json(folder / "configs" / "metadata.json", metadata(encoder, tokenizer))
    _write_json(folder / "configs" / "inference.json", inference(encoder, tokenizer))
    _write_weights(folder / "models" / "model.safetensors", encoder, tokenizer)
    (folder / "docs" / "README.md").write_text(_readme(encoder, tokenizer), encoding="utf-8")
    (folder / "LICENSE").write_text(NOTICE, encoding="utf-8")
    return folder


def metadata(encoder: Checkpoint, tokenizer: Checkpoint) -> dict[str, Any]:
    """What MONAI's tools want to know; ``verify_net_in_out`` checks the shapes that it claims."""
    import torch

    def image(kind: str) -> dict[str, Any]:
        return {
            "type": "image", "format": "magnitude" if kind == "input" else "reconstruction", "modality": "MR",
            "num_channels": 1, "spatial_shape": _SHAPE, "dtype": "float32", "value_range": [-10, 100],
            "is_patch_data": False, "channel_def": {"0": f"{kind}, z-score"},
        }  # fmt: skip

    return {
        "version": __version__, "changelog": {__version__: "Exported by braing3n export-bundle."},
        "monai_version": "1.5.0", "pytorch_version": torch.__version__.split("+")[0], "numpy_version": np.__version__,
        "required_packages_version": {"braing3n": __version__, "safetensors": "0.4.3", "nibabel": "5.2.0"},
        "task": "Brain MRI as 1200 tokens: reconstruction and latents", "name": "BrainG3N autoencoder",
        "description": "A stripped brain on the SRI24 grid to latents (1200,C) and back.",
        "authors": "The BrainG3N contributors", "copyright": "The BrainG3N contributors",
        "intended_use": "Research. Not for clinical use.",
        "braing3n_ids": {"encoder": encoder.id, "tokenizer": tokenizer.id},
        "network_data_format": {"inputs": {"image": image("input")}, "outputs": {"pred": image("reconstruction")}},
    }  # fmt: skip


def inference(encoder: Checkpoint, tokenizer: Checkpoint) -> dict[str, Any]:
    """``python -m monai.bundle run --config_file configs/inference.json --input IN.nii.gz --output OUT.npz``."""
    from .models.mae import EncoderConfig
    from .models.tokenizer import TokenizerConfig

    decoded = tokenizer.fill(TokenizerConfig)
    return {
        "imports": ["$import numpy", "$import torch", "$from safetensors.torch import load_file"],
        "bundle_root": ".", "input": "brain.nii.gz", "output": "reconstruction.npz",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": f"{_MODELS}.autoencoder.Autoencoder",
            "encoder": {"_target_": f"{_MODELS}.mae.EncoderConfig", **asdict(encoder.fill(EncoderConfig))},
            "tokenizer": {
                "_target_": f"{_MODELS}.tokenizer.TokenizerConfig", **asdict(decoded),
                "patches": {"_target_": f"{_MODELS}.patch_decoder.PatchDecoderConfig", **asdict(decoded.patches)},
            },
        },
        "weights": "$load_file(@bundle_root + '/models/model.safetensors')",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImage", "image_only": True, "ensure_channel_first": True},
                {"_target_": "BorderPad", "spatial_border": _BORDER},
                {"_target_": "CenterSpatialCrop", "roi_size": _SHAPE},
                {"_target_": "NormalizeIntensity"},
            ],
        },
        "volume": "$@preprocessing(@input).as_tensor()[None].float().to(@device)",
        "network": "$@network_def.to(@device).eval()",
        "initialize": ["$@network.load_state_dict(@weights)"],
        "run": ["$@write(@network, @volume, @output)"],
        "write": {"_target_": "braing3n_core.exporting.write_result", "_mode_": "callable"},
    }  # fmt: skip


def write_result(network: Any, volume: Any, output: str) -> None:
    """What the bundle's run does: reconstruction (X,Y,Z) and latents (N,C) into an .npz file."""
    import torch

    with torch.inference_mode():
        latents = network.latents(volume)
        reconstruction = network.tokenizer.decode(latents)
    np.savez(output, reconstruction=reconstruction[0, 0].cpu().numpy(), latents=latents[0].cpu().numpy())


def _write_weights(path: Path, encoder: Checkpoint, tokenizer: Checkpoint) -> None:
    from safetensors.numpy import save_file

    parts = {"encoder": encoder, "tokenizer": tokenizer}
    save_file({f"{part}.{name}": array for part, c in parts.items() for name, array in c.tensors().items()}, path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _readme(encoder: Checkpoint, tokenizer: Checkpoint) -> str:
    return (
        "# BrainG3N as a MONAI bundle\n\n"
        "Research software, not for clinical use. What the network makes is SYNTHETIC.\n\n"
        f"Encoder {encoder.id}, tokenizer {tokenizer.id}. The input is a stripped brain on the SRI24 grid, as "
        "`braing3n preprocess` writes it.\n\n"
        "```\npip install braing3n[torch] monai nibabel fire\n"
        "python -m monai.bundle run --config_file configs/inference.json --input brain.nii.gz --output out.npz\n```\n\n"
        f"{encoder.card}\n\n{tokenizer.card}\n"
    )
