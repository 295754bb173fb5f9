"""What the lanes of a worker share: the jobs that are being done, those erased meanwhile, and the bell for new ones."""

from __future__ import annotations

import threading
from collections import Counter

from .store import JobRow, JobStore


class Roll:
    """Gives each queued job to one lane. Any thread may call."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._bell = threading.Condition()
        self._busy: Counter[str] = Counter()  # two for a moment, when one lane puts back what another takes
        self._erased: set[str] = set()
        self.rung, self.closed = 0, False

    def take(self) -> JobRow | None:
        """The next job, the caller's until it leaves it."""
        with self._bell:
            job = self._jobs.take_next()
            if job is not None:
                self._busy[job.id] += 1
            return job

    def leave(self, job: str) -> bool:
        """A lane has let go of the job; whether it was erased meanwhile."""
        with self._bell:
            erased = job in self._erased
            self._busy[job] -= 1
            if not self._busy[job]:
                del self._busy[job]
                self._erased.discard(job)
            return erased

    def erase(self, job: str) -> list[tuple[str, str]]:
        """Erase the job's rows, tell the lane that is doing it, if any; the uploads that nobody needs now."""
        with self._bell:
            uploads = self._jobs.erase(job)
            if job in self._busy:
                self._erased.add(job)
            return uploads

    def is_erased(self, job: str) -> bool:
        """Whether a job that a lane is doing is wanted no longer."""
        return job in self._erased

    def ring(self) -> None:
        """There is a job."""
        with self._bell:
            self.rung += 1
            self._bell.notify_all()

    def wait(self, seen: int, seconds: float) -> None:
        """Until the bell has rung since ``seen``, the roll is closed, or the time is up."""
        with self._bell:
            self._bell.wait_for(lambda: self.closed or self.rung != seen, seconds)

    def pause(self, seconds: float) -> None:
        """So long, or until the roll is closed."""
        with self._bell:
            self._bell.wait_for(lambda: self.closed, seconds)

    def close(self) -> None:
        """Let every lane come to its end."""
        with self._bell:
            self.closed = True
            self._bell.notify_all()
