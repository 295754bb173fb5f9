"""Uploads: content-addressed, per user, in pieces that resume where they stopped.

A file belongs to the user who sent it: knowing the sha256 of somebody else's file gives nothing. The bytes lie in the
spool under the owner's folder; a file takes its final name only when its sha256 is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path

from ..errors import RequestError
from .settings import Limits
from .spool import Spool
from .store import Database, UploadRow


class OffsetError(RequestError):
    """A piece does not begin where the file stands. Continue at ``offset``."""

    def __init__(self, offset: int) -> None:
        super().__init__("upload.offset", f"The upload stands at byte {offset}.", "Send the piece that begins there.")
        self.offset = offset


class FullError(RequestError):
    """There is no room for the file now. Wait, or erase finished jobs."""


class UploadStore:
    """The uploads of all users."""

    def __init__(self, database: Database, spool: Spool, limits: Limits) -> None:
        self._database, self._spool, self._limits = database, spool, limits
        self._locks = [threading.Lock() for _ in range(64)]

    def get(self, owner: str, sha256: str) -> UploadRow | None:
        """What is known of a user's file."""
        with self._database.transaction() as db:
            row = db.execute("SELECT * FROM uploads WHERE owner=? AND sha256=?", (owner, sha256)).fetchone()
        if row is None:
            return None
        return UploadRow(row["owner"], row["sha256"], row["size"], bool(row["complete"]), json.loads(row["verdicts"]))

    def offset(self, upload: UploadRow) -> int:
        """How many bytes have arrived."""
        if upload.complete:
            return upload.size
        partial = self._spool.partial(upload.owner, upload.sha256)
        return partial.stat().st_size if partial.exists() else 0

    def append(self, owner: str, sha256: str, size: int, offset: int, piece: bytes) -> int:
        """Add a piece of a file of ``size`` bytes; how many bytes have arrived now.

        Raises OffsetError when the piece does not begin there, RequestError ``upload.sha256`` when the whole file is
        not what its name says (it is then dropped), FullError when a quota or the disk is full.
        """
        with self._locks[int(sha256[:4], 16) % len(self._locks)]:
            upload = self._opened(owner, sha256, size)
            stands = self.offset(upload)
            if upload.complete:
                return stands
            if offset != stands:
                raise OffsetError(stands)
            if stands + len(piece) > size:
                raise RequestError("upload.size", f"The piece goes beyond the {size} bytes of the file.", "Send less.")
            path = self._spool.partial(owner, sha256)
            _append(path, piece, stands)
            if stands + len(piece) == size:
                self._complete(upload, path)
            self._touch(owner, sha256)
            return stands + len(piece)

    def judge(self, owner: str, sha256: str, extension: str, verdict: dict[str, str] | None) -> None:
        """Keep what the parser said of a file under this extension; None is: sound."""
        upload = self.get(owner, sha256)
        if upload is None:
            return
        verdicts = json.dumps({**upload.verdicts, extension: verdict})
        with self._database.transaction() as db:
            db.execute("UPDATE uploads SET verdicts=? WHERE owner=? AND sha256=?", (verdicts, owner, sha256))

    def forget(self, owner: str, sha256: str) -> bool:
        """Erase a user's file, unless a job needs it."""
        with self._database.transaction() as db:
            gone = db.execute(
                "DELETE FROM uploads WHERE owner=? AND sha256=? AND NOT EXISTS (SELECT 1 FROM needs n JOIN jobs j "
                "ON j.id=n.job WHERE j.owner=uploads.owner AND n.sha256=uploads.sha256)", (owner, sha256),
            ).rowcount  # fmt: skip
        if gone:
            self._spool.erase_upload(owner, sha256)
        return bool(gone)

    def stale(self, touched_before: float) -> list[tuple[str, str]]:
        """Files that no job needs and nobody has touched since."""
        with self._database.transaction() as db:
            rows = db.execute("SELECT owner, sha256 FROM uploads WHERE touched<?", (touched_before,)).fetchall()
        return [(r[0], r[1]) for r in rows]

    def keys(self) -> set[tuple[str, str]]:
        """Every (owner, sha256) that may have a file."""
        with self._database.transaction() as db:
            return {(r[0], r[1]) for r in db.execute("SELECT owner, sha256 FROM uploads").fetchall()}

    def _opened(self, owner: str, sha256: str, size: int) -> UploadRow:
        upload = self.get(owner, sha256)
        if upload is not None:
            if upload.size != size:
                told = f"This file was announced with {upload.size} bytes."
                raise RequestError("upload.size", told, "Say that size.")
            return upload
        self._check_room(owner, size)
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO uploads (owner,sha256,size,touched) VALUES (?,?,?,?)", (owner, sha256, size, time.time())
            )
        return UploadRow(owner, sha256, size, False, {})

    def _check_room(self, owner: str, size: int) -> None:
        with self._database.transaction() as db:
            count, taken = db.execute(
                "SELECT count(*), coalesce(sum(size),0) FROM uploads WHERE owner=?", (owner,)
            ).fetchone()
        if count >= self._limits.user_uploads or taken + size > self._limits.user_bytes:
            raise FullError("upload.quota", "Your files on this worker reach their limit.",
                            "Wait for your jobs, or erase finished ones.")  # fmt: skip
        if shutil.disk_usage(self._spool.root).free - size < self._limits.free_bytes:
            raise FullError("upload.disk", "The worker's disk is nearly full.", "Try again later; tell its operator.")

    def _complete(self, upload: UploadRow, path: Path) -> None:
        with open(path, "rb+") as handle:
            actual = hashlib.file_digest(handle, "sha256").hexdigest()
            os.fsync(handle.fileno())
        if actual != upload.sha256:
            path.unlink()
            raise RequestError("upload.sha256", "The file that arrived has another sha256 than was announced.",
                               "Send it again from the start.")  # fmt: skip
        self._spool.promote(path)
        with self._database.transaction() as db:
            db.execute(
                "UPDATE uploads SET complete=1 WHERE owner=? AND sha256=?", (upload.owner, upload.sha256)
            )

    def _touch(self, owner: str, sha256: str) -> None:
        with self._database.transaction() as db:
            db.execute("UPDATE uploads SET touched=? WHERE owner=? AND sha256=?", (time.time(), owner, sha256))


def _append(path: Path, piece: bytes, stands: int) -> None:
    """All of the piece or, when the disk is full, nothing of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "ab") as handle:
        try:
            handle.write(piece)
            handle.flush()
        except OSError as error:
            handle.truncate(stands)
            raise FullError("upload.disk", "The worker's disk is full.", "Try again later.") from error
