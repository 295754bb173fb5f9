"""The worker's folder: who may see it, where everything lies, and how it is erased.

``worker.sqlite``, ``audit.jsonl``, ``uploads/<owner>/<sha256>``, ``jobs/<id>/in`` and ``jobs/<id>/out``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..errors import ConfigError

_PARTIAL = ".partial"


class Spool:
    """The folder of one worker; opening it locks it, so that two workers never share one."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.root / "uploads", self.root / "jobs"):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = _locked(self.root / "lock")

    @property
    def database(self) -> Path:
        return self.root / "worker.sqlite"

    @property
    def audit(self) -> Path:
        return self.root / "audit.jsonl"

    def upload(self, owner: str, sha256: str) -> Path:
        """A complete file."""
        return self.root / "uploads" / _folder_of(owner) / sha256

    def partial(self, owner: str, sha256: str) -> Path:
        """A file that is still arriving."""
        return self.upload(owner, sha256).with_name(sha256 + _PARTIAL)

    def promote(self, partial: Path) -> None:
        """Give a complete file its name, for good."""
        os.replace(partial, partial.with_name(partial.name.removesuffix(_PARTIAL)))
        _sync_folder(partial.parent)

    def job(self, job: str) -> Path:
        """The folder of a job: ``in`` and ``out``."""
        return self.root / "jobs" / job

    def lay_out(self, job: str, files: dict[str, Path]) -> Path:
        """An empty job folder with these files as hard links. files: by path relative to the folder."""
        folder = self.job(job)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "in").mkdir(mode=0o700, parents=True)
        for name, source in files.items():
            _link(source, folder / name)
        return folder

    def clear_inputs(self, job: str) -> None:
        """A finished job needs its inputs no longer."""
        shutil.rmtree(self.job(job) / "in", ignore_errors=True)

    def erase_job(self, job: str) -> None:
        """Remove all files of a job."""
        shutil.rmtree(self.job(job), ignore_errors=True)

    def erase_upload(self, owner: str, sha256: str) -> None:
        """Remove a file, whole or arriving."""
        for path in (self.upload(owner, sha256), self.partial(owner, sha256)):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.upload(owner, sha256).parent.rmdir()  # only when it is empty

    def sweep(self, jobs: set[str], uploads: set[tuple[str, str]]) -> None:
        """Remove every file that neither a job nor an upload of the database accounts for."""
        for folder in (self.root / "jobs").iterdir():
            if folder.name not in jobs:
                shutil.rmtree(folder, ignore_errors=True)
        known = {(_folder_of(owner), sha256) for owner, sha256 in uploads}
        for path in (self.root / "uploads").glob("*/*"):
            if (path.parent.name, path.name.removesuffix(_PARTIAL)) not in known:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another worker have the folder."""
        self._lock.close()


def _folder_of(owner: str) -> str:
    """A user's folder; any name of a user makes a safe one."""
    return hashlib.sha256(owner.encode()).hexdigest()[:32]


def _locked(path: Path) -> IO[bytes]:
    handle = open(path, "ab")  # noqa: SIM115 - held as long as the worker lives
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: no lock, the port is the only guard
        return handle
    except OSError as error:
        handle.close()
        raise ConfigError("worker.spool", "Another worker is using this spool folder.",
                          "Stop it, or give this one its own with --spool.") from error  # fmt: skip
    return handle


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # Windows cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
