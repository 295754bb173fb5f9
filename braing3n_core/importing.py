"""``braing3n import-encoder``: somebody else's weights as an encoder checkpoint, by a mapping file that must fit.

The names of tensors in a released file are its authors' own, so a TOML file says which of theirs is which of ours:

    [encoder]                       # sizes, as in EncoderConfig; what is left out is the paper's
    width = 1152

    [tensors]                       # ours = theirs; {i} runs over the blocks
    "cls" = "cls_token"
    "positions" = { from = "pos_embed", op = "drop_first" }
    "patch_embed.weight" = { from = "patch_embed.proj.weight", op = "flatten" }
    "blocks.{i}.attn.qkv.weight" = { from = ["b.{i}.q.weight", "b.{i}.k.weight", "b.{i}.v.weight"], op = "join" }
    "blocks.{i}.attn.qkv.bias" = "zeros"

    [ignore]                        # theirs that are not needed, as patterns
    names = ["decoder.*"]

Nothing is guessed: each tensor of ours must be named, each of theirs used or ignored, each shape must agree; every
mismatch is a sentence of the error. Files are safetensors; pickled ones are not read.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import Checkpoint, CheckpointSpec, save_checkpoint
from .config import config_from_dict, load_toml
from .errors import CheckpointError, ConfigError
from .schema import nearest

CARD = (
    "**An imported encoder: research software, not for clinical use.**\n\n"
    "Imported from `{file}` by `braing3n import-encoder`. What it was trained on, and under which licence, say the "
    "authors of that file.\n"
)

_OPERATIONS: dict[str, Callable[[list[np.ndarray]], np.ndarray]] = {
    "same": lambda parts: parts[0],
    "flatten": lambda parts: parts[0].reshape(len(parts[0]), -1),  # a convolution's kernel as a matrix
    "transpose": lambda parts: parts[0].T,
    "drop_first": lambda parts: parts[0][:, 1:],  # positions without that of the CLS token
    "add_first": lambda parts: parts[0] + parts[1][:, :1],  # the CLS token plus its position
    "join": lambda parts: np.concatenate(parts),  # queries, keys and values one after another
    "unsqueeze": lambda parts: parts[0][None],
}


def import_encoder(file: str | Path, mapping: str | Path, folder: str | Path) -> Checkpoint:
    """Write the checkpoint ``folder`` (kind encoder). Raises CheckpointError with a sentence for each mismatch."""
    from .models.mae import Encoder, EncoderConfig

    tables = load_toml(mapping)
    _require_tables(tables, str(mapping))
    config = config_from_dict(EncoderConfig, tables.get("encoder", {}), f"{mapping}: encoder")
    wanted = {name: tuple(tensor.shape) for name, tensor in Encoder(config).state_dict().items()}
    theirs = read_safetensors(Path(file))
    rules = expand(tables.get("tensors", {}), config.depth)
    tensors, problems = apply_rules(rules, wanted, theirs, list(tables.get("ignore", {}).get("names", [])))
    if problems:
        raise CheckpointError(
            "import.mismatch", f"{file} and {mapping} do not fit: {' '.join(problems)}", "Correct the mapping file."
        )
    spec = CheckpointSpec("encoder", asdict(config), tensors, CARD.format(file=Path(file).name), dtype="float32")
    return save_checkpoint(folder, spec)


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Floating tensors by name, float32. Raises CheckpointError."""
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors":
        raise CheckpointError(
            "import.format", f"{file} is no .safetensors file, and pickled weights are never read.",
            "Ask its authors for safetensors, or convert it where you trust it.",
        )
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name).float().numpy() for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError("import.file", f"{file} cannot be read: {error}.", "Fetch it again.") from error


def expand(rules: dict[str, Any], depth: int) -> dict[str, Any]:
    """Each rule with ``{i}`` once a block: ours -> rule."""
    expanded: dict[str, Any] = {}
    for ours, rule in rules.items():
        numbers: list[int | None] = [*range(depth)] if "{i}" in ours else [None]
        for i in numbers:
            expanded[_numbered(ours, i)] = _numbered(rule, i)
    return expanded


def apply_rules(
    rules: dict[str, Any], wanted: dict[str, tuple[int, ...]], theirs: dict[str, np.ndarray], ignored: list[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Our tensors, and a sentence for each thing that does not fit."""
    problems = [
        f"The mapping names {name!r}, which the encoder does not have.{_like(name, list(wanted))}"
        for name in rules if name not in wanted
    ]  # fmt: skip
    problems += [f"The mapping does not say what {name!r} is." for name in wanted if name not in rules]
    tensors: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for name in wanted.keys() & rules.keys():
        try:
            sources, operation = _parsed(rules[name], name)
            used.update(sources)
            tensors[name] = _made(name, wanted[name], sources, operation, theirs)
        except CheckpointError as error:
            problems.append(error.message)
    spare = [n for n in theirs if n not in used and not any(fnmatch.fnmatchcase(n, p) for p in ignored)]
    problems += [f"The file's {name!r} {theirs[name].shape} is neither used nor ignored." for name in spare]
    return tensors, sorted(problems)


def _parsed(rule: Any, name: str) -> tuple[list[str], str]:
    """The tensors that a rule reads and what it does with them; ``zeros`` reads none."""
    if rule == "zeros":
        return [], "zeros"
    if isinstance(rule, str):
        return [rule], "same"
    if not isinstance(rule, dict) or set(rule) - {"from", "op"} or "from" not in rule:
        raise CheckpointError("import.rule", f"The rule of {name!r} is no name and no table of 'from' and 'op'.")
    sources, operation = rule["from"], rule.get("op", "same")
    if operation not in _OPERATIONS:
        raise CheckpointError(
            "import.rule", f"The rule of {name!r} has the operation {operation!r}; known are {', '.join(_OPERATIONS)}."
        )
    return ([sources] if isinstance(sources, str) else list(sources)), operation


def _made(
    name: str, shape: tuple[int, ...], sources: list[str], operation: str, theirs: dict[str, np.ndarray]
) -> np.ndarray:
    if operation == "zeros":
        return np.zeros(shape, np.float32)
    for source in sources:
        if source not in theirs:
            message = f"{name!r} is to be {source!r}, which the file does not have.{_like(source, list(theirs))}"
            raise CheckpointError("import.missing", message)
    try:
        made = _OPERATIONS[operation]([theirs[s] for s in sources])
    except (ValueError, IndexError) as error:
        shapes = ", ".join(str(theirs[s].shape) for s in sources)
        raise CheckpointError("import.shape", f"{name!r}: {operation} cannot be done on {shapes}.") from error
    if made.shape != shape:
        raise CheckpointError(
            "import.shape", f"{name!r} has the shape {shape}, but {' and '.join(sources)} give {made.shape}."
        )
    return np.ascontiguousarray(made)


def _numbered(rule: Any, i: int | None) -> Any:
    if i is None:
        return rule
    if isinstance(rule, str):
        return rule.replace("{i}", str(i))
    if isinstance(rule, list):
        return [_numbered(r, i) for r in rule]
    return {k: _numbered(v, i) for k, v in rule.items()} if isinstance(rule, dict) else rule


def _like(name: str, names: list[str]) -> str:
    return f" {nearest(name, names)}".rstrip()


def _require_tables(tables: dict[str, Any], where: str) -> None:
    known = ("encoder", "tensors", "ignore")
    for name in tables:
        if name not in known:
            raise ConfigError(
                "config.unknown_key", f"{where} has no table {name!r}.",
                f"{nearest(name, list(known))}Known tables: {', '.join(known)}.",
            )
