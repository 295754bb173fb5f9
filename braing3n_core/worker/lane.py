"""One device and the thread that gives it jobs, one at a time, and outlives everything that happens to it."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from typing import Any

from ..errors import ProcessError
from ..protocol import files_of, neutral_path, read_content_id, with_files
from .checks import Checker, ParserDied
from .executor_link import ExecutorLink
from .parts import Parts
from .roll import Roll
from .store import Artifact, JobRow

TICK_SECONDS = 0.05


class Lane:
    """Takes the next job when its executor is free; starts the executor again whenever it has died.

    gpu: the device that the executor sees, as in CUDA_VISIBLE_DEVICES; None: whatever there is.
    """

    def __init__(self, parts: Parts, roll: Roll, gpu: str | None = None) -> None:
        self.parts, self.roll, self.gpu = parts, roll, gpu
        self.capabilities: dict[str, Any] | None = None
        self.unfit: dict[str, str] | None = None
        self._link: ExecutorLink | None = None
        self._checker = Checker(parts.settings.limits)
        self._current: JobRow | None = None
        self._thread = threading.Thread(target=self._work, name=f"lane-{gpu or 0}", daemon=True)

    def start(self) -> None:
        """Work on an own thread until the roll is closed."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread; a running job stays queued for the next start."""
        self._thread.join(timeout=10)

    @property
    def executor_pid(self) -> int | None:
        return self._link.pid if self._link is not None and self._link.alive() else None

    def _work(self) -> None:
        while not self.roll.closed:
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - a full disk or a bug must not end the one thread that works
                self._stumble(error)
        self._checker.stop()
        if self._link is not None:
            self._link.kill()

    def _turn(self) -> None:
        """Take the next job and do it, or wait for one."""
        seen = self.roll.rung
        if not self._ready():
            return
        self._current = self.roll.take()
        if self._current is None:
            self.roll.wait(seen, 1.0)
            return
        self._do(self._current)
        self._leave()

    def _leave(self) -> None:
        """The job is this lane's no longer; what was laid out for it while it was erased goes too."""
        job, self._current = self._current, None
        if job is not None and self.roll.leave(job.id):
            self.parts.spool.erase_job(job.id)

    def _stumble(self, error: Exception) -> None:
        """Something failed in here: say so, let go of the executor, and try the job again, not for ever."""
        sys.stderr.write(f"supervisor: {type(error).__name__}\n")
        self.parts.count("supervisor_errors")
        if self._link is not None:
            self._link.kill()
        with contextlib.suppress(Exception):
            if self._current is not None:
                self._again(self._current)
        self._leave()
        self.roll.pause(1.0)

    def _ready(self) -> bool:
        """Whether the executor runs and has loaded its engine; starts it, and waits a moment."""
        if self._link is not None and self._link.alive() and self.capabilities is not None:
            return True
        if self._link is None or not self._link.alive():
            if self._link is not None:
                self._link.kill()
            self.parts.count("executor_starts")
            self._link = ExecutorLink(self.parts.settings, self.gpu)
        return self._hear_ready(self._link)

    def _hear_ready(self, link: ExecutorLink) -> bool:
        while not self.roll.closed:
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
                self.roll.pause(2.0)  # an executor that cannot start is not tried in a tight loop
                return False
        return False

    def _do(self, job: JobRow) -> None:
        self.parts.hub.tell(job.id, "checking", 0.0, "Checking the files")
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
            if self.roll.closed:
                self.parts.jobs.requeue(job.id, crashed=False)
                return
            if self.roll.is_erased(job.id) and not cancelled:
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
        if self.roll.is_erased(job.id):
            return True
        if kind == "gone":
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
        else:  # erased meanwhile
            parts.spool.erase_job(job.id)

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
