"""Routes of jobs: submit, follow, fetch, erase."""

import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from ..errors import BrainG3NError, Cancelled, RequestError
from ..protocol import (
    API,
    FINAL_STATES,
    FORMATS,
    MAX_JSON_BYTES,
    MAX_WAIT_SECONDS,
    canonical_sha256,
    files_of,
    read_content_id,
)
from ..schema import request_from_dict
from .answers import ArtifactAnswer, ErrorBody, JobAnswer, JobsAnswer, Refusal, documented
from .body import read_json
from .described import job_schema, links
from .guard import guard
from .store import JobRow
from .tokens import Principal

if TYPE_CHECKING:
    from .app import Worker

_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
JobId = Annotated[str, Path(pattern=_UUID, description="a UUID that the client makes")]
Name = Annotated[str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9._+-]{0,200}$")]


def job_routes(worker: "Worker") -> APIRouter:
    """``/v1/jobs`` and what lies under it."""
    router, who = APIRouter(prefix=f"{API}/jobs", tags=["jobs"]), guard(worker, "run")
    desk = Desk(worker)
    Who = Annotated[Principal, Depends(who)]

    @router.get("", responses=documented(401, 403))
    def mine(principal: Who) -> JobsAnswer:
        """One's own jobs, newest first."""
        return JobsAnswer(jobs=[desk.answer(job, brief=True) for job in worker.parts.jobs.of_owner(principal.user)])

    async def submit(request: Request, job: JobId, principal: Who) -> Response:
        """Queue a job. The same id and body again is the same job; another body is refused."""
        body = await read_json(request, MAX_JSON_BYTES, worker.settings.limits)
        status, answer = await run_in_threadpool(desk.submit, job, principal.user, body)
        return JSONResponse(answer.model_dump(), status)

    router.add_api_route(
        "/{job}", submit, methods=["PUT"], response_model=JobAnswer, openapi_extra=_BODY,
        responses={200: {"links": _ITSELF}, 201: {"model": JobAnswer, "description": "Queued.", "links": _ITSELF},
                   **documented(400, 401, 403, 408, 409, 410, 413, 415, 422, 429)},
    )  # fmt: skip

    @router.get("/{job}", responses={200: {"links": _FILES}, **documented(401, 403, 404, 410, 422)})
    async def follow(
        job: JobId, principal: Who,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="seconds to wait for news")] = 0,
        seen: Annotated[int, Query(ge=0, le=2**53, description="version of the last answer")] = 0,
    ) -> JobAnswer:
        """How far a job is, at once or when there is news."""
        row = await run_in_threadpool(desk.own, job, principal.user)
        if wait and row.state not in FINAL_STATES:
            await worker.parts.hub.wait(job, seen, wait)
            row = await run_in_threadpool(desk.own, job, principal.user)
        return await run_in_threadpool(desk.answer, row)

    @router.delete("/{job}", status_code=204, responses=documented(401, 403, 404, 422))
    def erase(job: JobId, principal: Who) -> None:
        """Cancel the job if it is not done, and erase everything of it, its uploads included."""
        row = worker.parts.jobs.get(job)
        if row is None or row.owner != principal.user:
            raise _unknown()
        if row.state != "erased":
            worker.supervisor.erase(job)
            worker.parts.audit.write(principal.user, "job.erased", job)

    _add_files(router, desk, who)
    return router


def _add_files(router: APIRouter, desk: "Desk", who: Callable[[Request], Awaitable[Principal]]) -> None:
    @router.get("/{job}/artifacts/{name}", response_class=FileResponse, responses=_FILE)
    def fetch(job: JobId, name: Name, principal: Annotated[Principal, Depends(who)]) -> Response:
        """One file of a result, or a range of it."""
        return desk.file(desk.own(job, principal.user), name)


