"""What every training stage shares: its arguments, its part of the TOML file, and the saving of its checkpoint."""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from braing3n_core.checkpoint import Checkpoint, CheckpointSpec, load_checkpoint, save_checkpoint
from braing3n_core.config import config_from_dict, load_toml
from braing3n_core.errors import BrainG3NError, ConfigError
from braing3n_core.schema import nearest

from .card import card
from .loop import Run, TrainConfig
from .parallel import join, leave, pick_device, rank
from .store import Record

T = TypeVar("T")

def arguments(description: str, *, stores: bool = False, **extra: str) -> argparse.ArgumentParser:
    """The common command line of a stage; ``extra`` adds required paths by name and help, ``stores`` ``--store``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="TOML file, e.g. training/configs/small.toml")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run: state, log and checkpoint")
    parser.add_argument("--minutes", type=float, help="wall-clock budget; the schedule ends with it")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--resume", default="auto", metavar="auto|never|PATH",
        help="auto: go on from the newest whole snapshot in --out; never: start afresh; or a snapshot or a run",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE",
        help="another value than the file's, as TOML, e.g. tokenizer.model.channels=128; repeat for more",
    )
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


def refinement(description: str, samples: int, of: str) -> argparse.ArgumentParser:
    """The arguments of commands that write the generator of a set again, with what they find. samples: the default
    limit, of ``of``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="small", help="folder of the set, or small (default)")
    parser.add_argument("--latents", required=True, type=Path, nargs="+")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=samples, help=f"{of}, at most (default: {samples})")
    parser.add_argument("--device", default="auto")
    return parser


STAGES = ("mae", "tokenizer", "decoder", "dit", "forecaster", "autoencoderkl")
"""The top tables of a training configuration, and under each of them:"""
TABLES = ("model", "train", "extra")


class Settings:
    """The TOML file and the command line of one stage; joins the other processes that torchrun started."""

    def __init__(self, stage: str, options: argparse.Namespace) -> None:
        self.stage, self.file, self.out, self.resume = stage, options.config, options.out, options.resume
        self.tables = load_toml(options.config)
        for assignment in options.set:
            _merge(self.tables, _assigned(assignment))
        self._require_known_tables()
        self.device = pick_device(options.device)
        join(self.device)
        train = dict(self.tables.get(stage, {}).get("train", {}))
        if options.minutes is not None:
            train["minutes"] = options.minutes
        self.train = config_from_dict(TrainConfig, train, f"{self.file}: {stage}.train")

    def model(self, table: str, cls: type[T]) -> T:
        """The table ``[<table>.model]`` as a config dataclass."""
        return config_from_dict(cls, self.tables.get(table, {}).get("model", {}), f"{self.file}: {table}.model")

    def extra(self, cls: type[T]) -> T:
        """The table ``[<stage>.extra]`` as a dataclass."""
        table = self.tables.get(self.stage, {}).get("extra", {})
        return config_from_dict(cls, table, f"{self.file}: {self.stage}.extra")

    def run(
        self, samples: int, config: Any, parents: dict[str, str] | None = None,
        picture: Callable[[nn.Module], tuple[str, np.ndarray]] | None = None,
    ) -> Run:
        """The run of this stage; a snapshot of another stage, of other sizes or on other parents will be refused."""
        identity = {"stage": self.stage, "model": str(config), **{f"parent {k}": v for k, v in (parents or {}).items()}}
        return Run(self.train, self.out, self.device, samples, self.resume, identity, picture)

    def _require_known_tables(self) -> None:
        for known, names, place in [
            (STAGES, self.tables, f"{self.file}"),
            *((TABLES, self.tables[s], f"{self.file}: {s}") for s in STAGES if isinstance(self.tables.get(s), dict)),
        ]:
            for name in names:
                if name not in known:
                    raise ConfigError(
                        "config.unknown_key", f"{place} has no table {name!r}.",
                        f"{nearest(str(name), list(known))}Known tables: {', '.join(known)}.",
                    )


def _assigned(assignment: str) -> dict[str, Any]:
    """``a.b=1`` as nested tables. Raises ConfigError."""
    try:
        return tomllib.loads(assignment)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            "config.set", f"Cannot read --set {assignment!r}: {error}.", 'Write TABLE.KEY=VALUE; words need "quotes".'
        ) from error


def _merge(tables: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(tables.get(key), dict):
            _merge(tables[key], value)
        else:
            tables[key] = value


def names_of(records: Sequence[Record], indices: Sequence[int]) -> list[str]:
    """What people call these volumes: the file if it is known, else subject, visit and contrast."""
    rows = [records[i] for i in indices]
    return [str(r.get("path") or r.get("file") or f"{r['subject']} visit {r['visit']} {r['modality']}") for r in rows]


def command(main: Callable[[], None]) -> None:
    """Run a stage's main: an error that was raised on purpose is two sentences and exit code 1, not a traceback."""
    try:
        main()
    except BrainG3NError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        print(f"error [{error.code}]: {error.message}{hint}", file=sys.stderr)
        raise SystemExit(1) from error
    finally:
        leave()


def save_stage(
    out: Path, kind: str, model: nn.Module, parents: dict[str, str], metrics: dict[str, Any],
    records: Sequence[Record],
) -> Checkpoint | None:
    """Write the model as the checkpoint ``out/<kind>`` in half precision; only the first process does.

    records: of the volumes that it was trained on. A model's ``KEEP_FLOAT32`` names tensors that stay as they are.
    """
    if rank() > 0:
        return None
    title = "The generator" if kind == "dit" else f"The {kind}"
    spec = CheckpointSpec(
        kind=kind, config=asdict(model.config), tensors=model.state_dict(), card=card(title, records),
        parents=parents, metrics=metrics, dtype="float16",
        keep_float32=getattr(model, "KEEP_FLOAT32", ()),
    )
    return save_checkpoint(out / kind, spec, overwrite=True)


def save_again(old: Checkpoint, out: Path, tensors: dict[str, Any], **metrics: Any) -> Checkpoint:
    """Write the checkpoint with these tensors, kept in their types, and further metrics to ``out/<kind>``."""
    spec = CheckpointSpec(
        old.kind, old.config, tensors, old.card, old.parents, old.vocabularies, {**old.metrics, **metrics},
        dtype="keep",
    )
    return save_checkpoint(out / old.kind, spec, overwrite=True)


def load_model(folder: Path, kind: str, config_class: type[Any], model_class: type[Any], device: torch.device) -> Any:
    """A frozen model from its checkpoint, and the checkpoint: (model, checkpoint)."""
    checkpoint = load_checkpoint(folder, kind)
    model = model_class(checkpoint.fill(config_class))
    model.load_state_dict(checkpoint.tensors("pt"))
    return model.to(device).eval().requires_grad_(False), checkpoint
