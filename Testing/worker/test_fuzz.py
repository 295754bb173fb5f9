"""Anything at all sent to any address: no server error, and no answer that the OpenAPI page does not name."""

from __future__ import annotations

import json
import os
import random
import re
import string
from typing import Any

import pytest
import requests

from braing3n_core.protocol import API
from braing3n_core.schema import REQUESTS

from .conftest import RunningWorker

CASES = int(os.environ.get("BRAING3N_RELIABILITY_FUZZ", "300"))
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 1e308, -0.0, "", "x" * 5000, "\u0000", "ä", "../..", [], {}, [[]], {"a": {}}, "AD",
    "0" * 64, "0" * 64 + ".nii.gz",
)  # fmt: skip


@pytest.fixture(scope="module")
def routes(worker: RunningWorker) -> list[tuple[str, str, dict[str, Any]]]:
    paths = requests.get(f"{worker.url}{API}/openapi.json", timeout=20).json()["paths"]
    return [(method.upper(), path, about) for path, methods in paths.items() for method, about in methods.items()]


def filled(rng: random.Random, path: str, jobs: list[str]) -> str:
    """A path with something for each parameter: right, nearly right, or anything."""
    def word(match: re.Match[str]) -> str:
        right = {"job": rng.choice(jobs), "sha256": f"{rng.randrange(3):064x}", "name": "provenance.json"}[match[1]]
        wild = "".join(rng.choices(string.printable, k=rng.randint(0, 40)))
        return requests.utils.quote(rng.choice([right, right, right, right[:-1], right.upper(), wild]), safe="")

    return re.sub(r"\{(\w+)\}", word, path)


def some_request(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice([*REQUESTS, "plague"])
    names = ("input", "seed", "preprocess", "target", "conditions", "count", "horizons_years", "num_steps", "nothing")
    chosen = rng.sample(names, rng.randint(0, 4))
    return {"kind": kind, "num_steps": 1, **{name: rng.choice(ODD) for name in chosen}}


def some_body(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randint(0, 300))
    if kind == 1:
        return json.dumps(rng.choice(ODD)).encode()
    body = {"request": some_request(rng), **({"format": rng.choice(ODD)} if kind == 2 else {})}
    return json.dumps(body).encode()


def test_anything_sent_anywhere_is_answered_as_documented(
    worker: RunningWorker, routes: list[tuple[str, str, dict[str, Any]]]
) -> None:
    rng, session = random.Random(9), requests.Session()
    jobs = [f"{rng.randrange(2**32):08x}-0000-4000-8000-{n:012x}" for n in range(6)]
    session.headers["Authorization"] = f"Bearer {worker.tokens['bob']}"
    seen: dict[int, int] = {}
    for number in range(CASES):
        method, path, about = rng.choice(routes)
        places = [p["name"] for p in about.get("parameters", []) if p["in"] == "query"]
        query = {p: rng.choice([*map(str, ODD), "1", "0", "2"]) for p in places if rng.random() < 0.8}
        encoding = rng.choice(["identity", "identity", "identity", "gzip", "zstd", "br"])
        body = some_body(rng) if method != "GET" else None
        answer = session.request(
            method, worker.url + filled(rng, path, jobs), params=query, data=body,
            headers={"Content-Encoding": encoding}, timeout=30, allow_redirects=False,
        )  # fmt: skip
        status = answer.status_code
        seen[status] = seen.get(status, 0) + 1
        stray = status in (404, 405, 307)  # a parameter with a slash, or none, is another address
        assert str(status) in about["responses"] or stray, (number, method, path, status, answer.text[:300])
        if status >= 400:
            assert {"code", "message", "hint", "type"} <= set(answer.json()["error"])
    assert len(seen) >= 5, seen
    for job in jobs:
        session.delete(f"{worker.url}{API}/jobs/{job}", timeout=20)
