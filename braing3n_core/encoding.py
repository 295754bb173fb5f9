"""Content encodings of what a client uploads: zstd when both ends have it, gzip always, none where neither helps."""

from __future__ import annotations

import zlib

_LOOK = 2**16
_GAIN = 0.9
"""A piece is packed when its first bytes shrink to less than this share; most scans are compressed already."""


def zstd_is_here() -> bool:
    """Whether this interpreter has zstd."""
    try:
        import zstandard  # noqa: F401
    except ImportError:
        return False
    return True


def encodings_here() -> tuple[str, ...]:
    """What this interpreter can pack and unpack, the best first."""
    return ("zstd", "gzip") if zstd_is_here() else ("gzip",)


def smaller(piece: bytes, encodings: tuple[str, ...]) -> tuple[bytes, str]:
    """The piece in the first of these encodings and its name, or as it is and "" where that gains little."""
    head = piece[:_LOOK]
    if not encodings or len(zlib.compress(head, 1)) > _GAIN * len(head):
        return piece, ""
    if encodings[0] == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=1).compress(piece), "zstd"
    deflate = zlib.compressobj(1, wbits=31)
    return deflate.compress(piece) + deflate.flush(), "gzip"
