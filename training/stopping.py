"""SIGTERM and SIGUSR1 ask a run to save and stop, as cluster schedulers do before they kill."""

from __future__ import annotations

import signal
import threading
from types import FrameType

EXIT_CODE = 143
"""What a run that was stopped returns: 128 + SIGTERM, so that a script can start it again."""


class StopSignal:
    """Whether somebody asked to stop; listens within a ``with`` block, in the main thread."""

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def __enter__(self) -> StopSignal:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._ask) for n in (signal.SIGTERM, signal.SIGUSR1)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