class Desk:
    """Where jobs are taken in and answered for."""

    def __init__(self, worker: "Worker") -> None:
        self.worker, self.parts = worker, worker.parts

    def own(self, job: str, user: str) -> JobRow:
        """A job of this user. Raises Refusal 404 for anybody else's, 410 for an erased one."""
        row = self.parts.jobs.get(job)
        if row is None or row.owner != user:
            raise _unknown()
        if row.state == "erased":
            raise Refusal(410, Cancelled("job.erased", "The job was cancelled and erased.", "Send a new one."))
        return row

    def answer(self, job: JobRow, brief: bool = False) -> JobAnswer:
        """What a client is told of a job. brief: without result and files."""
        news = self.parts.hub.get(job.id)
        files = self.parts.jobs.artifacts(job.id) if job.state == "done" and not brief else []
        final = job.state in FINAL_STATES
        return JobAnswer(
            id=job.id, state=job.state, stage=job.state if final else news.stage or job.state,
            fraction=1.0 if final else news.fraction, message=news.message,
            seconds_left=None if final else news.seconds_left(), version=news.version, attempts=job.attempts,
            error=ErrorBody(**job.error) if job.error else None, result=None if brief else job.result,
            artifacts=[ArtifactAnswer(name=f.name, sha256=f.sha256, size=f.size) for f in files],
        )  # fmt: skip

    def submit(self, job: str, user: str, body: dict[str, Any]) -> tuple[int, JobAnswer]:
        """Queue a job, or find that it is there. Raises Refusal 409, 410, 422, 429."""
        request, output_format = _checked(body)
        body_sha = canonical_sha256({"request": request, "format": output_format})
        known = self.parts.jobs.get(job)
        if known is not None:
            return 200, self._same(known, user, body_sha)
        self._check_queue(user)
        needs = [read_content_id(word)[0] for word in files_of(request).values()]
        row = JobRow(job, user, body_sha, request, output_format, "queued", 0, time.time(), None, None, None)
        try:
            queued = self.parts.jobs.add(row, needs)
        except sqlite3.IntegrityError:  # the same PUT at the same time
            return 200, self._same(self.own(job, user), user, body_sha)
        if not queued:
            raise Refusal(409, RequestError("upload.missing", "A file of this request is not (or no longer) here.",
                                            "Upload it, then send the job again."))  # fmt: skip
        self.parts.audit.write(user, "job.queued", job)
        self.parts.hub.tell(job, "queued", 0.0, "Waiting")
        self.worker.supervisor.wake()
        return 201, self.answer(row)

    def file(self, job: JobRow, name: str) -> Response:
        """A file of a finished job, with its sha256 as ETag."""
        artifact = next((a for a in self.parts.jobs.artifacts(job.id) if a.name == name), None)
        path = self.parts.spool.job(job.id) / "out" / name
        if artifact is None or not path.is_file():
            raise Refusal(404, RequestError("artifact.unknown", "The job has no such file.", "See its artifacts."))
        self.parts.count("download_bytes", artifact.size)
        return FileResponse(path, media_type="application/octet-stream", headers={"ETag": f'"{artifact.sha256}"'})

    def _same(self, known: JobRow, user: str, body_sha: str) -> JobAnswer:
        row = self.own(known.id, user) if known.owner == user else None
        if row is None or row.body_sha != body_sha:
            raise Refusal(409, RequestError("job.exists", "Another job has this id.", "Use a new UUID for a new job."))
        return self.answer(row)

    def _check_queue(self, user: str) -> None:
        everybody, own = self.parts.jobs.unfinished(user)
        limits = self.parts.settings.limits
        if own >= limits.user_jobs or everybody >= limits.queued_jobs:
            whose = "Your" if own >= limits.user_jobs else "The worker's"
            raise Refusal(429, RequestError("job.queue_full", f"{whose} queue is full.", "Wait as Retry-After says."),
                          Retry_After="2")  # fmt: skip


def _checked(body: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The request and the format of a submitted body. Raises Refusal 422."""
    request, output_format = body.get("request"), body.get("format", "auto")
    try:
        if not isinstance(request, dict) or set(body) - {"request", "format"}:
            raise RequestError("job.body", "A job is {request, format}.", "See /v1/openapi.json.")
        if output_format not in FORMATS:
            raise RequestError("request.format", "Unknown output format.", f"Use one of: {', '.join(FORMATS)}.")
        request_from_dict(request)
        for word in files_of(request).values():
            read_content_id(word)
    except BrainG3NError as error:
        raise Refusal(422, error) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise Refusal(422, RequestError("request.fields", "A field of the request has a wrong type.",
                                        "See braing3n_core.schema.")) from error  # fmt: skip
    return request, output_format


def _unknown() -> Refusal:
    return Refusal(404, RequestError("job.unknown", "There is no such job.", "Check the id and the token."))


_ITSELF = links("follow", "erase", job="$request.path.job")
_FILES = links("fetch", job="$request.path.job", name="$response.body#/artifacts/0/name")
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": job_schema()}}}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}}, 206: {"description": "The range that was asked for."},
    **documented(400, 401, 403, 404, 410, 416, 422),
}
