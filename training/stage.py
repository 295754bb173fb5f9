"""What every training stage shares: its arguments, its part of the TOML file, and the saving of its checkpoint."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from braing3n_core.checkpoint import Checkpoint, CheckpointSpec, load_checkpoint, save_checkpoint
from braing3n_core.config import config_from_dict, load_toml

from .loop import TrainConfig, pick_device

T = TypeVar("T")

CARD = (
    "**Trained on digital phantoms (synthetic anatomy): a demonstration, not for clinical use.**\n\n"
    "{title} of BrainG3N, the embedded default `small`. Made by `training/runs/small.sh` from moving templates\n"
    "(ICBM152 as nilearn carries it, and CC0 skull-stripped T1 scans of OpenNeuro ds002748) by known effects of age,\n"
    "sex, disease, tumour, site and contrast; see `training/phantom`. Nothing here was learnt from patients' labels,\n"
    "and nothing it says is a claim about patients.\n"
)


def arguments(description: str, *, stores: bool = False, **extra: str) -> argparse.ArgumentParser:
    """The common command line of a stage; ``extra`` adds required paths by name and help, ``stores`` ``--store``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="TOML file, e.g. training/configs/small.toml")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run: state, log and checkpoint")
    parser.add_argument("--minutes", type=float, help="wall-clock budget; the schedule ends with it")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    if stores:
        parser.add_argument("--store", required=True, type=Path, nargs="+", help="training stores, used as one")
    for name, text in extra.items():
        parser.add_argument(f"--{name}", required=True, type=Path, help=text)
    return parser


def add_latents(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The arguments of the stages that learn from cached latents."""
    parser.add_argument("--tokenizer", required=True, type=Path, help="checkpoint whose latents these are")
    parser.add_argument(
        "--latents", required=True, type=Path, nargs="+",
        help="latent sets: folders written by train_tokenizer or cache_latents",
    )
    return parser


class Settings:
    """The TOML file and the command line of one stage."""

    def __init__(self, stage: str, options: argparse.Namespace) -> None:
        self.file = options.config
        self.tables = load_toml(options.config)
        self.device = pick_device(options.device)
        train = dict(self.tables.get(stage, {}).get("train", {}))
        if options.minutes is not None:
            train["minutes"] = options.minutes
        self.train = config_from_dict(TrainConfig, train, f"{self.file}: {stage}.train")

    def model(self, table: str, cls: type[T]) -> T:
        """The table ``[<table>.model]`` as a config dataclass."""
        return config_from_dict(cls, self.tables.get(table, {}).get("model", {}), f"{self.file}: {table}.model")


def save_stage(
    out: Path, kind: str, model: nn.Module, parents: dict[str, str], metrics: dict[str, Any],
    keep_float32: tuple[str, ...] = (),
) -> Checkpoint:
    """Write the model as the checkpoint ``out/<kind>`` in half precision."""
    title = "The generator" if kind == "dit" else f"The {kind}"
    spec = CheckpointSpec(
        kind=kind, config=asdict(model.config), tensors=model.state_dict(), card=CARD.format(title=title),
        parents=parents, metrics=metrics, dtype="float16", keep_float32=keep_float32,
    )
    return save_checkpoint(out / kind, spec, overwrite=True)


def load_model(folder: Path, kind: str, config_class: type[Any], model_class: type[Any], device: torch.device) -> Any:
    """A frozen model from its checkpoint, and the checkpoint: (model, checkpoint)."""
    checkpoint = load_checkpoint(folder, kind)
    model = model_class(checkpoint.fill(config_class))
    model.load_state_dict(checkpoint.tensors("pt"))
    return model.to(device).eval().requires_grad_(False), checkpoint
