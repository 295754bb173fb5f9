"""The lanes of a worker, one for each device, and the house they share: erasing what was cancelled or has expired."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from .lane import Lane
from .parts import Parts
from .roll import Roll

HOUSEKEEPING_SECONDS = 30.0


class Supervisor:
    """Starts, stops and speaks for the lanes."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self._roll = parts, Roll(parts.jobs)
        self._lanes = [Lane(parts, self._roll, gpu) for gpu in parts.settings.gpus or (None,)]
        self._housekeeper = threading.Thread(target=self._keep_house, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Recover what a crash left, then let the lanes work."""
        parts = self.parts
        for job in parts.jobs.recover():
            parts.spool.erase_job(job)
        parts.spool.sweep(parts.jobs.kept_ids(), parts.uploads.keys())
        for lane in self._lanes:
            lane.start()
        self._housekeeper.start()

    def stop(self) -> None:
        """End the executors; running jobs stay queued for the next start."""
        self._roll.close()
        for lane in self._lanes:
            lane.join()
        self._housekeeper.join(timeout=10)

    def wake(self) -> None:
        """There is a job."""
        self._roll.ring()

    @property
    def capabilities(self) -> dict[str, Any] | None:
        """What the engine can do, as soon as one lane has loaded it."""
        return next((lane.capabilities for lane in self._lanes if lane.capabilities is not None), None)

    @property
    def unfit(self) -> dict[str, str] | None:
        """Why no lane can load the engine; None while one can, or has not said."""
        said = [lane.unfit for lane in self._lanes]
        return None if None in said else said[0]

    @property
    def executors(self) -> int:
        """How many executors live."""
        return sum(lane.executor_pid is not None for lane in self._lanes)

    def erase(self, job: str) -> None:
        """Cancel a job wherever it is, and erase everything of it."""
        parts = self.parts
        for owner, sha256 in self._roll.erase(job):
            parts.spool.erase_upload(owner, sha256)
        parts.spool.erase_job(job)  # what an executor is writing right now goes when its lane leaves the job
        parts.hub.drop(job)
        parts.scrub()

    def _keep_house(self) -> None:
        while not self._roll.closed:
            try:
                self._erase_expired()
            except Exception as error:  # noqa: BLE001 - a full disk now is no reason to keep patients' files for ever
                sys.stderr.write(f"housekeeping: {type(error).__name__}\n")
                self.parts.count("supervisor_errors")
            self._roll.pause(HOUSEKEEPING_SECONDS)

    def _erase_expired(self) -> None:
        parts, now = self.parts, time.time()
        for job in parts.jobs.expired(now - parts.settings.limits.result_hours * 3600):
            parts.audit.write("", "job.expired", job)
            self.erase(job)
        for owner, sha256 in parts.uploads.stale(now - parts.settings.limits.upload_hours * 3600):
            parts.uploads.forget(owner, sha256)
        parts.jobs.forget_erased(now - 7 * 24 * 3600)
