"""Routes of uploads: where a file stands, and the next piece of it."""

import hashlib
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from starlette.concurrency import run_in_threadpool

from ..errors import RequestError
from ..protocol import API, CHUNK_BYTES
from .answers import Refusal, UploadAnswer, documented
from .body import read_body
from .described import EXAMPLE_CONTENT, EXAMPLE_SHA256, links
from .guard import guard
from .tokens import Principal
from .uploads import FullError, OffsetError

if TYPE_CHECKING:
    from .app import Worker

Sha256 = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="sha256 of the whole file", examples=[EXAMPLE_SHA256])
]
_ITSELF: dict[int | str, dict[str, Any]] = {200: {"links": links("stand", "forget", sha256="$request.path.sha256")}}


def upload_routes(worker: "Worker") -> APIRouter:
    """``GET`` and ``PATCH /v1/uploads/{sha256}``."""
    router, parts, who = APIRouter(prefix=f"{API}/uploads", tags=["uploads"]), worker.parts, guard(worker, "run")

    @router.get("/{sha256}", responses=documented(401, 403, 404, 422))
    def stand(sha256: Sha256, principal: Annotated[Principal, Depends(who)]) -> UploadAnswer:
        """How far one's own upload is."""
        upload = parts.uploads.get(principal.user, sha256)
        if upload is None:
            raise Refusal(404, RequestError("upload.unknown", "There is no such upload.", "Begin at offset 0."))
        return UploadAnswer(sha256=sha256, offset=parts.uploads.offset(upload), complete=upload.complete)

    async def piece(
        request: Request, sha256: Sha256, principal: Annotated[Principal, Depends(who)],
        size: Annotated[int, Query(ge=1, description="bytes of the whole file", examples=[len(EXAMPLE_CONTENT)])],
        offset: Annotated[int, Query(ge=0, description="where the piece begins", examples=[0])],
        x_chunk_sha256: Annotated[str | None, Header(pattern="^[0-9a-f]{64}$")] = None,
    ) -> UploadAnswer:
        """Add the next piece of a file, raw or in Content-Encoding gzip or zstd; it is taken whole or not at all."""
        if size > parts.settings.limits.upload_bytes:
            raise Refusal(413, RequestError("upload.too_large", "The file is larger than this worker takes.",
                                            f"At most {parts.settings.limits.upload_bytes} bytes."))  # fmt: skip
        body = await read_body(request, CHUNK_BYTES, parts.settings.limits)
        if not body:
            raise Refusal(422, RequestError("upload.empty", "The piece is empty.", "Send at least one byte."))
        if x_chunk_sha256 and hashlib.sha256(body).hexdigest() != x_chunk_sha256:
            raise Refusal(422, RequestError("upload.damaged", "The piece was damaged on its way.", "Send it again."))
        return await run_in_threadpool(_append, worker, (principal.user, sha256), (size, offset), body)

    router.add_api_route(
        "/{sha256}", piece, methods=["PATCH"],
        responses={**_ITSELF, **documented(400, 401, 403, 408, 409, 413, 415, 422, 429, 507)}, openapi_extra=_BYTES,
    )  # fmt: skip

    @router.delete("/{sha256}", status_code=204, responses=documented(401, 403, 422))
    def forget(sha256: Sha256, principal: Annotated[Principal, Depends(who)]) -> None:
        """Erase one's own upload, unless a job needs it."""
        parts.uploads.forget(principal.user, sha256)

    return router


_OCTETS = {"schema": {"type": "string", "format": "binary", "minLength": 1}, "example": EXAMPLE_CONTENT}
_BYTES: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": _OCTETS}}}


def _append(worker: "Worker", key: tuple[str, str], place: tuple[int, int], body: bytes) -> UploadAnswer:
    (user, sha256), (size, offset) = key, place
    try:
        arrived = worker.parts.uploads.append(user, sha256, size, offset, body)
    except OffsetError as error:
        raise Refusal(409, RequestError(error.code, error.message, error.hint),
                      Upload_Offset=str(error.offset)) from error  # fmt: skip
    except FullError as error:
        status = 507 if error.code == "upload.disk" else 429
        raise Refusal(status, RequestError(error.code, error.message, error.hint), Retry_After="10") from error
    worker.parts.count("upload_bytes", len(body))
    if arrived == size:
        worker.parts.audit.write(user, "upload.done", sha256)
    return UploadAnswer(sha256=sha256, offset=arrived, complete=arrived == size)
