"""The checkpoint folder: save, load, verify, migrate (docs/conventions.md; one folder that a person can open).

``config.json``        format, kind, id, config, vocabularies in index order, ids of the parents, metrics
``model.safetensors``  the weights (EMA), float16 or float32
``card.md``            what it was trained on and what it is for; the first line says that it is not for clinical use
``LICENSE``            the Apache-2.0 notice
``manifest.json``      sha256 of each file above

Nothing is unpickled. Torch is imported only when torch tensors are asked for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .config import config_from_dict, load_toml
from .errors import CheckpointError, ConfigError

__all__ = [
    "FILES", "FORMAT", "KINDS", "MIGRATIONS", "Checkpoint", "CheckpointSpec", "config_from_dict", "default_checkpoint",
    "load_checkpoint", "load_toml", "require_parent", "resolve", "save_checkpoint",
]

FORMAT: int = 2
"""Version of the layout of ``config.json``."""

KINDS: tuple[str, ...] = ("encoder", "tokenizer", "dit", "forecaster", "probes")
FILES: tuple[str, ...] = ("config.json", "model.safetensors", "card.md", "LICENSE")
DISCLAIMER: str = "not for clinical use"


def name_the_waves(config: dict[str, Any]) -> dict[str, Any]:
    """From format 1 to 2: a transformer's config says how its numbers are embedded; until then all waves were even."""
    if config["kind"] in ("dit", "forecaster"):
        config = {**config, "config": {**config["config"], "waves": "even"}}
    return {**config, "format": 2}


MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: name_the_waves}
"""By format n: a named function from a ``config.json`` of format n to one of format n+1."""

NOTICE = """\
Copyright The BrainG3N contributors

Licensed under the Apache License, Version 2.0. You may not use these files except in compliance with the License:
http://www.apache.org/licenses/LICENSE-2.0
They come on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
"""


