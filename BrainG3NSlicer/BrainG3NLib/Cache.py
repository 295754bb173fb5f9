"""What BrainG3N has downloaded to this computer: how much, and its removal. Nothing of a patient lies there."""

from __future__ import annotations

import shutil
from pathlib import Path

from braing3n_core.errors import BrainG3NError
from braing3n_core.preprocess.template import cache_dir


def folder() -> Path:
    """Where downloads such as the weights of MindGrab are kept."""
    return cache_dir()


def sizeInBytes() -> int:
    """Of all files in the folder; 0 when there is none."""
    return sum(path.lstat().st_size for path in folder().rglob("*") if path.is_file())


def text() -> str:
    """Size and place in one line."""
    size = sizeInBytes()
    return f"{size / 1e6:.1f} MB in {folder()}" if size else f"Nothing was downloaded to {folder()} yet."


def clear() -> int:
    """Remove the folder; what is needed again is downloaded again. Returns the bytes. Raises BrainG3NError."""
    size, place = sizeInBytes(), folder()
    if place.is_symlink():
        raise BrainG3NError("slicer.cache", f"{place} is a link to another folder.", "Empty that folder yourself.")
    try:
        shutil.rmtree(place)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise BrainG3NError(
            "slicer.cache", f"{error.filename or place} cannot be removed: {error.strerror}.",
            "Close what uses it, then try again.",
        ) from error  # fmt: skip
    return size
