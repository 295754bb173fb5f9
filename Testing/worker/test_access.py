"""Nobody gets in without a valid token, and nobody sees what is somebody else's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests

from braing3n_core.cli import main
from braing3n_core.errors import AccessError, ConfigError
from braing3n_core.progress import Cancel
from braing3n_core.protocol import API
from braing3n_core.remote import Errand, RemoteEngine
from braing3n_core.schema import request_to_dict
from braing3n_core.worker.audit import Audit, verify_audit
from braing3n_core.worker.certificate import fingerprint_of
from braing3n_core.worker.serve import Address, check_address
from braing3n_core.worker.settings import Settings

from .conftest import RunningWorker, free_port, steps, wait_for

SHA = hashlib.sha256(b"x").hexdigest()
ROUTES = {
    "capabilities": ("GET", f"{API}/capabilities", "info"), "upload": ("GET", f"{API}/uploads/{SHA}", "run"),
    "send": ("PATCH", f"{API}/uploads/{SHA}?size=1&offset=0", "run"),
    "forget": ("DELETE", f"{API}/uploads/{SHA}", "run"), "jobs": ("GET", f"{API}/jobs", "run"),
    "submit": ("PUT", f"{API}/jobs/{{job}}", "run"), "follow": ("GET", f"{API}/jobs/{{job}}", "run"),
    "fetch": ("GET", f"{API}/jobs/{{job}}/artifacts/provenance.json", "run"),
    "erase": ("DELETE", f"{API}/jobs/{{job}}", "run"),
}
OPEN = {f"{API}/health/live", f"{API}/health/ready", f"{API}/docs", f"{API}/openapi.json", "/metrics"}


@pytest.fixture(scope="module")
def job(worker: RunningWorker) -> str:
    """A finished job of alice."""
    errand = Errand(worker.engine()._wire, request_to_dict(steps(1)), "auto", Cancel())
    errand._submit({})
    errand._follow(lambda *_: None)
    return errand.id


@pytest.fixture(scope="module")
def bad_tokens(worker: RunningWorker) -> dict[str, str]:
    revoked = worker.add_token("alice")
    assert main(["worker", "revoke", revoked.split("_")[1], "--spool", str(worker.spool)]) == 0
    good = worker.tokens["alice"]
    return {
        "wrong": good[:-1] + ("A" if good[-1] != "A" else "B"), "unknown": f"bg3_{'0' * 12}_{'A' * 43}",
        "expired": worker.add_token("alice", expires=time.time() - 1), "revoked": revoked, "malformed": "bg3__",
        "long": "x" * 300, "other id": f"bg3_{'0' * 12}_{good.split('_', 2)[2]}",
    }  # fmt: skip


def ask(worker: RunningWorker, route: str, job: str, **rest: Any) -> requests.Response:
    method, path, _ = ROUTES[route]
    body = {"PUT": {"json": {"request": request_to_dict(steps(1))}}, "PATCH": {"data": b"x"}}.get(method, {})
    return requests.request(method, worker.url + path.format(job=job), timeout=20, **body, **rest)


def test_the_matrix_names_every_route(worker: RunningWorker) -> None:
    paths = requests.get(f"{worker.url}{API}/openapi.json", timeout=20).json()["paths"]
    described = {(m.upper(), p) for p, methods in paths.items() for m in methods if p not in OPEN}
    named = {(m, p.split("?")[0]) for m, p, _ in ROUTES.values()}
    shape = {(m, p.replace(SHA, "{sha256}").replace("provenance.json", "{name}")) for m, p in named}
    assert described == shape


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_opens_without_a_valid_token(
    worker: RunningWorker, job: str, bad_tokens: dict[str, str], route: str
) -> None:
    answers = {"none": ask(worker, route, job),
               "query": ask(worker, route, job, params={"token": worker.tokens["alice"]}),
               "basic": ask(worker, route, job, auth=("alice", worker.tokens["alice"]))}  # fmt: skip
    for name, token in bad_tokens.items():
        answers[name] = ask(worker, route, job, headers={"Authorization": f"Bearer {token}"})
    assert {name: a.status_code for name, a in answers.items()} == dict.fromkeys(answers, 401)
    for answer in answers.values():
        assert answer.json()["error"]["code"] == "access.token"
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("route", ROUTES)
def test_a_token_opens_only_what_its_scopes_say(worker: RunningWorker, job: str, route: str) -> None:
    other = {"info": ("run",), "run": ("info",)}[ROUTES[route][2]]
    token = worker.add_token("alice", other)
    answer = ask(worker, route, job, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "access.scope"


@pytest.mark.parametrize("route", ["follow", "fetch", "erase"])
def test_another_users_job_is_not_there(worker: RunningWorker, job: str, route: str) -> None:
    bob = {"Authorization": f"Bearer {worker.tokens['bob']}"}
    theirs, nobodys = ask(worker, route, job, headers=bob), ask(worker, route, str(uuid.uuid4()), headers=bob)
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json() == nobodys.json()


def test_another_user_cannot_take_a_jobs_id_nor_see_it_in_a_list(worker: RunningWorker, job: str) -> None:
    bob = {"Authorization": f"Bearer {worker.tokens['bob']}"}
    assert ask(worker, "submit", job, headers=bob).status_code == 409
    assert job not in ask(worker, "jobs", job, headers=bob).text
    assert job in ask(worker, "jobs", job, headers={"Authorization": f"Bearer {worker.tokens['alice']}"}).text


def test_knowing_the_sha256_of_somebodys_file_gives_nothing(worker: RunningWorker, scan: Path) -> None:
    sha = hashlib.sha256(scan.read_bytes()).hexdigest()
    worker.engine()._wire.call("PATCH", f"{API}/uploads/{sha}", data=scan.read_bytes(),
                               params={"size": scan.stat().st_size, "offset": 0})  # fmt: skip
    bob = {"Authorization": f"Bearer {worker.tokens['bob']}"}
    assert requests.get(f"{worker.url}{API}/uploads/{sha}", headers=bob, timeout=20).status_code == 404
    body = {"request": {"kind": "probe", "input": f"{sha}.nii.gz"}}
    answer = requests.put(f"{worker.url}{API}/jobs/{uuid.uuid4()}", json=body, headers=bob, timeout=20)
    assert answer.json()["error"]["code"] == "upload.missing"


@pytest.mark.parametrize("name", ["..%2f..%2fworker.sqlite", "%2e%2e", "in", "provenance.json%00", "a/b", ".hidden"])
def test_no_artifact_name_leads_out_of_the_results(worker: RunningWorker, job: str, name: str) -> None:
    headers = {"Authorization": f"Bearer {worker.tokens['alice']}"}
    answer = requests.get(f"{worker.url}{API}/jobs/{job}/artifacts/{name}", headers=headers, timeout=20)
    assert answer.status_code in (404, 405, 422)


def test_secrets_are_kept_as_hashes_alone(worker: RunningWorker) -> None:
    everything = b"".join(p.read_bytes() for p in worker.spool.rglob("*") if p.is_file())
    for token in worker.tokens.values():
        assert token.split("_", 2)[2].encode() not in everything


def test_metrics_are_for_this_machine_alone(worker: RunningWorker) -> None:
    assert "braing3n_executor_up 1" in requests.get(f"{worker.url}/metrics", timeout=20).text
    forwarded = requests.get(f"{worker.url}/metrics", headers={"X-Forwarded-For": "10.0.0.1"}, timeout=20)
    assert forwarded.status_code == 404


def test_the_client_says_who_is_refused(worker: RunningWorker, tmp_path: Path) -> None:
    with pytest.raises(AccessError) as caught:
        RemoteEngine(worker.url, "bg3_wrong").run(steps(1), tmp_path / "out")
    assert caught.value.code == "access.token"
    assert caught.value.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "gpu.hospital.example"])
def test_being_reachable_needs_a_token_and_tls_or_a_proxy(host: str, tmp_path: Path) -> None:
    settings, cert = Settings(tmp_path), tmp_path / "cert.pem"
    cert.touch()
    with pytest.raises(ConfigError, check=lambda e: e.code == "worker.token"):
        check_address(Address(host, 1, cert, cert), settings, has_token=False)
    with pytest.raises(ConfigError, check=lambda e: e.code == "worker.tls"):
        check_address(Address(host, 1), settings, has_token=True)
    check_address(Address(host, 1, cert, cert), settings, has_token=True)
    check_address(Address(host, 1), Settings(tmp_path, behind_proxy=True), has_token=True)
    check_address(Address("127.0.0.1", 1), settings, has_token=False)


def test_what_init_prints_is_what_a_user_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "init", "--spool", str(tmp_path), "--port", "8765"]) == 0
    said = capsys.readouterr().out
    fingerprint = fingerprint_of(tmp_path / "worker-cert.pem")
    token = next(line.split()[-1] for line in said.splitlines() if line.startswith("token:"))
    assert f"https://127.0.0.1:8765 {token} {fingerprint}" in said
    assert "ssh -N -L 8765:127.0.0.1:8765" in said
    assert (tmp_path / "worker-key.pem").stat().st_mode & 0o077 == 0


def test_a_worker_without_any_token_makes_one_and_serves(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "braing3n_core.worker", "--spool", str(tmp_path), "--port", str(port), "--rehearsal"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        token = process.stdout.readline().split()[-1]
        engine = RemoteEngine(f"http://127.0.0.1:{port}", token)
        wait_for(lambda: engine.capabilities()["rehearsal"], 60)
    finally:
        process.terminate()
        process.wait(30)


def test_a_changed_line_breaks_the_audit_trail(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path)
    for number in range(5):
        audit.write("alice", "job.queued", str(number))
    audit.close()
    again = Audit(path)
    again.write("alice", "job.done", "4")
    again.close()
    assert verify_audit(path) == 6
    lines = path.read_text().splitlines(keepends=True)
    for broken in ([*lines[:2], lines[2].replace("alice", "bob"), *lines[3:]], [*lines[:2], *lines[3:]]):
        path.write_text("".join(broken))
        with pytest.raises(ConfigError, check=lambda e: e.code == "audit.broken" and "Line 3" in e.message):
            verify_audit(path)
