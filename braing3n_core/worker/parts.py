"""What the routes and the lanes of a worker share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .audit import Audit
from .hub import Hub
from .settings import Settings
from .spool import Spool
from .store import JobStore
from .uploads import UploadStore


@dataclass
class Parts:
    """The parts of one worker, and its counters."""

    settings: Settings
    spool: Spool
    jobs: JobStore
    uploads: UploadStore
    hub: Hub
    audit: Audit
    scrub: Callable[[], None]
    counters: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter of the metrics."""
        with self._lock:
            self.counters[name] = self.counters.get(name, 0) + by
