"""Killing anything at any time loses nothing: acknowledged jobs are done once, with the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from braing3n_core.errors import BrainG3NError, Cancelled, ProcessError
from braing3n_core.progress import Cancel
from braing3n_core.protocol import API
from braing3n_core.remote import Errand
from braing3n_core.schema import ProbeRequest
from braing3n_core.worker.executor_link import ExecutorLink
from braing3n_core.worker.settings import Settings

from .conftest import REPOSITORY, RunningWorker, audit_lines, contents, state, steps, submit, wait_for

KILLS = int(os.environ.get("BRAING3N_RELIABILITY_KILLS", "20"))


def test_a_queued_a_running_and_a_finished_job_survive_a_kill_of_the_api(
    own_worker: RunningWorker, tmp_path: Path
) -> None:
    finished = submit(own_worker, 1, 1)
    finished._follow(lambda *_: None)
    running, queued = submit(own_worker, 2, 100), submit(own_worker, 3, 5)
    wait_for(lambda: state(running) == "running")
    own_worker.kill()
    own_worker.start().wait_ready()
    for name, errand in (("finished", finished), ("running", running), ("queued", queued)):
        answer = errand._follow(lambda *_: None)
        assert answer["state"] == "done"
        (tmp_path / name).mkdir()
        errand.fetch(answer, tmp_path / name, lambda *_: None)
    reference = own_worker.engine().run(steps(1, 1), tmp_path / "reference")
    assert reference.kind == "generate"
    images = [{n: b for n, b in contents(tmp_path / f).items() if n.endswith(".gz")} for f in ("finished", "reference")]
    assert images[0] == images[1] != {}


def test_a_job_survives_a_kill_of_the_executor(own_worker: RunningWorker, tmp_path: Path) -> None:
    expected = own_worker.engine().run(steps(200, 4), tmp_path / "expected")
    killed: list[int] = []

    def kill_once(fraction: float, message: str) -> None:
        if not killed and "step" in message:
            killed.extend(own_worker.children("worker.executor"))
            os.kill(killed[0], signal.SIGKILL)

    result = own_worker.engine().run(steps(200, 4), tmp_path / "out", progress=kill_once)
    assert killed
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert result.provenance == expected.provenance


def test_the_executor_dies_with_the_api(own_worker: RunningWorker) -> None:
    executors = own_worker.children("worker.executor")
    assert executors
    own_worker.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() and alive(pid) for pid in executors), 10)


def test_an_executor_that_cannot_be_heard_any_more_gets_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the moment between the kill of a process and its end."""
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\nexec 1>&-\nexec sleep 60\n")
    mute.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(mute))
    link = ExecutorLink(Settings(tmp_path))
    assert link.events.get(timeout=30) == {"event": "gone"}
    assert Path(f"/proc/{link.pid}").exists()
    assert not link.alive()
    link.kill()
    assert not alive(link.pid)


def test_a_job_that_crashes_its_process_once_is_done_the_second_time(worker: RunningWorker, tmp_path: Path) -> None:
    result = worker.engine().run(steps(2, site="crash-once"), tmp_path / "out")
    assert result.outputs


def test_a_job_that_always_crashes_its_process_fails_and_the_next_is_done(
    worker: RunningWorker, tmp_path: Path
) -> None:
    with pytest.raises(ProcessError) as caught:
        worker.engine().run(steps(2, site="crash"), tmp_path / "out")
    assert caught.value.code == "job.crashed"
    assert worker.engine().run(steps(2), tmp_path / "next").outputs


@pytest.mark.parametrize(("site", "code"), [("error", "job.failed"), ("memory", "job.memory")])
def test_a_bug_and_a_lack_of_memory_are_typed_errors_without_a_path(
    worker: RunningWorker, tmp_path: Path, site: str, code: str
) -> None:
    with pytest.raises(ProcessError) as caught:
        worker.engine().run(steps(2, site=site), tmp_path / "out")
    assert caught.value.code == code
    assert str(worker.spool) not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_spool_that_cannot_be_written_costs_a_job_and_not_the_worker(
    own_worker: RunningWorker, tmp_path: Path
) -> None:
    folder = own_worker.spool / "jobs"
    folder.rmdir()
    folder.write_text("in the way")
    with pytest.raises(ProcessError) as caught:
        own_worker.engine().run(steps(1), tmp_path / "out")
    assert caught.value.code == "job.crashed"
    folder.unlink()
    folder.mkdir()
    assert own_worker.engine().run(steps(1), tmp_path / "next").outputs


