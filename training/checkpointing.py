"""Snapshots of a run that survive what clusters do to jobs.

A snapshot is a folder ``RUN/snapshots/step-00000100`` with the state and a ``manifest.json`` of the sha256 of every
file. It is written under another name, every byte is flushed to the disk, and only then does it take its name; so a
folder with that name is whole, or was damaged later, which its manifest tells. The newest that is whole is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from braing3n_core.errors import BrainG3NError

MANIFEST, STATE = "manifest.json", "state.pt"
_NAME = re.compile(r"step-(\d{8})")


class SnapshotError(BrainG3NError):
    """A snapshot is damaged, or is one of another model. Choose another, or start afresh with ``--resume never``."""


class Snapshots:
    """The snapshots of one run, oldest first; ``keep`` of them stay."""

    def __init__(self, run: Path, keep: int = 2) -> None:
        self.folder = run / "snapshots"
        self.keep = keep

    def names(self) -> list[Path]:
        """Folders that have the name of a snapshot, whole or not, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if _NAME.fullmatch(p.name))

    def begin(self, step: int) -> Path:
        """An empty folder to write the state of ``step`` into; :meth:`seal` gives it its name."""
        partial = self.folder / f".step-{step:08d}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def seal(self, partial: Path, step: int) -> Path:
        """Write the manifest, flush everything, give the folder its name, and remove what is too old."""
        files = sorted(p for p in partial.rglob("*") if p.is_file())
        hashes = {p.relative_to(partial).as_posix(): _sha256(p) for p in files}
        (partial / MANIFEST).write_text(json.dumps({"sha256": hashes}, indent=2) + "\n")
        for path in (*files, partial / MANIFEST, partial):
            _flush(path)
        target = self.folder / f"step-{step:08d}"
        shutil.rmtree(target, ignore_errors=True)  # a damaged one that was passed over
        partial.rename(target)
        _flush(self.folder)
        for old in [p for p in self.names() if p.name <= target.name][: -self.keep]:
            shutil.rmtree(old)
        return target

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """One process's snapshot: ``write(folder)`` puts the state there."""
        partial = self.begin(step)
        write(partial)
        return self.seal(partial, step)

    def newest(self) -> Path | None:
        """The newest whole snapshot, or None when there never was one. Damaged ones are named and passed over.

        Raises SnapshotError when there are snapshots but none is whole: nobody should lose a run by starting again.
        """
        found = self.names()[::-1]
        for path in found:
            if (damage := damage_of(path)) is None:
                return path
            print(f"passed over {path}: {damage}", file=sys.stderr, flush=True)
        if found:
            raise SnapshotError(
                "snapshot.none_whole", f"None of the {len(found)} snapshots in {self.folder} is whole.",
                "Start afresh with --resume never, or give another run's snapshot with --resume PATH.",
            )
        return None

    def set_aside(self) -> None:
        """Keep the snapshots of an earlier run under another name, so that they are never taken for this one's."""
        if self.folder.is_dir():
            number = 1
            while (aside := self.folder.with_name(f"snapshots.old-{number}")).exists():
                number += 1
            self.folder.rename(aside)


def damage_of(snapshot: Path) -> str | None:
    """What is wrong with a snapshot folder, in words, or None when it is whole."""
    try:
        recorded = json.loads((snapshot / MANIFEST).read_text())["sha256"]
        present = {p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()} - {MANIFEST}
        if not recorded or present != set(recorded):
            return f"its files are {sorted(present)}, its manifest names {sorted(recorded)}"
        wrong = [name for name, digest in recorded.items() if _sha256(snapshot / name) != digest]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its manifest cannot be read ({type(error).__name__}: {error})"
    return f"{', '.join(wrong)} does not have the sha256 of its manifest" if wrong else None


def choose(run: Path, resume: str, keep: int = 2) -> Path | None:
    """The snapshot that ``--resume`` asks for. resume: ``auto`` (newest whole one), ``never``, or a path to a snapshot
    or a run. Raises SnapshotError when a named one is missing or damaged."""
    snapshots = Snapshots(run, keep)
    if resume == "auto":
        return snapshots.newest()
    if resume == "never":
        return None
    path = Path(resume)
    if _NAME.fullmatch(path.name) and path.is_dir():
        if damage := damage_of(path):
            raise SnapshotError("snapshot.damaged", f"{path} is damaged: {damage}.", "Give another snapshot.")
        return path
    found = Snapshots(path).newest()
    if found is None:
        raise SnapshotError("snapshot.missing", f"There is no snapshot in {path}.", "Give a run or a snapshot.")
    return found


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Tensors, numbers and words as ``state.pt``."""
    torch.save(state, folder / STATE)


def read_state(folder: Path) -> dict[str, Any]:
    """The inverse of :func:`write_state`, on the CPU; no object but tensors, numbers and words is unpickled."""
    state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    return state


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
