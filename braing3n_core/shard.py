"""Parts of a piece of work that several machines share: ``I/N`` is part I of N, counted from 1, in every command."""

from __future__ import annotations

from .errors import RequestError


def parse_shard(text: str) -> tuple[int, int]:
    """``2/4`` as (2, 4), the second of four parts. Raises RequestError."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise RequestError("shard.form", f"Cannot read the shard {text!r}.", "Write I/N, such as --shard 2/4.")
    part, parts = int(index), int(count)
    require_shard(part, parts)
    return part, parts


def require_shard(part: int, parts: int) -> None:
    """Raises RequestError unless 1 <= part <= parts."""
    if not 1 <= part <= parts:
        known = f"--shard 1/{parts} to {parts}/{parts}" if parts else "--shard 1/1"
        raise RequestError("shard.none", f"There is no shard {part} of {parts}.", f"Shards count from 1: {known}.")
