"""The OpenAPI page is true: schemathesis, which reads nothing else, finds no answer of a real worker that breaks it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from braing3n_core.protocol import API, with_files
from braing3n_core.schema import (
    Conditions,
    CounterfactualRequest,
    ForecastRequest,
    GenerateRequest,
    PreprocessOptions,
    ProbeRequest,
    request_to_send,
)
from braing3n_core.worker.described import EXAMPLE_SHA256, job_schema

from .conftest import RunningWorker

CASES = int(os.environ.get("BRAING3N_RELIABILITY_SCHEMA", "100"))
PHASES = "examples,fuzzing,stateful" if CASES < 1500 else "examples,coverage,fuzzing,stateful"
"""The phase "coverage" alone has over a thousand cases."""
HERE = Path(__file__).parent
OPTIONS = PreprocessOptions("T2", "stripped", "mask", mask="m.nii", template="t.nrrd")
REQUESTS = (
    GenerateRequest(), GenerateRequest(noise_scale=0.8, truncation=0.7, reweighting=(1.5, 0.4)),
    GenerateRequest(Conditions(disease="AD", age_years=70.5), guidance_interval=(0.0, 0.5)),
    ProbeRequest("scan.nii.gz"), ProbeRequest("scan.nii.gz", OPTIONS, seed=2**62),
    CounterfactualRequest("scan.nii", target=Conditions(sex="F"), method="sdedit", strength=0.5),
    CounterfactualRequest("scan.nii", target=Conditions(sex="F"), guidance_scales={"sex": 2.5}),
    ForecastRequest("scan.nrrd", horizons_years=(1.0, -2.0), age_years=70.0, cdr=0.5),
)  # fmt: skip


@contextlib.contextmanager
def tidying(worker: RunningWorker, user: str, kept: int = 16) -> Iterator[None]:
    """Meanwhile erase the user's oldest jobs, so that the queue is not always full."""
    headers, stop = {"Authorization": f"Bearer {worker.tokens[user]}"}, threading.Event()

    def tidy() -> None:
        while not stop.wait(0.5):
            jobs = requests.get(f"{worker.url}{API}/jobs", headers=headers, timeout=30).json()["jobs"]
            for job in jobs[kept:]:
                requests.delete(f"{worker.url}{API}/jobs/{job['id']}", headers=headers, timeout=30)

    thread = threading.Thread(target=tidy)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_schemathesis_finds_nothing_undocumented(worker: RunningWorker, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="needs the extra dev")
    hooks = {"SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py")}
    command = [
        sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
        "--config-file", str(HERE / "schemathesis.toml"), "run", f"{worker.url}{API}/openapi.json",
        "--header", f"Authorization: Bearer {worker.tokens['bob']}", "--phases", PHASES,
        "--max-examples", str(max(4, CASES // 5)), "--seed", "20", "--no-color", "--no-shrink",
    ]  # fmt: skip
    with tidying(worker, "bob"):
        run = subprocess.run(command, cwd=tmp_path, env=os.environ | hooks, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-1000:]
    generated = re.search(r"(\d+) generated", run.stdout)
    covered = re.search(r"API Links:\s+(\d+) covered", run.stdout)
    assert generated and int(generated[1]) >= CASES, run.stdout[-2000:]
    assert covered and int(covered[1]) >= 1, run.stdout[-2000:]  # a job was followed to where its answer leads
    assert "Tested: 13" in run.stdout


def on_the_wire(request: Any) -> dict[str, Any]:
    """The request as the client sends it, its files by content."""
    data = request_to_send(request)
    words = {"input": f"{EXAMPLE_SHA256}.nii.gz"} if "input" in data else {}
    if data.get("preprocess", {}).get("mask"):
        words |= {"preprocess.mask": f"{EXAMPLE_SHA256}.nii", "preprocess.template": f"{EXAMPLE_SHA256}.nrrd"}
    return with_files(data, words)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: type(r).__name__)
def test_what_the_client_sends_is_what_the_page_describes(request_: Any) -> None:
    judge = pytest.importorskip("jsonschema_rs", reason="comes with schemathesis, in the extra dev")
    wire = on_the_wire(request_)
    assert judge.is_valid(job_schema(), {"request": wire, "format": "auto"})
    for wrong in ({"kind": "plague"}, {"seed": -1}, {"num_steps": "many"}, {"more": 1}, {"input": "/etc/passwd"}):
        assert not judge.is_valid(job_schema(), {"request": {**wire, **wrong}}), wrong


@pytest.mark.parametrize(("path", "methods"), [
    ("jobs", "GET"), ("jobs/{job}", "DELETE, GET, PUT"), (f"uploads/{EXAMPLE_SHA256}", "DELETE, GET, PATCH"),
    ("jobs/{job}/artifacts/provenance.json", "GET"), ("health/live", "GET"),
])  # fmt: skip
def test_a_wrong_method_is_told_the_right_ones(worker: RunningWorker, path: str, methods: str) -> None:
    path = path.format(job="00000000-0000-4000-8000-000000000000")
    answer = requests.post(f"{worker.url}{API}/{path}", timeout=20)
    assert (answer.status_code, answer.headers["Allow"]) == (405, methods)
    assert answer.json()["error"]["code"] == "http.405"
