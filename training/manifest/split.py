"""Which side of the split a person is on: a hash of the person's name, the same on every machine (ADR 16)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from braing3n_core.errors import ConfigError

SPLITS: tuple[str, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class SplitOptions:
    """Shares of train, val and test, and a salt: another salt is another, equally deterministic, split."""

    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    salt: str = "braing3n-1"

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ConfigError(
                "split.shares", f"The shares {self.shares} are not three parts of one.", "Give e.g. 0.8 0.1 0.1."
            )


def split_of(person: str, options: SplitOptions | None = None) -> str:
    """``train``, ``val`` or ``test``. Depends on the person and the salt alone, never on who else is in the cohort."""
    options = options or SplitOptions()
    digest = hashlib.sha256(f"{options.salt}\n{person}".encode()).digest()
    place, edge = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for name, share in zip(SPLITS, options.shares, strict=True):
        edge += share
        if place < edge:
            return name
    return next(name for name, share in reversed(list(zip(SPLITS, options.shares, strict=True))) if share > 0)
