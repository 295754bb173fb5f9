"""Batches of the next steps, made in a thread while the model works on this one.

A batch follows from its step alone, so that it does not matter when it is made: a run that was stopped makes again
what it had ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Asked for the steps in their order. count: how many further batches are kept ready, 0 for none and no thread.

    end: the first step that will not be asked for.
    """

    def __init__(self, make: Callable[[int], T], count: int, end: int) -> None:
        self.make, self.count, self.end = make, count, end
        # One thread: a sampler walks, and two would trip over each other.
        self._pool = ThreadPoolExecutor(1, "ahead") if count else None
        self._made: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        """The batch of this step. An error in its making is raised here, at its own step."""
        if self._pool is None:
            return self.make(step)
        for k in range(step, max(min(step + self.count + 1, self.end), step + 1)):
            if k not in self._made:
                self._made[k] = self._pool.submit(self.make, k)
        return self._made.pop(step).result()

    def close(self) -> None:
        """Forget what is ahead and end the thread."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
