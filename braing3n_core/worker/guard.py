"""Who asks: the bearer token of a request, its scope, and the ownership of what it names."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from ..errors import AccessError
from .answers import Refusal
from .tokens import Principal

if TYPE_CHECKING:
    from .app import Worker

_SCHEME = HTTPBearer(auto_error=False, description="A token of `braing3n worker token`.")
"""For the OpenAPI page alone: the header is read more strictly below."""
_BEARER = re.compile(r"[Bb]earer ([\x21-\x7e]{1,256})")


def guard(worker: Worker, scope: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency that admits the holders of a valid token with this scope. Raises Refusal 401 or 403."""

    async def check(request: Request, documented: Annotated[Any, Depends(_SCHEME)] = None) -> Principal:
        match = _BEARER.fullmatch(request.headers.get("authorization", ""))
        principal = await run_in_threadpool(worker.tokens.who, match[1]) if match else None
        if principal is None:
            worker.parts.count("tokens_refused")
            if match:
                worker.parts.audit.write("", "token.refused")
            error = AccessError("access.token", "This needs a valid token.",
                                "Send `Authorization: Bearer <token>`; ask the worker's operator for one.")  # fmt: skip
            raise Refusal(401, error, WWW_Authenticate="Bearer")
        if scope not in principal.scopes:
            raise Refusal(403, AccessError("access.scope", f"This needs a token with the scope {scope!r}.",
                                           "Ask the worker's operator for one."))  # fmt: skip
        return principal

    return check
