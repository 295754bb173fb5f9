"""Exact reading of a file's payload, plain or gzip: not one byte too few, not one too many, in bounded memory.

A gzip stream is read to its very end, so that each member's CRC-32 and length are checked, and it is never inflated
beyond the size that the volume's header implies. Errors: ``volume.truncated``, ``volume.trailing_data``,
``volume.checksum``, ``volume.damaged``, ``volume.gzip_bomb``, ``volume.too_large``.
"""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO, Protocol

import numpy as np

from .errors import VolumeError

GZIP_MAGIC = b"\x1f\x8b"
_INPUT = 1 << 16
_PIECE = 1 << 22
_SLACK = 1 << 16
_MAX_RATIO = 1032  # of deflate, by its format
_MAX_MEMBERS = 100_000  # block gzip of the largest volume has 33,000
_AGAIN = "Copy or export the file again from its source."


class ByteSource(Protocol):
    """Bytes that are read once, from front to end."""

    def expect(self, count: int) -> None:
        """Refuse, before memory is taken, a source that cannot hold ``count`` further bytes."""
        ...

    def read_into(self, view: memoryview) -> None:
        """Fill the view or raise ``volume.truncated``."""
        ...

    def finish(self) -> None:
        """Refuse bytes after the last one that was wanted, and check the checksums."""
        ...


def open_source(handle: BinaryIO, gzipped: bool) -> ByteSource:
    """The source that reads from the handle's position on."""
    return GzipSource(handle) if gzipped else RawSource(handle)


def read_bytes(source: ByteSource, count: int) -> bytes:
    """Exactly ``count`` bytes, for headers."""
    data = bytearray(count)
    source.read_into(memoryview(data))
    return bytes(data)


def skip_bytes(source: ByteSource, count: int) -> None:
    """Pass over ``count`` bytes in small memory."""
    scratch = memoryview(bytearray(min(count, _INPUT)))
    while count > 0:
        source.read_into(scratch[:count])
        count -= len(scratch[:count])


def read_voxels(source: ByteSource, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The last part of a source as an array in Fortran order; then the source must end."""
    count = int(np.prod(shape, dtype=object)) * dtype.itemsize
    source.expect(count)
    try:
        buffer = np.empty(count, dtype=np.uint8)
    except MemoryError as error:
        raise VolumeError(
            "volume.too_large", f"Not enough memory for {count} bytes of voxels.", "Crop or resample the scan.",
        ) from error
    source.read_into(buffer.data)
    source.finish()
    return buffer.view(dtype).reshape(shape, order="F")


class RawSource:
    """The plain rest of a file."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle

    def expect(self, count: int) -> None:
        left = os.fstat(self._handle.fileno()).st_size - self._handle.tell()
        if left < count:
            raise _truncated(f"its header promises {count} bytes of voxels, the file holds {left}")
        if left > count:
            raise _trailing(f"{left - count} bytes")

    def read_into(self, view: memoryview) -> None:
        filled = 0
        while filled < len(view):
            piece = self._handle.read(min(len(view) - filled, _PIECE))
            if not piece:
                raise _truncated(f"{len(view)} bytes were needed, {filled} were left")
            view[filled : filled + len(piece)] = piece
            filled += len(piece)

    def finish(self) -> None:
        if self._handle.read(1):
            raise _trailing("more bytes")


class GzipSource:
    """The inflated rest of a file, of one gzip member or several."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._size = os.fstat(handle.fileno()).st_size
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._members = 1

    def expect(self, count: int) -> None:
        if (self._size + _INPUT) * _MAX_RATIO < count:
            raise _truncated(f"its header promises {count} bytes, more than {self._size} compressed bytes can hold")

    def read_into(self, view: memoryview) -> None:
        filled = 0
        while filled < len(view):
            piece = self._next(min(len(view) - filled, _PIECE))
            if not piece:
                raise _truncated(f"{len(view)} bytes were needed, the gzip stream ends after {filled}")
            view[filled : filled + len(piece)] = piece
            filled += len(piece)

    def finish(self) -> None:
        extra = 0
        while piece := self._next(_SLACK):
            extra += len(piece)
            if extra > _SLACK:
                raise _bomb("inflates far beyond the volume that its header describes")
        if extra:
            raise _trailing(f"{extra} bytes")

    def _next(self, limit: int) -> bytes:
        """Up to ``limit`` inflated bytes; empty only after the last member's checks."""
        while not self._inflate.eof or self._open_member():
            data = self._pending or self._handle.read(_INPUT)
            piece = self._decompress(data, limit)
            self._pending = self._inflate.unconsumed_tail
            if piece:
                return piece
            if not data and not self._inflate.eof:
                raise _truncated("the gzip stream breaks off")
        return b""

    def _open_member(self) -> bool:
        rest = self._inflate.unused_data or self._handle.read(_INPUT)
        if not rest:
            return False
        if len(rest) < len(GZIP_MAGIC):
            rest += self._handle.read(_INPUT)
        if not rest.startswith(GZIP_MAGIC):
            raise _trailing("bytes that are not gzip")
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise _bomb(f"has more than {_MAX_MEMBERS} members")
        self._inflate, self._pending = zlib.decompressobj(wbits=31), rest
        return True

    def _decompress(self, data: bytes, limit: int) -> bytes:
        try:
            return self._inflate.decompress(data, limit)
        except zlib.error as error:
            sum_differs = "data check" in str(error) or "length check" in str(error)
            raise VolumeError(
                "volume.checksum" if sum_differs else "volume.damaged",
                "The gzip checksum does not fit the data." if sum_differs else f"The gzip data is damaged ({error}).",
                _AGAIN,
            ) from error


def _truncated(detail: str) -> VolumeError:
    return VolumeError("volume.truncated", f"The file is cut short: {detail}.", _AGAIN)


def _trailing(what: str) -> VolumeError:
    return VolumeError(
        "volume.trailing_data", f"The file goes on after its last voxel ({what} too many).",
        f"Its header does not describe its data. {_AGAIN}",
    )


def _bomb(what: str) -> VolumeError:
    return VolumeError("volume.gzip_bomb", f"The gzip stream {what}.", "Do not trust this file; get the scan again.")
