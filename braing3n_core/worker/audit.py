"""The audit trail: who did what when, each line holding the hash of the one before. No names of patients, no voxels."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path

from ..errors import ConfigError

_START = "0" * 64


class Audit:
    """Appends to ``audit.jsonl``; a line that was changed or removed breaks the chain from there on."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._last = _repair(path)
        self._handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 - held as long as the worker lives
        os.chmod(path, 0o600)

    def write(self, user: str, action: str, thing: str = "", code: str = "") -> None:
        """Add a line. thing: the id of a job or the sha256 of a file."""
        with self._lock:
            entry = {"time": round(time.time(), 3), "user": user, "action": action, "object": thing, "code": code}
            self._last = _link(self._last, entry)
            self._handle.write(json.dumps({**entry, "hash": self._last}) + "\n")
            self._handle.flush()
            if action in ("token.refused", "job.erased", "job.expired"):
                os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._handle.close()


def verify_audit(path: Path) -> int:
    """The number of lines of an unbroken trail. Raises ConfigError ``audit.broken`` naming the first wrong line."""
    last, count = _START, 0
    for count, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            said = entry.pop("hash")
        except (ValueError, KeyError, AttributeError):
            said, entry = None, {}
        last = _link(last, entry)
        if said != last:
            raise ConfigError("audit.broken", f"Line {count} of the audit trail does not fit the one before.",
                              "Somebody or something has changed the file.")  # fmt: skip
    return count


def _link(last: str, entry: dict[str, object]) -> str:
    return hashlib.sha256((last + json.dumps(entry, sort_keys=True)).encode()).hexdigest()


def _repair(path: Path) -> str:
    """The hash to go on from; a last line that a power cut left half is dropped."""
    if not path.exists():
        return _START
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        with open(path, "rb+") as handle:
            handle.truncate(len(whole))
    lines = whole.splitlines()
    try:
        return str(json.loads(lines[-1])["hash"]) if lines else _START
    except (ValueError, KeyError, TypeError):
        return _START