@dataclass(frozen=True)
class CheckpointSpec:
    """What is to be saved.

    kind: one of :data:`KINDS`. config: the model's config dataclass as a dictionary. tensors: numpy or torch, by name.
    card: markdown whose first line contains "not for clinical use". parents: kind -> id of what it was trained on.
    vocabularies: name -> words in index order. dtype: ``float16``, ``float32`` or ``keep`` for floating tensors;
    keep_float32: names that stay float32 all the same (statistics).
    """

    kind: str
    config: dict[str, Any]
    tensors: Mapping[str, Any]
    card: str
    parents: dict[str, str] = field(default_factory=dict)
    vocabularies: dict[str, list[str]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float16"
    keep_float32: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint folder. id: 16 hex digits of its config and weights; parents: kind -> id."""

    folder: Path
    kind: str
    id: str
    config: dict[str, Any]
    card: str
    parents: dict[str, str]
    vocabularies: dict[str, list[str]]
    metrics: dict[str, Any]

    def tensors(self, framework: str = "np", dtype: str | None = "float32") -> dict[str, Any]:
        """The weights by name, as numpy (``np``) or torch (``pt``) on the CPU.

        dtype: of floating tensors; None leaves them as they are stored.
        """
        arrays = _read_arrays(self.folder / "model.safetensors")
        if dtype is not None:
            arrays = {k: a.astype(dtype) if a.dtype.kind == "f" else a for k, a in arrays.items()}
        if framework == "np":
            return arrays
        if framework != "pt":
            raise CheckpointError("checkpoint.framework", f"Unknown framework {framework!r}.", "Use 'np' or 'pt'.")
        import torch

        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def fill(self, cls: type[Any]) -> Any:
        """The config as the frozen dataclass ``cls``. Raises CheckpointError for unknown keys and wrong types."""
        try:
            return config_from_dict(cls, self.config, f"{self.folder.name}/config.json")
        except ConfigError as error:
            raise CheckpointError("checkpoint.config", error.message, error.hint) from error


def save_checkpoint(folder: str | Path, spec: CheckpointSpec, overwrite: bool = False) -> Checkpoint:
    """Write ``spec`` to ``folder`` in one move and return it verified. Nothing half-written is left behind."""
    folder = Path(folder)
    _check_spec(spec)
    if folder.exists() and not overwrite:
        raise CheckpointError("checkpoint.exists", f"{folder} exists already.", "Choose another folder or overwrite.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.partial"
    partial.mkdir()
    try:
        for name, content in _contents(spec).items():
            (partial / name).write_bytes(content)
        _swap(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_checkpoint(folder, spec.kind)


def load_checkpoint(folder: str | Path, kind: str | None = None) -> Checkpoint:
    """Open and verify a checkpoint folder.

    kind: what is expected, or None. Raises CheckpointError when the folder is missing, incomplete, damaged, of another
    kind, of a newer format, or holds pickled weights only.
    """
    folder = Path(folder)
    hashes = _verified_hashes(folder)
    config = _read_json(folder / "config.json")
    if config.get("id") != _identity(config, hashes["model.safetensors"]):
        raise CheckpointError("checkpoint.id", f"{folder}: config.json and the weights do not match.", _FETCH_AGAIN)
    config = _migrated(config, folder)
    if kind is not None and config["kind"] != kind:
        raise CheckpointError(
            "checkpoint.kind", f"{folder} holds a checkpoint of kind {config['kind']!r}, not {kind!r}.",
            "Give the folder of the right part.",
        )
    return Checkpoint(
        folder=folder, kind=config["kind"], id=config["id"], config=config["config"],
        card=(folder / "card.md").read_text(encoding="utf-8"), parents=config["parents"],
        vocabularies=config["vocabularies"], metrics=config["metrics"],
    )


def require_parent(child: Checkpoint, parent: Checkpoint) -> None:
    """Raise CheckpointError unless ``child`` was trained on exactly ``parent`` (a DiT on its tokenizer's latents)."""
    recorded = child.parents.get(parent.kind)
    if recorded != parent.id:
        raise CheckpointError(
            "checkpoint.parent",
            f"The {child.kind} in {child.folder} was trained on the {parent.kind} {recorded or '(none recorded)'}, "
            f"but {parent.folder} holds {parent.id}.",
            f"Load the {child.kind} together with the {parent.kind} it was trained on.",
        )


def default_checkpoint() -> Path:
    """The folder of the embedded default ``small``; its parts are subfolders named by :data:`KINDS`."""
    return Path(__file__).parent / "checkpoints" / "small"


def resolve(name_or_path: str | Path | None = None) -> Path:
    """The folder of a checkpoint set: None or ``small`` is the embedded default, anything else an existing folder."""
    folder = default_checkpoint() if name_or_path in (None, "small") else Path(str(name_or_path)).expanduser()
    if not folder.is_dir():
        raise CheckpointError(
            "checkpoint.missing", f"There is no checkpoint folder {folder}.",
            "Give the path of a folder with encoder, tokenizer, dit, forecaster and probes, or 'small'.",
        )
    return folder


_FETCH_AGAIN = "The folder is damaged or was edited: fetch or save it again."


def _check_spec(spec: CheckpointSpec) -> None:
    lines = spec.card.strip().splitlines()
    if not lines or DISCLAIMER not in lines[0].lower():
        raise CheckpointError(
            "checkpoint.card", f"The first line of the card must say {DISCLAIMER!r}, got {lines[:1]}.",
            "Say there what it was trained on.",
        )
    if spec.kind not in KINDS:
        raise CheckpointError("checkpoint.kind", f"Unknown kind {spec.kind!r}.", f"Known kinds: {', '.join(KINDS)}.")
    if spec.dtype not in ("float16", "float32", "keep"):
        raise CheckpointError("checkpoint.dtype", f"Unknown dtype {spec.dtype!r}.", "Use float16, float32 or keep.")


def _contents(spec: CheckpointSpec) -> dict[str, bytes]:
    from safetensors.numpy import save

    weights = save({name: _stored(name, value, spec) for name, value in spec.tensors.items()})
    config = {
        "format": FORMAT, "kind": spec.kind, "config": spec.config, "vocabularies": spec.vocabularies,
        "parents": spec.parents, "metrics": spec.metrics,
    }
    config = json.loads(_json(config))  # tuples become lists here, so that the id is that of the file
    config["id"] = _identity(config, hashlib.sha256(weights).hexdigest())
    files = {
        "config.json": _json(config, indent=2), "model.safetensors": weights,
        "card.md": spec.card.strip().encode() + b"\n", "LICENSE": NOTICE.encode(),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {**files, "manifest.json": _json({"sha256": hashes}, indent=2)}


def _stored(name: str, value: Any, spec: CheckpointSpec) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    array = np.ascontiguousarray(value).reshape(np.shape(value))
    if array.dtype.kind == "f" and spec.dtype != "keep":
        with np.errstate(over="ignore"):  # said below, by name
            array = array.astype("float32" if name in spec.keep_float32 else spec.dtype)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CheckpointError(
            "checkpoint.not_finite", f"The tensor {name!r} has values that are not finite in {array.dtype}.",
            "Name it in keep_float32, or look why training diverged.",
        )
    return array


def _swap(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    old = partial.with_suffix(".old")
    folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old)


def _verified_hashes(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise CheckpointError("checkpoint.missing", f"There is no checkpoint folder {folder}.", "Check the path.")
    missing = [name for name in (*FILES, "manifest.json") if not (folder / name).is_file()]
    if missing:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl"))
        hint = f"Pickled weights ({', '.join(pickles)}) are never read." if pickles else "Fetch it again."
        raise CheckpointError("checkpoint.incomplete", f"{folder} lacks {', '.join(missing)}.", hint)
    recorded = _read_json(folder / "manifest.json").get("sha256")
    for name in FILES:
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not isinstance(recorded, dict) or recorded.get(name) != found:
            raise CheckpointError(
                "checkpoint.damaged", f"{folder / name} does not have the sha256 of manifest.json.", _FETCH_AGAIN
            )
    return recorded  # type: ignore[return-value]


def _migrated(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    while config.get("format") != FORMAT:
        migrate = MIGRATIONS.get(config.get("format", 0))
        if migrate is None:
            raise CheckpointError(
                "checkpoint.format", f"{folder} has format {config.get('format')!r}; this version reads {FORMAT}.",
                "Update BrainG3N, or fetch a checkpoint of this version.",
            )
        config = migrate(config)
    return config


def _identity(config: dict[str, Any], weights_sha256: str) -> str:
    """The id: everything that changes what the model computes, so not the metrics and not the card."""
    content = {k: v for k, v in config.items() if k not in ("id", "metrics")}
    return hashlib.sha256(_json(content) + weights_sha256.encode()).hexdigest()[:16]


def _json(data: dict[str, Any], indent: int | None = None) -> bytes:
    try:
        return json.dumps(data, indent=indent, allow_nan=False).encode() + b"\n"  # never sorted: order is vocabulary
    except (TypeError, ValueError) as error:
        message = f"The config cannot be written: {error}."
        raise CheckpointError("checkpoint.json", message, "Use finite numbers and words.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError("checkpoint.damaged", f"{path} is not JSON: {error}.", _FETCH_AGAIN) from error
    if not isinstance(data, dict):
        raise CheckpointError("checkpoint.damaged", f"{path} is not a table.", _FETCH_AGAIN)
    return data


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError("checkpoint.damaged", f"{path} cannot be read: {error}.", _FETCH_AGAIN) from error
