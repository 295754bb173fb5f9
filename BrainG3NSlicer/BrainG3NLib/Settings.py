"""What belongs to this computer and survives a restart: where the model runs. The token is never written anywhere."""

from __future__ import annotations

import qt

from .Worker import LOCAL, ComputeSettings

_GROUP = "BrainG3N"
_SAVED = ("location", "python", "checkpoint", "url", "fingerprint")


def load() -> ComputeSettings:
    """The saved choice; local on a new computer."""
    store = qt.QSettings()
    saved = {name: store.value(f"{_GROUP}/{name}") or "" for name in _SAVED}
    return ComputeSettings(**{**saved, "location": saved["location"] or LOCAL})


def save(settings: ComputeSettings) -> None:
    """Keep all but the token."""
    store = qt.QSettings()
    for name in _SAVED:
        store.setValue(f"{_GROUP}/{name}", getattr(settings, name))


def isConfirmed(url: str) -> bool:
    """Whether the user has once agreed to send scans to this worker."""
    return url in (qt.QSettings().value(f"{_GROUP}/confirmed") or "").split("\n")


def confirm(url: str) -> None:
    """Remember that the user agreed."""
    store = qt.QSettings()
    known = [u for u in (store.value(f"{_GROUP}/confirmed") or "").split("\n") if u]
    store.setValue(f"{_GROUP}/confirmed", "\n".join([*known, url]))
