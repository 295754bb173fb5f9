"""Strict configuration: dictionaries and TOML files into frozen dataclasses.

An unknown key is an error that names the nearest known one; a value of another type is an error that names both.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from .errors import ConfigError
from .schema import nearest

T = TypeVar("T")


def config_from_dict(cls: type[T], data: dict[str, Any], where: str = "") -> T:
    """Fill the dataclass ``cls`` from ``data``; lists become tuples, nested tables nested dataclasses.

    where: what is read (a file or a section), for the messages. Raises ConfigError.
    """
    place = where or cls.__name__
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    if not isinstance(data, dict):
        raise ConfigError("config.table", f"{place} must be a table, got {data!r}.", f"It fills {cls.__name__}.")
    for key in data:
        if key not in fields:
            raise ConfigError(
                "config.unknown_key", f"{place} has no setting {key!r}.",
                f"{nearest(str(key), list(fields))}Known settings: {', '.join(fields)}.",
            )
    missing = [name for name, f in fields.items() if name not in data and _required(f)]
    if missing:
        raise ConfigError("config.missing", f"{place} lacks {', '.join(missing)}.", f"{cls.__name__} needs it.")
    hints = typing.get_type_hints(cls)
    return cls(**{key: _coerce(value, hints[key], f"{place}.{key}") for key, value in data.items()})


def load_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file. Raises ConfigError when it is missing or not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("config.file", f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config.toml", f"{path} is not valid TOML: {error}.", "Correct that line.") from error


def _required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _coerce(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, hint, where)
    if origin is typing.Literal:
        return value if value in typing.get_args(hint) else _refuse(value, hint, where)
    if origin in (tuple, list):
        return _coerce_sequence(value, hint, where)
    if origin is dict or hint is dict:
        return value if isinstance(value, dict) else _refuse(value, hint, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else config_from_dict(hint, value, where)
    return _coerce_scalar(value, hint, where)


def _coerce_scalar(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    is_number_for_bool = isinstance(value, bool) and hint is not bool
    return value if isinstance(value, hint) and not is_number_for_bool else _refuse(value, hint, where)


def _coerce_union(value: Any, hint: Any, where: str) -> Any:
    options = typing.get_args(hint)
    if value is None and type(None) in options:
        return None
    refused: ConfigError | None = None
    for option in (o for o in options if o is not type(None)):
        try:
            return _coerce(value, option, where)
        except ConfigError as error:
            refused = error
    if refused is not None and len([o for o in options if o is not type(None)]) == 1:
        raise refused
    return _refuse(value, hint, where)


def _coerce_sequence(value: Any, hint: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        _refuse(value, hint, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is list or (len(args) == 2 and args[1] is Ellipsis):
        args = (args[0],) * len(value)
    if len(args) != len(value):
        _refuse(value, hint, where)
    return origin(_coerce(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, args, strict=True)))


def _refuse(value: Any, hint: Any, where: str) -> typing.NoReturn:
    name = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    raise ConfigError("config.type", f"{where} must be {name}, got {value!r}.", "Correct the value.")
