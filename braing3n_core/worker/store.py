"""Jobs and uploads in SQLite: what was acknowledged is on the disk, whatever is killed.

Write-ahead log with ``synchronous=FULL``; erased rows are overwritten (``secure_delete``). One connection and one lock:
every method is one transaction and may be called from any thread.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY, owner TEXT NOT NULL, body_sha TEXT NOT NULL, request TEXT NOT NULL, format TEXT NOT NULL,
  state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, started REAL, finished REAL,
  result TEXT, error TEXT, number INTEGER);
CREATE INDEX IF NOT EXISTS jobs_state ON jobs(state, owner);
CREATE TABLE IF NOT EXISTS artifacts (
  job TEXT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (job, name));
CREATE TABLE IF NOT EXISTS uploads (
  owner TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL, complete INTEGER NOT NULL DEFAULT 0,
  verdicts TEXT NOT NULL DEFAULT '{}', touched REAL NOT NULL, PRIMARY KEY (owner, sha256));
CREATE TABLE IF NOT EXISTS needs (job TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (job, sha256));
CREATE TABLE IF NOT EXISTS turns (owner TEXT PRIMARY KEY, served INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (
  id TEXT PRIMARY KEY, user TEXT NOT NULL, secret_sha256 TEXT NOT NULL, scopes TEXT NOT NULL, expires REAL,
  revoked INTEGER NOT NULL DEFAULT 0);
"""
_VERSION = 1


@dataclass(frozen=True)
class JobRow:
    """One job. state: queued, running, done, failed, cancelled, erased. result, error: JSON values."""

    id: str
    owner: str
    body_sha: str
    request: dict[str, Any]
    format: str
    state: str
    attempts: int
    created: float
    finished: float | None
    result: dict[str, Any] | None
    error: dict[str, str] | None


@dataclass(frozen=True)
class Artifact:
    """One file of a finished job."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class UploadRow:
    """One file of one user. verdicts: by extension, the parser's error or None. touched: seconds since 1970."""

    owner: str
    sha256: str
    size: int
    complete: bool
    verdicts: dict[str, dict[str, str] | None]


class Database:
    """The connection, the lock and the transactions."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30.0)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA user_version={_VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block, or nothing of it."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def scrub(self) -> None:
        """Move the log into the database and empty it, so that nothing erased stays in either."""
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Write everything back and let go of the file."""
        with self._lock:
            self._db.close()


