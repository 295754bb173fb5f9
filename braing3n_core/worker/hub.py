"""News of jobs: what the long-polls wait for."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class News:
    """How far a job is. version: rises with every change; started: monotonic clock at its start."""

    version: int = 0
    stage: str = ""
    fraction: float = 0.0
    message: str = ""
    started: float = field(default_factory=time.monotonic)

    def seconds_left(self) -> float | None:
        """An estimate from the pace so far, when there is one."""
        if not 0.02 < self.fraction < 1.0:
            return None
        return round((time.monotonic() - self.started) * (1 / self.fraction - 1), 1)


class Hub:
    """The newest news of each job. Any thread tells, the event loop waits."""

    def __init__(self) -> None:
        self._news: dict[str, News] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve the waiters of this loop."""
        self._loop = loop

    def get(self, job: str) -> News:
        """The newest news."""
        with self._lock:
            return self._news.get(job, News())

    def tell(self, job: str, stage: str, fraction: float = 0.0, message: str = "") -> None:
        """Something has changed."""
        with self._lock:
            old = self._news.get(job, News())
            started = old.started if old.stage == stage else time.monotonic()
            self._news[job] = replace(
                old, version=old.version + 1, stage=stage, fraction=fraction, message=message, started=started
            )
            waiting = list(self._waiting.get(job, ()))
        if self._loop is not None and waiting and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_set_all, waiting)

    def drop(self, job: str) -> None:
        """Nobody will ask again."""
        self.tell(job, "erased")
        with self._lock:
            self._news.pop(job, None)

    async def wait(self, job: str, seen: int, seconds: float) -> None:
        """Until there is news later than version ``seen``, or the time is up."""
        event = asyncio.Event()
        with self._lock:
            if self._news.get(job, News()).version != seen:
                return
            self._waiting.setdefault(job, set()).add(event)
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return
        finally:
            with self._lock:
                self._waiting[job].discard(event)
                if not self._waiting[job]:
                    del self._waiting[job]


def _set_all(events: list[asyncio.Event]) -> None:
    for event in events:
        event.set()
