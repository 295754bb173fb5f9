"""What the OpenAPI page says beyond the routes: the fields of every request, examples, and which answer leads where."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import types
import typing
from typing import Any

from ..checking import RANGES
from ..protocol import FILE_FIELDS, FORMATS
from ..schema import (
    BRAIN_BACKENDS,
    EDIT_METHODS,
    MODALITIES,
    RENDERINGS,
    REQUESTS,
    SAMPLERS,
    STAGES,
    Conditions,
    PreprocessOptions,
)

EXAMPLE_CONTENT = "BrainG3N"
EXAMPLE_SHA256 = hashlib.sha256(EXAMPLE_CONTENT.encode()).hexdigest()
_CONTENT_ID = {
    "type": "string", "pattern": r"^[0-9a-f]{64}(\.nii\.gz|\.nii|\.nrrd)$",
    "description": "content id of an uploaded file: its sha256 and extension",
}  # fmt: skip
_WORDS: dict[tuple[type, str], tuple[str, ...]] = {
    (PreprocessOptions, "modality"): MODALITIES, (PreprocessOptions, "stage"): ("auto", *STAGES),
    (PreprocessOptions, "brain"): ("auto", *BRAIN_BACKENDS),
}  # fmt: skip
_WORDS_ANYWHERE = {"rendering": RENDERINGS, "method": EDIT_METHODS, "sampler": SAMPLERS}
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def job_schema() -> dict[str, Any]:
    """The JSON schema of a job: a request of one of the kinds, and the format of its files."""
    kinds = [_request_schema(kind, cls) for kind, cls in REQUESTS.items()]
    return {
        "type": "object", "required": ["request"], "additionalProperties": False,
        "properties": {"request": {"anyOf": kinds}, "format": {"type": "string", "enum": list(FORMATS)}},
        "example": {"request": {"kind": "generate", "num_steps": 1, "conditions": {"modality": "T1"}}},
    }  # fmt: skip


def links(*names: str, **parameters: str) -> dict[str, Any]:
    """The calls that an answer leads to, by operation id. parameters: where each finds its own."""
    return {name: {"operationId": name, "parameters": parameters} for name in names}


def allowed_methods(openapi: dict[str, Any], path: str) -> str | None:
    """Every method of an address, for the header Allow; None for an address that the page does not have."""
    for template, methods in openapi["paths"].items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path):
            return ", ".join(sorted(name.upper() for name in methods))
    return None


def _request_schema(kind: str, cls: type) -> dict[str, Any]:
    schema = _object_schema(cls)
    properties = {"kind": {"const": kind}, **schema["properties"]}
    return {**schema, "title": kind, "required": ["kind", *schema["required"]], "properties": properties}


def _object_schema(cls: type, inside: str = "") -> dict[str, Any]:
    """The schema of a dataclass. inside: the fields on the way to it, each with a dot."""
    annotations, fields = typing.get_type_hints(cls), dataclasses.fields(cls)
    properties = {f.name: _field_schema(cls, f.name, annotations[f.name], inside) for f in fields}
    missing = dataclasses.MISSING
    required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _field_schema(cls: type, name: str, annotation: Any, inside: str) -> dict[str, Any]:
    if isinstance(annotation, types.UnionType):  # X | None
        kind = next(a for a in typing.get_args(annotation) if a is not types.NoneType)
        return {"anyOf": [_field_schema(cls, name, kind, inside), {"type": "null"}]}
    if inside + name in FILE_FIELDS:
        return _CONTENT_ID
    if dataclasses.is_dataclass(annotation):
        return _object_schema(typing.cast(type, annotation), f"{inside}{name}.")
    if typing.get_origin(annotation) is tuple:
        return _list_schema(name, typing.get_args(annotation))
    if typing.get_origin(annotation) is dict:
        return _scales_schema()
    words = _WORDS.get((cls, name)) or _WORDS_ANYWHERE.get(name)
    return {"type": "string", "enum": list(words)} if words else _plain_schema(name, annotation)


def _list_schema(name: str, members: tuple[Any, ...]) -> dict[str, Any]:
    """A tuple of any length, or of a fixed one."""
    schema: dict[str, Any] = {"type": "array", "items": _plain_schema(name, members[0])}
    if members[-1] is Ellipsis:
        return {**schema, "minItems": 1, "uniqueItems": True}
    return {**schema, "minItems": len(members), "maxItems": len(members)}


def _scales_schema() -> dict[str, Any]:
    """Factors by condition."""
    names = [f.name for f in dataclasses.fields(Conditions)]
    scale = _plain_schema("guidance_scale", float)
    return {"type": "object", "additionalProperties": False, "properties": dict.fromkeys(names, scale)}


def _plain_schema(name: str, kind: type) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _TYPES[kind]}
    if name in RANGES:
        schema |= {"minimum": RANGES[name][0], "maximum": RANGES[name][1]}
    return schema