def test_a_cancel_that_is_not_obeyed_ends_the_process_and_the_next_job_is_done(
    worker: RunningWorker, tmp_path: Path
) -> None:
    cancel = Cancel()
    threading.Timer(1.0, cancel.cancel).start()
    with pytest.raises(Cancelled):
        worker.engine().run(steps(2, site="hang"), tmp_path / "out", cancel=cancel)  # or the test hangs
    assert worker.engine().run(steps(2), tmp_path / "next").outputs
    wait_for(lambda: not list((worker.spool / "jobs").iterdir()), 10)


def test_the_same_job_sent_again_is_done_once(worker: RunningWorker) -> None:
    errand = submit(worker, 11)
    assert errand._submit({})
    errand._follow(lambda *_: None)
    assert errand._submit({})
    done = [line for line in audit_lines(worker) if line["object"] == errand.id and line["action"] == "job.done"]
    assert len(done) == 1
    errand.erase()
    with pytest.raises(BrainG3NError) as caught:  # a late copy of the request does not run the erased job again
        errand._submit({})
    assert caught.value.code == "job.erased"


CLIENT = (
    "import sys\nfrom braing3n_core.remote import RemoteEngine\nfrom braing3n_core.schema import ProbeRequest\n"
    "print('go', flush=True)\nRemoteEngine(sys.argv[1], sys.argv[2]).run(ProbeRequest(sys.argv[3]), sys.argv[4])\n"
)


def kill_something(worker: RunningWorker, rng: random.Random, scan: Path, out: Path) -> None:
    """Kill the API, the executor, the parser at work, or a client in the middle of its run."""
    victim = rng.choice(["api", "executor", "executor", "parser", "client"])
    if victim == "api":
        worker.kill()
        worker.start().wait_ready()
    elif victim == "client":
        command = [sys.executable, "-c", CLIENT, worker.url, worker.tokens["carol"], str(scan), str(out)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as client:
            assert client.stdout is not None and client.stdout.readline() == b"go\n"
            time.sleep(rng.uniform(0, 0.5))
            client.kill()
    else:
        for pid in worker.children(f"worker.{victim}"):
            os.kill(pid, signal.SIGKILL)


def test_random_kills_lose_no_acknowledged_job_and_do_none_twice(
    own_worker: RunningWorker, scan: Path, tmp_path: Path
) -> None:
    rng = random.Random(3)
    own_worker.tokens["carol"] = own_worker.add_token("carol")
    engine = own_worker.engine()
    engine.run(ProbeRequest(str(scan)), tmp_path / "probed")
    expected = {}
    for seed in range(3):
        engine.run(steps(10, seed), tmp_path / f"expected{seed}")
        expected[seed] = contents(tmp_path / f"expected{seed}")
    errands: list[tuple[int, Errand]] = []
    for number in range(KILLS):
        errands += [(seed, submit(own_worker, seed)) for seed in rng.sample(range(3), 2)]
        time.sleep(rng.uniform(0, 0.3))
        kill_something(own_worker, rng, scan, tmp_path / f"client{number}")
    lost = 0
    for number, (seed, errand) in enumerate(errands):
        answer = errand._follow(lambda *_: None)
        if answer["state"] == "failed" and answer["error"]["code"] == "job.crashed":
            continue  # three kills hit this very job: it ended with a typed error, as promised
        folder = tmp_path / f"got{number}"
        folder.mkdir()
        errand.fetch(answer, folder, lambda *_: None)
        lost += contents(folder) != expected[seed]
    assert lost == 0
    wait_for(lambda: not left_behind(own_worker) & {"queued", "running"}, 120)
    assert left_behind(own_worker) <= {"done", "job.crashed"}
    whole = contents(tmp_path / "probed")
    for out in tmp_path.glob("client*"):  # a killed client leaves all files or none
        assert contents(out) in ({}, whole), sorted(contents(out))
    done = [line["object"] for line in audit_lines(own_worker) if line["action"] == "job.done"]
    assert len(done) == len(set(done))


def left_behind(worker: RunningWorker) -> set[str]:
    """How the jobs of killed clients stand: their states, or the codes of their errors."""
    answer = worker.engine("carol")._wire.call("GET", f"{API}/jobs").json()
    return {job["error"]["code"] if job["error"] else job["state"] for job in answer["jobs"]}


def test_a_killed_parser_does_not_blame_the_file(own_worker: RunningWorker, scan: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    killed: list[int] = []

    def hunt() -> None:
        while not stop.is_set() and not killed:
            for pid in own_worker.children("worker.parser"):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        assert own_worker.engine().run(ProbeRequest(str(scan)), tmp_path / "out").outputs
    finally:
        stop.set()
        hunter.join()
    assert killed


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
