"""The words that client and worker share: routes, limits, content ids, and neutral names for a patient's files.

A request's files travel by content: each path is replaced by a content id, ``<sha256><extension>``. The worker gives
the files neutral names, so that a patient's file name never leaves the caller's machine; the client puts the caller's
own names back into file names, sidecars, provenance and error messages. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import RequestError

API = "/v1"
CHUNK_BYTES = 2 * 2**20
"""Largest piece of an upload: what a broken connection costs at most."""
MAX_JSON_BYTES = 2**20
MAX_WAIT_SECONDS = 25.0
"""Longest time that a poll may wait for news."""
CHUNK_SHA_HEADER = "X-Chunk-Sha256"
TOKEN_VARIABLE = "BRAING3N_WORKER_TOKEN"
FILE_FIELDS: tuple[str, ...] = ("input", "preprocess.mask", "preprocess.template")
"""The fields of a request that are paths."""
FINAL_STATES: tuple[str, ...] = ("done", "failed", "cancelled")
FORMATS: tuple[str, ...] = ("auto", "nifti", "nrrd")

_KNOWN_EXTENSIONS = (".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".nrrd", ".nhdr", ".mhd", ".hdr", ".img")
_CONTENT_ID = re.compile(r"([0-9a-f]{64})(\.[a-z]{2,7}(?:\.gz)?)")
_NEUTRAL = {"input": "braing3nscan", "preprocess.mask": "braing3nmask", "preprocess.template": "braing3ntemplate"}


def known_extension(path: str) -> str:
    """The extension of a volume's file in lower case; ``.unknown`` for any other, which may hold a name."""
    name = path.lower()
    return next((e for e in _KNOWN_EXTENSIONS if name.endswith(e)), ".unknown")


def content_id(sha256: str, path: str) -> str:
    """What stands for a file in a request on the wire."""
    return sha256 + known_extension(path)


def read_content_id(word: object) -> tuple[str, str]:
    """The sha256 and the extension of a content id. Raises RequestError ``request.content_id``."""
    match = _CONTENT_ID.fullmatch(word) if isinstance(word, str) else None
    if match is None or (match[2] not in _KNOWN_EXTENSIONS and match[2] != ".unknown"):
        raise RequestError(
            "request.content_id", "A file of a request on the wire is its content id, <sha256><extension>.",
            "Upload the file first and give its sha256, e.g. <64 hex digits>.nii.gz.",
        )  # fmt: skip
    return match[1], match[2]


def neutral_path(field: str, extension: str) -> str:
    """Where a file of a job lies on the worker, relative to the job's folder."""
    return f"in/{_NEUTRAL[field]}{extension}"


def files_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The paths (or content ids) of a request, by field."""
    return {field: value for field in FILE_FIELDS if (value := _get(request, field)) is not None}


def with_files(request: Mapping[str, Any], replacements: Mapping[str, str]) -> dict[str, Any]:
    """A copy of the request with other words in its file fields."""
    copy: dict[str, Any] = json.loads(json.dumps(request))
    for field, value in replacements.items():
        *parents, last = field.split(".")
        place = copy
        for name in parents:
            place = place[name]
        place[last] = value
    return copy


def canonical_sha256(data: Any) -> str:
    """The same for equal JSON values, however they were written."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def map_text(data: Any, change: Callable[[str], str]) -> Any:
    """A copy of a JSON value with every text changed, keys excepted."""
    if isinstance(data, str):
        return change(data)
    if isinstance(data, Mapping):
        return {key: map_text(value, change) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [map_text(value, change) for value in data]
    return data


def restorer(files: Mapping[str, str], stem: str) -> Callable[[str], str]:
    """A function that puts the caller's names where the worker wrote neutral ones.

    files: the caller's paths by field. stem: what the caller's engine would begin the names of results with.
    """
    words: list[tuple[str, str]] = []
    for field, path in files.items():
        neutral = neutral_path(field, known_extension(path))
        file_name = re.split(r"[\\/]", path)[-1]
        words += [(neutral, path), (neutral.removeprefix("in/"), file_name), (_NEUTRAL[field], stem)]

    def restore(text: str) -> str:
        if "braing3n" not in text:
            return text
        pieces = [text]
        for neutral, own in words:  # what was put in is not looked at again: it may hold any word
            pieces = [
                part for n, piece in enumerate(pieces)
                for part in (_split(piece, neutral, own) if n % 2 == 0 else [piece])
            ]
        return "".join(pieces)

    return restore


def _split(piece: str, neutral: str, own: str) -> list[str]:
    """Alternating untouched and put-in pieces; an odd number of them."""
    parts: list[str] = []
    for rest in piece.split(neutral):
        parts += [rest, own]
    return parts[:-1]


def _get(request: Mapping[str, Any], field: str) -> Any:
    place: Any = request
    for name in field.split("."):
        if not isinstance(place, Mapping):
            return None
        place = place.get(name)
    return place
