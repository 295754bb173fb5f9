"""Where the model runs: on a worker of one's own on this computer, or on a worker at a URL; one client for both.

Nothing of it runs inside Slicer: torch is never imported here. Every method may take seconds and belongs in a thread.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braing3n_core.errors import BrainG3NError, DependencyError
from braing3n_core.local_worker import LocalWorker
from braing3n_core.remote import RemoteEngine
from braing3n_core.schema import EngineProtocol

LOCAL, REMOTE = "local", "remote"
HOME = "BRAING3N_PYTHON"
"""Environment variable: the Python that has braing3n with its models, unless the panel names one."""


@dataclass(frozen=True)
class ComputeSettings:
    """The choice of the Compute panel. It belongs to this computer and is never saved in a scene.

    python: interpreter with braing3n; empty: ``BRAING3N_PYTHON`` or Slicer's own. checkpoint: folder; empty: the
    embedded one. token: kept in memory only. fingerprint: of the worker's certificate, empty for none.
    """

    location: str = LOCAL
    python: str = ""
    checkpoint: str = ""
    device: str = "auto"
    url: str = ""
    token: str = ""
    fingerprint: str = ""

    def interpreter(self) -> str:
        """The Python that runs the model."""
        return self.python or os.environ.get(HOME, "") or sys.executable


class Compute:
    """The engine of some settings, started on first use and stopped by :meth:`stop`."""

    def __init__(self, settings: ComputeSettings, environment: dict[str, str] | None = None) -> None:
        self.settings = settings
        self.environment = environment
        self._worker: LocalWorker | None = None
        self._engine: EngineProtocol | None = None
        self._starting = threading.Lock()  # several threads may ask at once: one worker is enough

    def engine(self) -> EngineProtocol:
        """The engine, near or far; a local worker that died is started again.

        Raises BrainG3NError in a sentence when it cannot be had.
        """
        with self._starting:
            if self._worker is not None and not self._worker.running:
                self.stop()
            if self._engine is None:
                self._engine = self._remote() if self.settings.location == REMOTE else self._local()
            return self._engine

    def stop(self) -> None:
        """End the local worker, if one was started."""
        worker, self._worker, self._engine = self._worker, None, None
        if worker is not None:
            worker.stop()

    def _local(self) -> EngineProtocol:
        python = self.settings.interpreter()
        if not Path(python).is_file():
            raise DependencyError(
                "slicer.python", f"There is no Python at {python}.",
                "Point 'Python' in the Compute panel to one that has braing3n, or set BRAING3N_PYTHON.",
            )  # fmt: skip
        self._worker = LocalWorker(
            python, self.settings.checkpoint or None, self.settings.device, environment=self.environment
        )  # fmt: skip
        return self._worker.start()

    def _remote(self) -> EngineProtocol:
        url = self.settings.url.strip()
        if not url.startswith(("http://", "https://")):
            raise BrainG3NError(
                "slicer.url", f"The worker's address {url!r} is not a URL.", "Type for example https://server:8443"
            )
        return RemoteEngine(url, self.settings.token, self.settings.fingerprint or None)


def summary(capabilities: dict[str, Any]) -> str:
    """The engine in two lines: device and why, checkpoint and licence."""
    device, card = capabilities.get("device", {}), capabilities.get("checkpoint", {})
    name = {"cpu": "CPU", "cuda": "GPU", "mps": "GPU (Apple)"}.get(device.get("name"), device.get("name") or "none")
    ids = ", ".join(f"{kind} {number[:8]}" for kind, number in card.get("ids", {}).items())
    return (
        f"Ready: {name} ({device.get('why', 'no reason given')}), version {capabilities.get('version', '?')}.\n"
        f"Checkpoint '{card.get('name', '?')}', {card.get('licence', 'no licence')}. {_plain(card.get('card', ''))}\n"
        f"Parts: {ids or 'none'}."
    )


def _plain(markdown: str) -> str:
    return markdown.replace("*", "").strip()
