"""BrainG3N: a 3D brain MRI as 1200 tokens; probes, counterfactuals and forecasts from them.

Research software, not for clinical use. Heavy imports (torch) happen only when a name that needs them is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC: dict[str, str] = {
    "BrainG3NError": "errors",
    "Cancel": "progress",
    "Conditions": "schema",
    "CounterfactualRequest": "schema",
    "Engine": "engine",
    "ForecastRequest": "schema",
    "GenerateRequest": "schema",
    "LocalWorker": "local_worker",
    "PreprocessOptions": "schema",
    "ProcessEngine": "client",
    "Reading": "schema",
    "RemoteEngine": "remote",
    "Result": "schema",
    "Volume": "volume",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
