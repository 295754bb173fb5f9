"""The HTTP application: who asks, what for, and the answer. Nothing here parses a volume or imports torch."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from .. import __version__
from ..errors import BrainG3NError, ConfigError, ProcessError, RequestError
from .answers import Refusal, refusal_response
from .audit import Audit
from .described import allowed_methods
from .hub import Hub
from .parts import Parts
from .routes_info import info_routes
from .routes_jobs import job_routes
from .routes_uploads import upload_routes
from .settings import Settings
from .spool import Spool
from .store import Database, JobStore
from .supervisor import Supervisor
from .tokens import TokenStore
from .uploads import UploadStore


class Worker:
    """The parts of one worker, opened together and closed together."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.spool = Spool(settings.spool)
        self.database = Database(self.spool.database)
        self.tokens = TokenStore(self.database)
        self.parts = Parts(
            settings, self.spool, JobStore(self.database), UploadStore(self.database, self.spool, settings.limits),
            Hub(), Audit(self.spool.audit), self.database.scrub,
        )  # fmt: skip
        self.supervisor = Supervisor(self.parts)

    def close(self) -> None:
        """Stop the executor and let go of the spool."""
        self.supervisor.stop()
        self.parts.audit.close()
        self.database.close()
        self.spool.close()


def create_app(worker: Worker) -> FastAPI:
    """The application of a worker; its life is the worker's."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        worker.parts.hub.attach(asyncio.get_running_loop())
        worker.supervisor.start()
        yield
        await asyncio.to_thread(worker.close)

    app = FastAPI(
        title="BrainG3N worker", version=__version__, lifespan=life, docs_url=None, redoc_url=None,
        openapi_url="/v1/openapi.json", generate_unique_id_function=lambda route: route.name,
        description="Jobs on brain MRI. Research software, not for clinical use. See docs/worker.md.",
    )  # fmt: skip
    for routes in (info_routes, upload_routes, job_routes):
        app.include_router(routes(worker))
    _answer_errors(app)
    _count_requests(app, worker)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Every failure becomes (code, message, hint)."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return refusal_response(refusal)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        where = ", ".join(sorted({str(e["loc"][-1]) for e in error.errors()}))
        told = f"These parameters cannot be read: {where}."
        return refusal_response(Refusal(422, RequestError("request.parameter", told, "See /v1/openapi.json.")))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        sentence = RequestError(f"http.{error.status_code}", f"{error.detail}.", "See /v1/openapi.json.")
        headers = {k.replace("-", "_"): v for k, v in (error.headers or {}).items()}
        if error.status_code == 405:  # the framework names the methods of one of the address's routes alone
            headers["Allow"] = allowed_methods(app.openapi(), request.url.path) or headers.get("Allow", "GET")
        return refusal_response(Refusal(error.status_code, sentence, **headers))

    @app.exception_handler(BrainG3NError)
    async def ours(request: Request, error: BrainG3NError) -> JSONResponse:
        return refusal_response(Refusal(500 if isinstance(error, ConfigError) else 422, error))

    @app.exception_handler(sqlite3.OperationalError)
    async def storage(request: Request, error: sqlite3.OperationalError) -> JSONResponse:
        sentence = ProcessError("worker.storage", "The worker cannot write its database now.", "Try again later.")
        return refusal_response(Refusal(503, sentence, Retry_After="5"))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        sentence = ProcessError("worker.bug", f"The worker failed with a {type(error).__name__}.", "Tell its operator.")
        return refusal_response(Refusal(500, sentence))


def _count_requests(app: FastAPI, worker: Worker) -> None:
    @app.middleware("http")
    async def count(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
        start = time.monotonic()
        response = await following(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        worker.parts.count(f"requests_{response.status_code // 100}xx")
        worker.parts.counters["request_milliseconds"] = int(
            worker.parts.counters.get("request_milliseconds", 0) + 1000 * (time.monotonic() - start)
        )
        return response
