"""The thread that gives jobs to the executor, one at a time, and outlives everything that happens to it."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ProcessError
from ..protocol import files_of, neutral_path, read_content_id, with_files
from .audit import Audit
from .checks import Checker, ParserDied
from .executor_link import ExecutorLink
from .hub import Hub
from .settings import Settings
from .spool import Spool
from .store import Artifact, JobRow, JobStore
from .uploads import UploadStore

TICK_SECONDS = 0.05
HOUSEKEEPING_SECONDS = 30.0


@dataclass
class Parts:
    """What the supervisor and the routes share."""

    settings: Settings
    spool: Spool
    jobs: JobStore
    uploads: UploadStore
    hub: Hub
    audit: Audit
    scrub: Callable[[], None]
    counters: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter of the metrics."""
        self.counters[name] = self.counters.get(name, 0) + by


class Supervisor:
    """Takes the next job when the executor is free; starts the executor again whenever it has died."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.capabilities: dict[str, Any] | None = None
        self.unfit: dict[str, str] | None = None
        self._link: ExecutorLink | None = None
        self._checker = Checker(parts.settings.limits)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._erased: set[str] = set()
        self._current: JobRow | None = None
        self._swept = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)

    def start(self) -> None:
        """Recover what a crash left, then work on an own thread."""
        parts = self.parts
        for job in parts.jobs.recover():
            parts.spool.erase_job(job)
        parts.spool.sweep(parts.jobs.kept_ids(), parts.uploads.keys())
        self._thread.start()

    def stop(self) -> None:
        """End the executor; a running job stays queued for the next start."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=10)

    def wake(self) -> None:
        """There is a job."""
        self._wake.set()

    @property
    def executor_pid(self) -> int | None:
        return self._link.pid if self._link is not None and self._link.alive() else None

    def erase(self, job: str) -> None:
        """Cancel a job wherever it is, and erase everything of it."""
        parts = self.parts
        self._erased.add(job)
        for owner, sha256 in parts.jobs.erase(job):
            parts.spool.erase_upload(owner, sha256)
        parts.spool.erase_job(job)  # what the executor is writing right now goes when the supervisor hears of it
        parts.hub.drop(job)
        parts.scrub()
        self._wake.set()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - a full disk or a bug must not end the one thread that works
                self._stumble(error)
        self._checker.stop()
        if self._link is not None:
            self._link.kill()

    def _turn(self) -> None:
        """Keep house, take the next job, do it."""
        if time.monotonic() - self._swept > HOUSEKEEPING_SECONDS:
            self._keep_house()
            self._swept = time.monotonic()
        self._clean_erased()
        if not self._ready():
            return
        self._current = self.parts.jobs.take_next()
        if self._current is None:
            self._wake.wait(1.0)
            self._wake.clear()
        else:
            self._do(self._current)
        self._current = None

    def _stumble(self, error: Exception) -> None:
        """Something failed in here: say so, let go of the executor, and try the job again, not for ever."""
        sys.stderr.write(f"supervisor: {type(error).__name__}\n")
        self.parts.count("supervisor_errors")
        job, self._current = self._current, None
        if self._link is not None:
            self._link.kill()
        with contextlib.suppress(Exception):
            if job is not None:
                self._again(job)
        self._stop.wait(1.0)

    def _ready(self) -> bool:
        """Whether the executor runs and has loaded its engine; starts it, and waits a moment."""
        if self._link is not None and self._link.alive() and self.capabilities is not None:
            return True
        if self._link is None or not self._link.alive():
            self.parts.count("executor_starts")
            self._link = ExecutorLink(self.parts.settings)
        return self._hear_ready(self._link)

    def _hear_ready(self, link: ExecutorLink) -> bool:
        while not self._stop.is_set():
            try:
                event = link.events.get(timeout=0.5)
            except queue.Empty:
                continue
            if event["event"] == "ready":
                self.capabilities, self.unfit = event["capabilities"], None
                return True
            if event["event"] == "unfit":
                self.unfit = event["error"]
            if event["event"] == "gone":
                link.kill()
                self._stop.wait(2.0)  # an executor that cannot start is not tried in a tight loop
                return False
        return False

    def _do(self, job: JobRow) -> None:
        parts = self.parts
        if job.id in self._erased:
            self._clean(job.id)
            return
        parts.hub.tell(job.id, "checking", 0.0, "Checking the files")
        try:
            error, order = self._prepare(job)
        except ParserDied:
            self._again(job)
            return
        if error is not None:
            self._fail(job, error)
        elif order is not None:
            self._execute(job, order)

    def _prepare(self, job: JobRow) -> tuple[dict[str, str] | None, dict[str, Any] | None]:
        """Lay out the job's folder and judge its files; the first refusal, or the order for the executor."""
        parts = self.parts
        files: dict[str, str] = {}
        paths: dict[str, str] = {}
        for name, word in files_of(job.request).items():
            sha256, extension = read_content_id(word)
            paths[name] = neutral_path(name, extension)
            files[paths[name]] = sha256
        folder = parts.spool.lay_out(job.id, {p: parts.spool.upload(job.owner, f) for p, f in files.items()})
        for path, sha256 in files.items():
            upload = parts.uploads.get(job.owner, sha256)
            if upload is None:
                return None, None  # erased in this moment
            if path not in upload.verdicts:
                verdict = self._checker.judge(folder, path)
                parts.uploads.judge(job.owner, sha256, path, verdict)
                parts.count("files_refused" if verdict else "files_accepted")
            else:
                verdict = upload.verdicts[path]
            if verdict is not None:
                return verdict, None
        order = {"run": job.id, "folder": str(folder), "format": job.format,
                 "request": with_files(job.request, paths)}  # fmt: skip
        return None, order

    def _execute(self, job: JobRow, order: dict[str, Any]) -> None:
        """Give the job to the executor and follow it to its end."""
        link = self._link
        if link is None or not link.say(**order):
            self._again(job, crashed=False)
            return
        self.parts.hub.tell(job.id, "running", 0.0, "Started")
        heard, cancelled = time.monotonic(), 0.0
        while True:
            if self._stop.is_set():
                self.parts.jobs.requeue(job.id, crashed=False)
                return
            if job.id in self._erased and not cancelled:
                cancelled = time.monotonic()
                link.say(cancel=job.id)
            try:
                event = link.events.get(timeout=TICK_SECONDS)
            except queue.Empty:
                event = {"event": "alive"}
            if event["event"] not in ("alive", "ready"):
                heard = time.monotonic()
                if self._conclude(job, event):
                    return
            if self._hangs(heard, cancelled):
                link.kill()

    def _hangs(self, heard: float, cancelled: float) -> bool:
        now, limits = time.monotonic(), self.parts.settings.limits
        return bool(cancelled and now - cancelled > limits.cancel_seconds) or now - heard > limits.silent_seconds

    def _conclude(self, job: JobRow, event: dict[str, Any]) -> bool:
        """Take in what the executor said; whether the job has left it."""
        parts, kind = self.parts, event["event"]
        if kind != "gone" and event.get("job") != job.id:
            return False
        if kind == "progress":
            parts.hub.tell(job.id, "running", event["fraction"], event["message"])
            return False
        if job.id in self._erased:
            self._clean(job.id)
        elif kind == "gone":
            self._again(job)
        elif kind == "done":
            self._done(job, event)
        elif kind == "cancelled":
            self._fail(job, ProcessError("job.stopped", "The job was stopped.", "Send it again.").to_dict())
        else:
            self._fail(job, event["error"])
        return True

    def _done(self, job: JobRow, event: dict[str, Any]) -> None:
        parts = self.parts
        if parts.jobs.finish(job.id, event["result"], [Artifact(**a) for a in event["artifacts"]]):
            parts.spool.clear_inputs(job.id)
            parts.count("jobs_done")
            parts.audit.write(job.owner, "job.done", job.id)
            parts.hub.tell(job.id, "done", 1.0, "Done")
        else:
            self._clean(job.id)

    def _again(self, job: JobRow, crashed: bool = True) -> None:
        """Queue the job once more, unless it has taken its process down too often."""
        crashes = self.parts.jobs.requeue(job.id, crashed)
        self.parts.count("jobs_requeued")
        if crashes > self.parts.settings.limits.crashes:
            hint = "Try a smaller request; tell the worker's operator the job's id."
            error = ProcessError("job.crashed", f"The engine's process died {crashes} times over this job.", hint)
            self._fail(job, error.to_dict())
        else:
            self.parts.hub.tell(job.id, "queued", 0.0, "Trying again")

    def _fail(self, job: JobRow, error: dict[str, str]) -> None:
        parts = self.parts
        parts.jobs.fail(job.id, error)
        parts.spool.erase_job(job.id)
        parts.count("jobs_failed")
        parts.audit.write(job.owner, "job.failed", job.id, error["code"])
        parts.hub.tell(job.id, "failed", 1.0, "")

    def _clean(self, job: str) -> None:
        """The executor has let go of an erased job: now its last files can go."""
        self.parts.spool.erase_job(job)
        self._erased.discard(job)

    def _clean_erased(self) -> None:
        """Nothing runs: whatever was laid out for a job while it was erased goes too."""
        for job in tuple(self._erased):
            self._clean(job)

    def _keep_house(self) -> None:
        """Erase what has expired."""
        parts, now = self.parts, time.time()
        for job in parts.jobs.expired(now - parts.settings.limits.result_hours * 3600):
            parts.audit.write("", "job.expired", job)
            self.erase(job)
        for owner, sha256 in parts.uploads.stale(now - parts.settings.limits.upload_hours * 3600):
            parts.uploads.forget(owner, sha256)
        parts.jobs.forget_erased(now - 7 * 24 * 3600)
