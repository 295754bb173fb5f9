"""Progress and cancellation, injected into every long operation.

A progress sink is any callable ``(fraction, message)`` with ``fraction`` in [0, 1]. A :class:`Cancel` is a thread-safe
flag; long loops call :meth:`Cancel.check` once per step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .errors import Cancelled

Progress = Callable[[float, str], None]


def silent(fraction: float, message: str) -> None:
    """A progress sink that shows nothing."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A sink whose 0..1 fills ``start..stop`` of the given sink, for the steps of a longer job."""

    def report(fraction: float, message: str) -> None:
        progress(start + (stop - start) * min(max(fraction, 0.0), 1.0), message)

    return report


class Cancel:
    """A flag that any thread may set and the working thread checks between steps."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop at its next step."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise :class:`Cancelled` if a stop was asked for."""
        if self.cancelled:
            raise Cancelled()
