"""Reading what a client sends, within limits: of size, of time, and of what it inflates to."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from typing import Any

from fastapi import Request

from ..encoding import zstd_is_here
from ..errors import RequestError
from .answers import Refusal
from .settings import Limits

_INFLATED_PIECE = 2**20


async def read_body(request: Request, limit: int, limits: Limits) -> bytes:
    """The body, at most ``limit`` bytes before and after inflation. Raises Refusal 400, 408, 413, 415."""
    length = request.headers.get("content-length")
    if length is not None and (not length.isdecimal() or int(length) > limit):
        raise _too_large(limit)
    pieces, total, deadline = [], 0, time.monotonic() + limits.body_seconds
    stream = request.stream().__aiter__()
    while True:
        try:
            wait = min(limits.idle_seconds, deadline - time.monotonic())
            piece = await asyncio.wait_for(anext(stream), wait)
        except StopAsyncIteration:
            break
        except TimeoutError as error:
            late = RequestError("request.slow", "The body arrived too slowly.", "Send it again, from where it stood.")
            raise Refusal(408, late, Connection="close") from error
        total += len(piece)
        if total > limit:
            raise _too_large(limit)
        pieces.append(piece)
    return inflate(b"".join(pieces), request.headers.get("content-encoding", ""), limit)


async def read_json(request: Request, limit: int, limits: Limits) -> dict[str, Any]:
    """The body as a JSON object. Raises Refusal."""
    body = await read_body(request, limit, limits)
    try:
        data = json.loads(body, parse_constant=_no_constant)
        json.dumps(data, allow_nan=False).encode()  # half a surrogate pair cannot be stored
    except (ValueError, RecursionError) as error:
        raise Refusal(400, RequestError("request.json", "The body is not JSON.", "Send one JSON object.")) from error
    if not isinstance(data, dict):
        raise Refusal(422, RequestError("request.json", "The body is not a JSON object.", "Send one JSON object."))
    return data


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a content encoding, never making more than ``limit`` bytes and one."""
    if encoding in ("", "identity"):
        return body
    try:
        if encoding == "gzip":
            return _gunzip(body, limit)
        if encoding == "zstd" and zstd_is_here():
            return _unzstd(body, limit)
    except (zlib.error, EOFError) as error:
        damaged = RequestError("request.encoding", "The compressed body is damaged.", "Send it again.")
        raise Refusal(400, damaged) from error
    raise Refusal(415, RequestError("request.encoding", "Unknown Content-Encoding.", "Use gzip or none."))


def _gunzip(body: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    data = inflater.decompress(body, limit + 1)
    if len(data) > limit:
        raise _too_large(limit)
    if not inflater.eof or inflater.unused_data:
        raise EOFError
    return data


def _unzstd(body: bytes, limit: int) -> bytes:
    import zstandard

    try:
        inflater = zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(body)
        data = inflater.read(limit + 1)
    except zstandard.ZstdError as error:
        raise EOFError from error
    if len(data) > limit:
        raise _too_large(limit)
    return bytes(data)


def _no_constant(word: str) -> None:
    raise ValueError(word)


def _too_large(limit: int) -> Refusal:
    error = RequestError("request.too_large", f"A body here has at most {limit} bytes.", "Send smaller pieces.")
    return Refusal(413, error, Connection="close")
