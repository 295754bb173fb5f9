"""Tokens: who may do what, and until when. Only the sha256 of a secret is kept; a token is shown once, when made.

A token reads ``bg3_<id>_<secret>``; the secret has 256 random bits, so that a plain hash is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass

from .store import Database

SCOPES: tuple[str, ...] = ("info", "run")
"""info: capabilities and readiness. run: uploads, jobs and results of one's own."""
_FORM = re.compile(r"bg3_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Principal:
    """Who a request comes from."""

    user: str
    token_id: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class TokenRow:
    """A token without its secret. expires: seconds since 1970, or None."""

    id: str
    user: str
    scopes: tuple[str, ...]
    expires: float | None
    revoked: bool


class TokenStore:
    """The tokens of a worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, user: str, scopes: tuple[str, ...] = SCOPES, expires: float | None = None) -> str:
        """A new token."""
        token = f"bg3_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
        self.add(token, user, scopes, expires)
        return token

    def add(self, token: str, user: str, scopes: tuple[str, ...] = SCOPES, expires: float | None = None) -> None:
        """Admit a token that was made elsewhere (a local worker's parent makes its own)."""
        name, secret_sha = _digest(token)
        with self._database.transaction() as db:
            db.execute("INSERT OR REPLACE INTO tokens VALUES (?,?,?,?,?,0)",
                       (name, user, secret_sha, " ".join(scopes), expires))  # fmt: skip

    def revoke(self, token_id: str) -> bool:
        """Admit a token no longer; False when there is none of this id."""
        with self._database.transaction() as db:
            return bool(db.execute("UPDATE tokens SET revoked=1 WHERE id=?", (token_id,)).rowcount)

    def list(self) -> list[TokenRow]:
        """All tokens."""
        with self._database.transaction() as db:
            rows = db.execute("SELECT id, user, scopes, expires, revoked FROM tokens ORDER BY user, id").fetchall()
        return [TokenRow(r[0], r[1], tuple(r[2].split()), r[3], bool(r[4])) for r in rows]

    def who(self, token: str) -> Principal | None:
        """Whose token this is, if it is valid now. Takes the same time for a wrong secret and an unknown id."""
        name, secret_sha = _digest(token)
        with self._database.transaction() as db:
            row = db.execute("SELECT * FROM tokens WHERE id=?", (name,)).fetchone()
        right = hmac.compare_digest(secret_sha, row["secret_sha256"] if row else _NOBODY)
        if not right or row is None or row["revoked"] or (row["expires"] is not None and row["expires"] <= time.time()):
            return None
        return Principal(row["user"], row["id"], frozenset(row["scopes"].split()))


def well_formed(token: str) -> bool:
    """Whether a text can be a token of this kind."""
    return _FORM.fullmatch(token) is not None or len(token) >= 32


def _digest(token: str) -> tuple[str, str]:
    """The id and the hash of the secret; a foreign token is its own secret, its id made from its hash."""
    match = _FORM.fullmatch(token)
    if match:
        return match[1], hashlib.sha256(match[2].encode()).hexdigest()
    whole = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
    return f"x{hashlib.sha256(whole.encode()).hexdigest()[:12]}", whole
