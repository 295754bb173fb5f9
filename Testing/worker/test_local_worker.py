"""A worker of one's own: there when it is wanted, gone without a trace afterwards, and the command line far away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from braing3n_core.cli import main
from braing3n_core.errors import ProcessError
from braing3n_core.local_worker import LocalWorker
from braing3n_core.worker.serve import Address, _listen

from .conftest import RunningWorker, command_line, contents, descendants, steps, wait_for

REHEARSAL = ("--rehearsal",)


def spools() -> set[str]:
    return {p.name for p in Path(tempfile.gettempdir()).glob("braing3n-worker-*")}


def test_it_starts_answers_and_leaves_neither_process_nor_file(tmp_path: Path) -> None:
    before = spools()
    local = LocalWorker(arguments=REHEARSAL)
    with local as engine:
        assert engine.capabilities()["rehearsal"]
        assert engine.run(steps(1), tmp_path / "out").outputs
        assert local.pid is not None
        family = [local.pid, *descendants(local.pid)]
        assert len(family) >= 2
        assert spools() - before
        assert not any("TOKEN" in command_line(pid) or "bg3_" in command_line(pid) for pid in family)
    assert not local.running
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 10)
    assert spools() == before


def test_it_can_be_started_again_after_a_stop_and_stopped_twice(tmp_path: Path) -> None:
    local = LocalWorker(arguments=REHEARSAL)
    first = local.start()
    assert local.start() is first
    local.stop()
    local.stop()
    assert local.start().run(steps(1), tmp_path / "out").outputs
    local.stop()


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_headers() -> None:
    async def accepted_without_delay() -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            told.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = _listen(Address(port=0))
        async with await asyncio.start_server(accept, sock=listening):
            with socket.create_connection(listening.getsockname()):
                return await told

    assert asyncio.run(accepted_without_delay()) == 1  # else 40 ms a call, by Nagle's algorithm


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "from braing3n_core.local_worker import LocalWorker\nimport time\n"
        "w = LocalWorker(arguments=('--rehearsal',)); w.start().capabilities()\n"
        "print(w.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    family = [worker, *descendants(worker)]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(command_line(pid) for pid in family), 20)


def test_an_interpreter_without_the_package_is_a_typed_error(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(ProcessError) as caught:
        LocalWorker(bare).start()
    assert caught.value.code == "process.not_installed"
    with pytest.raises(ProcessError) as caught:
        LocalWorker(tmp_path / "nothing").start()
    assert caught.value.code == "process.interpreter"


def test_the_command_line_runs_a_verb_far_away(
    worker: RunningWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = ["--worker", worker.url, "--worker-token", worker.tokens["alice"]]
    assert main([*far, "generate", "--count", "2", "--steps", "2", "--seed", "7", "-o", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["outputs"]) == 2
    assert all(Path(o["path"]).name in contents(tmp_path) for o in result["outputs"])
    assert main([*far, "capabilities", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rehearsal"]


def test_the_command_line_keeps_the_format_that_was_asked_for(
    worker: RunningWorker, scan: Path, tmp_path: Path
) -> None:
    far = ["--worker", worker.url, "--worker-token", worker.tokens["alice"]]
    assert main([*far, "probe", str(scan), "-o", str(tmp_path), "--format", "nrrd", "--quiet"]) == 0
    assert [n for n in contents(tmp_path) if n.endswith(".nrrd")]


def test_a_worker_without_a_token_is_said(
    worker: RunningWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--worker", worker.url, "generate", "-o", str(tmp_path)]) == 1
    assert "worker.token" in capsys.readouterr().err
