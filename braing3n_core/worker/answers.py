"""What the API answers: the models of its OpenAPI page, and errors as (code, message, hint), never a traceback."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ..errors import BrainG3NError


class ErrorBody(BaseModel):
    """Why something was refused. type: the class of the client's exception."""

    code: str
    message: str
    hint: str
    type: str


class ErrorAnswer(BaseModel):
    """Every answer that is not a success."""

    error: ErrorBody


class UploadAnswer(BaseModel):
    """How far an upload is, in bytes."""

    sha256: str
    offset: int
    complete: bool


class ArtifactAnswer(BaseModel):
    """One file of a result."""

    name: str
    sha256: str
    size: int


class JobAnswer(BaseModel):
    """One job. version rises with every change: give it back as ``seen`` to wait for the next."""

    id: str
    state: str = Field(description="queued, running, done, failed or cancelled")
    stage: str
    fraction: float
    message: str
    seconds_left: float | None
    version: int
    attempts: int
    error: ErrorBody | None = None
    result: dict[str, Any] | None = None
    artifacts: list[ArtifactAnswer] = []


class JobsAnswer(BaseModel):
    """One's own jobs, newest first."""

    jobs: list[JobAnswer]


class HealthAnswer(BaseModel):
    """ok: whether jobs are taken and done."""

    ok: bool
    status: str


class Refusal(Exception):
    """Ends a request with an HTTP status. retry_after: seconds, for 429 and 503."""

    def __init__(self, status: int, error: BrainG3NError, **headers: str) -> None:
        super().__init__(error.code)
        self.status, self.error, self.headers = status, error, headers


def refusal_response(refusal: Refusal) -> JSONResponse:
    """The answer to a refused request."""
    body = {"error": refusal.error.to_dict()}
    return JSONResponse(body, refusal.status, {k.replace("_", "-"): v for k, v in refusal.headers.items()})


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for the OpenAPI page."""
    return {status: {"model": ErrorAnswer, "description": _SENTENCES[status]} for status in statuses}


_SENTENCES: dict[int, str] = {
    400: "The request cannot be read.", 401: "No valid token.", 403: "The token's scopes do not allow this.",
    404: "There is no such thing of yours.", 405: "Not a method of this address.",
    408: "The sender was silent for too long.",
    409: "It contradicts what is there.", 410: "It was erased.", 411: "The length must be said.",
    413: "Too large.", 415: "Not a content type or encoding of this address.", 416: "The file has no such range.",
    422: "The content is refused.", 429: "Too much at once: wait as Retry-After says.",
    503: "The worker cannot do jobs now.", 507: "No room.",
}  # fmt: skip