class JobStore:
    """The jobs of all users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job: str) -> JobRow | None:
        """One job, erased ones included."""
        with self._database.transaction() as db:
            row = db.execute("SELECT * FROM jobs WHERE id=?", (job,)).fetchone()
        return None if row is None else _job(row)

    def of_owner(self, owner: str) -> list[JobRow]:
        """A user's jobs, newest first, without the erased ones."""
        with self._database.transaction() as db:
            rows = db.execute(
                "SELECT * FROM jobs WHERE owner=? AND state<>'erased' ORDER BY created DESC LIMIT 1000", (owner,)
            ).fetchall()
        return [_job(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._database.transaction() as db:
            return dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def unfinished(self, owner: str) -> tuple[int, int]:
        """Queued and running jobs: of everybody, and of this user."""
        with self._database.transaction() as db:
            row = db.execute(
                "SELECT count(*), coalesce(sum(owner=?), 0) FROM jobs WHERE state IN ('queued','running')", (owner,)
            ).fetchone()
        return int(row[0]), int(row[1])

    def add(self, job: JobRow, needs: list[str]) -> bool:
        """Queue a job that needs these uploads; False when one of them is not (or no longer) complete."""
        with self._database.transaction() as db:
            for sha in needs:
                key = (job.owner, sha)
                have = db.execute("SELECT complete FROM uploads WHERE owner=? AND sha256=?", key).fetchone()
                if have is None or not have[0]:
                    return False
            db.execute(
                "INSERT INTO jobs (id,owner,body_sha,request,format,state,created,number) VALUES (?,?,?,?,?,'queued',?,"
                "(SELECT coalesce(max(number),0)+1 FROM jobs))",
                (job.id, job.owner, job.body_sha, json.dumps(job.request), job.format, job.created),
            )
            db.executemany("INSERT OR IGNORE INTO needs VALUES (?,?)", [(job.id, sha) for sha in needs])
        return True

    def take_next(self) -> JobRow | None:
        """The next job, now running: of the user who was served longest ago, the oldest."""
        with self._database.transaction() as db:
            row = db.execute(
                "SELECT j.* FROM jobs j LEFT JOIN turns t ON t.owner=j.owner WHERE j.state='queued' "
                "ORDER BY coalesce(t.served, 0), j.number LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            db.execute("UPDATE jobs SET state='running', started=? WHERE id=?", (time.time(), row["id"]))
            db.execute(
                "INSERT INTO turns VALUES (?, (SELECT coalesce(max(served),0)+1 FROM turns)) "
                "ON CONFLICT(owner) DO UPDATE SET served=(SELECT max(served)+1 FROM turns)", (row["owner"],),
            )  # fmt: skip
        return _job(row)

    def requeue(self, job: str, crashed: bool) -> int:
        """Back to the queue, at its old place; the number of its crashes so far."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE jobs SET state='queued', attempts=attempts+? WHERE id=? AND state='running'", (crashed, job)
            )
            row = db.execute("SELECT attempts FROM jobs WHERE id=?", (job,)).fetchone()
        return int(row[0]) if row else 0

    def finish(self, job: str, result: dict[str, Any], artifacts: list[Artifact]) -> bool:
        """The job is done; False when it was cancelled or erased meanwhile."""
        with self._database.transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state='done', result=?, finished=? WHERE id=? AND state='running'",
                (json.dumps(result), time.time(), job),
            ).rowcount
            if changed:
                db.executemany(
                    "INSERT OR REPLACE INTO artifacts VALUES (?,?,?,?)",
                    [(job, a.name, a.sha256, a.size) for a in artifacts],
                )
        return bool(changed)

    def fail(self, job: str, error: dict[str, str]) -> None:
        """The job has ended with an error."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE jobs SET state='failed', error=?, finished=? WHERE id=? AND state IN ('queued','running')",
                (json.dumps(error), time.time(), job),
            )

    def artifacts(self, job: str) -> list[Artifact]:
        """The files of a finished job."""
        with self._database.transaction() as db:
            rows = db.execute("SELECT name, sha256, size FROM artifacts WHERE job=? ORDER BY name", (job,)).fetchall()
        return [Artifact(*row) for row in rows]

    def erase(self, job: str) -> list[tuple[str, str]]:
        """Forget all of a job but its id; the uploads (owner, sha256) that no other job needs, now forgotten too."""
        with self._database.transaction() as db:
            row = db.execute("SELECT owner FROM jobs WHERE id=?", (job,)).fetchone()
            if row is None:
                return []
            db.execute(
                "UPDATE jobs SET state='erased', request='{}', body_sha='', result=NULL, error=NULL, finished=? "
                "WHERE id=?", (time.time(), job),
            )  # fmt: skip
            needed = [r[0] for r in db.execute("SELECT sha256 FROM needs WHERE job=?", (job,)).fetchall()]
            db.execute("DELETE FROM artifacts WHERE job=?", (job,))
            db.execute("DELETE FROM needs WHERE job=?", (job,))
            free = [(row[0], sha) for sha in needed if not _is_needed(db, row[0], sha)]
            db.executemany("DELETE FROM uploads WHERE owner=? AND sha256=?", free)
        return free

    def recover(self) -> list[str]:
        """After a start: jobs that were running are queued again; their ids."""
        with self._database.transaction() as db:
            ids = [r[0] for r in db.execute("SELECT id FROM jobs WHERE state='running'").fetchall()]
            db.execute("UPDATE jobs SET state='queued' WHERE state='running'")
        return ids

    def expired(self, finished_before: float) -> list[str]:
        """Finished jobs whose time is over."""
        with self._database.transaction() as db:
            rows = db.execute(
                "SELECT id FROM jobs WHERE state IN ('done','failed','cancelled') AND finished<?", (finished_before,)
            ).fetchall()
        return [r[0] for r in rows]

    def forget_erased(self, before: float) -> None:
        """Let go of the ids of jobs that were erased long ago."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM jobs WHERE state='erased' AND finished<?", (before,))

    def kept_ids(self) -> set[str]:
        """Ids of all jobs that may have files."""
        with self._database.transaction() as db:
            return {r[0] for r in db.execute("SELECT id FROM jobs WHERE state<>'erased'").fetchall()}


def _is_needed(db: sqlite3.Connection, owner: str, sha256: str) -> bool:
    found = db.execute(
        "SELECT 1 FROM needs n JOIN jobs j ON j.id=n.job WHERE j.owner=? AND n.sha256=? LIMIT 1", (owner, sha256)
    ).fetchone()
    return found is not None


def _job(row: sqlite3.Row) -> JobRow:
    return JobRow(
        row["id"], row["owner"], row["body_sha"], json.loads(row["request"]), row["format"], row["state"],
        row["attempts"], row["created"], row["finished"], _json(row["result"]), _json(row["error"]),
    )  # fmt: skip


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
