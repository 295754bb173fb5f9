"""Routes that say how the worker is: capabilities, health, metrics, and a page that explains the API."""

import html
import ipaddress
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from ..encoding import encodings_here
from ..errors import BrainG3NError, ProcessError, RequestError, error_from_dict
from ..protocol import API, CHUNK_BYTES
from .answers import HealthAnswer, Refusal, documented
from .guard import guard
from .tokens import Principal

if TYPE_CHECKING:
    from .app import Worker


def info_routes(worker: "Worker") -> APIRouter:
    """``/v1/capabilities``, ``/v1/health/...``, ``/metrics``, ``/v1/docs``."""
    router, who = APIRouter(tags=["info"]), guard(worker, "info")

    @router.get(f"{API}/capabilities", responses=documented(401, 403, 503))
    def capabilities(principal: Annotated[Principal, Depends(who)]) -> dict[str, Any]:
        """What the engine can do, and how this worker takes files: a form can be built from this alone."""
        known = worker.supervisor.capabilities
        if known is None:
            raise Refusal(503, _unready(worker), Retry_After="2")
        limit = worker.settings.limits.upload_bytes
        own = {"chunk_bytes": CHUNK_BYTES, "upload_bytes": limit, "encodings": list(encodings_here())}
        return {"engine": known, "worker": own}

    @router.get(f"{API}/health/live")
    def live() -> HealthAnswer:
        """Whether the API answers."""
        return HealthAnswer(ok=True, status="alive")

    @router.get(f"{API}/health/ready", responses={503: {"model": HealthAnswer, "description": "Not ready."}})
    def ready(response: Response) -> HealthAnswer:
        """Whether jobs are taken and done."""
        if worker.supervisor.unfit is not None:
            response.status_code = 503
            return HealthAnswer(ok=False, status="unfit")
        if worker.supervisor.capabilities is None:
            response.status_code = 503
            return HealthAnswer(ok=False, status="starting")
        return HealthAnswer(ok=True, status="ready")

    @router.get("/metrics", response_class=PlainTextResponse, responses=documented(404))
    def metrics(request: Request) -> PlainTextResponse:
        """Counters for Prometheus; on this machine only."""
        if not _is_local(request):
            raise Refusal(404, RequestError("http.404", "Not Found.", "See /v1/openapi.json."))
        return PlainTextResponse(_metrics(worker), media_type="text/plain; version=0.0.4")

    @router.get(f"{API}/docs", response_class=HTMLResponse)
    def page(request: Request) -> HTMLResponse:
        """The API on one page, without anything from another server."""
        return HTMLResponse(_page(request.app.openapi()))

    return router


def _unready(worker: "Worker") -> BrainG3NError:
    if worker.supervisor.unfit is not None:
        return error_from_dict(worker.supervisor.unfit)
    return ProcessError("worker.starting", "The engine is still loading.", "Ask again in a moment.")


def _is_local(request: Request) -> bool:
    """Asked from this machine, and not through a proxy."""
    if request.client is None or any(h in request.headers for h in ("forwarded", "x-forwarded-for", "via")):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _metrics(worker: "Worker") -> str:
    lines = []
    for name, value in sorted(worker.parts.counters.items()):
        lines += [f"# TYPE braing3n_{name}_total counter", f"braing3n_{name}_total {value}"]
    lines.append("# TYPE braing3n_jobs gauge")
    lines += [f'braing3n_jobs{{state="{state}"}} {n}' for state, n in sorted(worker.parts.jobs.counts().items())]
    lines += ["# TYPE braing3n_executor_up gauge", f"braing3n_executor_up {worker.supervisor.executors}"]
    return "\n".join(lines) + "\n"


def _page(openapi: dict[str, Any]) -> str:
    rows = []
    for path, methods in openapi["paths"].items():
        for method, about in methods.items():
            answers = ", ".join(about.get("responses", {}))
            words = (method.upper(), path, about.get("description", ""), answers)
            rows.append("<tr>" + "".join(f"<td>{html.escape(w)}</td>" for w in words) + "</tr>")
    head = "<tr><th>method</th><th>address</th><th>what it does</th><th>answers</th></tr>"
    title = html.escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>"
        f"<p>{html.escape(openapi['info']['description'])} Machine-readable: <a href=openapi.json>openapi.json</a>.</p>"
        f"<table border=1 cellpadding=6 cellspacing=0>{head}{''.join(rows)}</table>"
    )
