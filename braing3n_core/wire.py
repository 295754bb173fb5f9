"""HTTP to a worker: one request at a time, tried again when that may help, with the worker's own errors.

Needs the standard library and ``requests``. Every call of the API may be repeated without harm, so a broken
connection is only a delay.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from .errors import (
    AccessError,
    BrainG3NError,
    BusyError,
    RequestError,
    UnreachableError,
    UntrustedError,
    WorkerError,
    error_from_dict,
)
from .progress import Cancel

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_PASSING = (408, 429, 500, 502, 503, 504, 507)
"""Statuses after which the same call may succeed."""


class Wire:
    """A worker's address with its token. fingerprint: sha256 of its certificate, or None for the usual authorities.

    patience_seconds: for how long a call is tried again. Several threads may call at the same time.
    """

    def __init__(self, url: str, token: str, fingerprint: str | None, patience_seconds: float) -> None:
        self.url, self.patience_seconds = _checked_url(url), patience_seconds
        self._session = requests.Session()
        self._session.trust_env = False  # a patient's scan takes no detour over a proxy of the environment
        self._session.headers.update({"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"})
        if fingerprint is not None:
            self._session.mount("https://", _Pinned(_checked_fingerprint(fingerprint)))

    def call(
        self, method: str, path: str, *, cancel: Cancel | None = None, expect: tuple[int, ...] = (),
        patience_seconds: float | None = None, again: bool = True, **rest: Any,
    ) -> requests.Response:
        """The answer to one call. expect: failures that the caller wants to see. again: also when the connection broke.

        Raises Cancelled, UnreachableError, UntrustedError, AccessError, BusyError, or what the worker said.
        """
        patience = self.patience_seconds if patience_seconds is None else patience_seconds
        deadline = time.monotonic() + patience
        for pause in _pauses():
            if cancel is not None:
                cancel.check()
            failure: BrainG3NError
            try:
                response = self.once(method, path, **rest)
            except UnreachableError as error:
                if not again:
                    raise
                failure = error
            else:
                if response.ok or response.status_code in expect:
                    return response
                failure = failure_of(response)
                if response.status_code not in _PASSING:
                    raise failure
                pause = max(pause, _retry_after(response))
            if time.monotonic() + pause > deadline:
                raise failure
            wait(pause, cancel)
        raise AssertionError("pauses never end")

    @contextmanager
    def stream(self, path: str, offset: int) -> Iterator[requests.Response]:
        """A download from ``offset`` on; the caller reads the body. Raises as :meth:`call`, without trying again."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self.once("GET", path, headers=headers, stream=True)
        with response:
            if not response.ok:
                raise failure_of(response)
            yield response

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    def once(self, method: str, path: str, **rest: Any) -> requests.Response:
        """One attempt, whatever its status. Raises UnreachableError, UntrustedError."""
        rest.setdefault("timeout", (CONNECT_SECONDS, READ_SECONDS))
        with connection_errors(self.url):
            response = self._session.request(method, self.url + path, allow_redirects=False, **rest)
            if _is_cut(response):
                response.close()
                raise requests.exceptions.ConnectionError("the headers of the answer were cut off")
            return response


@contextmanager
def connection_errors(url: str) -> Iterator[None]:
    """What ``requests`` raises, as UntrustedError or UnreachableError."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        text = str(error)
        if "EOF" in text or "UNEXPECTED" in text or "timed out" in text:
            raise _unreachable(url, error) from error
        if "WRONG_VERSION" in text or "RECORD_LAYER" in text:
            raise UntrustedError("worker.plain", f"{url} does not speak TLS.", "Write http:// for a worker on this "
                                 "machine or behind a tunnel; others must be started with TLS.") from error  # fmt: skip
        pinned = "ingerprint" in text
        why = "is not the one that was pinned" if pinned else "cannot be verified"
        hint = "Compare the fingerprint with the one that `braing3n worker init` printed."
        raise UntrustedError("worker.certificate", f"The certificate of {url} {why}.", hint) from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError) as error:
        raise WorkerError("worker.url", f"{url} is not the address of a worker.", "Write https://host:port.") from error
    except requests.exceptions.InvalidJSONError as error:
        what = "A number of the request is not finite."
        raise RequestError("request.number", what, "Give finite numbers.") from error
    except (requests.RequestException, OSError) as error:
        raise _unreachable(url, error) from error


def failure_of(response: requests.Response) -> BrainG3NError:
    """The error that an answer stands for."""
    try:
        said = json.loads(response.content)["error"]
        error = error_from_dict(said)
    except (ValueError, KeyError, TypeError, AttributeError, requests.RequestException):
        error = WorkerError("worker.answer", f"The address answered with HTTP {response.status_code}, not as a worker.",
                            "Check the address and the proxy in between.")  # fmt: skip
    if response.status_code in (401, 403) and not isinstance(error, AccessError):
        return AccessError("access.refused", error.message, error.hint)
    if response.status_code in (429, 507):
        return BusyError(error.code, error.message, error.hint)
    return error


def wait(seconds: float, cancel: Cancel | None) -> None:
    """Sleep, but hear a cancel. Raises Cancelled."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
        if cancel is not None:
            cancel.check()


def _is_cut(response: requests.Response) -> bool:
    """Whether the connection broke inside the headers, which the standard library takes for their end."""
    said = response.headers
    return response.status_code != 204 and "Content-Length" not in said and "Transfer-Encoding" not in said


def _pauses() -> Iterator[float]:
    """Longer and longer, never two clients in step."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _retry_after(response: requests.Response) -> float:
    said = response.headers.get("Retry-After", "")
    return min(float(said), 60.0) * random.uniform(0.5, 1.0) if said.isdecimal() else 0.0


def _unreachable(url: str, error: Exception) -> UnreachableError:
    return UnreachableError(
        "worker.unreachable", f"No connection to the worker at {url} ({type(error).__name__}).",
        "Check that it runs (braing3n worker), the address, the tunnel and the network.",
    )  # fmt: skip


def _checked_url(url: str) -> str:
    match = re.fullmatch(r"(https?)://[^/?#@\s]+/?", url.strip())
    if match is None:
        raise WorkerError("worker.url", f"{url!r} is not the address of a worker.", "Write https://host:port.")
    return url.strip().rstrip("/")


def _checked_fingerprint(fingerprint: str) -> str:
    plain = fingerprint.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    if re.fullmatch("[0-9a-f]{64}", plain) is None:
        raise UntrustedError("worker.fingerprint", "A fingerprint is the certificate's sha256, 64 hex digits.",
                             "Copy the one that `braing3n worker init` printed.")  # fmt: skip
    return plain


class _Pinned(HTTPAdapter):
    """Accepts exactly one certificate, whoever signed it."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, assert_fingerprint=self._fingerprint, **options)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        conn.cert_reqs, conn.assert_hostname = "CERT_NONE", False  # the fingerprint says more than any authority
