"""What docs/worker.md and the Dockerfile tell an operator to type does what they say.

Neither Docker nor Slurm runs here: their files are read, and their commands run without them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from braing3n_core.remote import RemoteEngine
from braing3n_core.worker.certificate import fingerprint_of

from .conftest import REPOSITORY, free_port, ready, secure_worker, steps, wait_for

MANUAL = (REPOSITORY / "docs" / "worker.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def block(word: str) -> str:
    """The one example of the manual that holds the word."""
    found = [b for b in BLOCKS if word in b]
    assert len(found) == 1, (word, len(found))
    return str(found[0])


def words(instruction: str) -> list[str]:
    """The JSON list after an instruction of the Dockerfile."""
    match = re.search(rf"^{instruction}\b[^\[\n]*(\[.*\])", DOCKERFILE, re.MULTILINE)
    assert match, instruction
    return list(json.loads(match[1]))


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder for PATH whose ``braing3n`` is this checkout, rehearsing where it serves."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shim = folder / "braing3n"
    shim.write_text(
        f'#!/bin/sh\ncase "$2" in init|token) ;; *) set -- "$@" --rehearsal $BRAING3N_TEST_FLAGS ;; esac\n'
        f'PYTHONPATH="{REPOSITORY}" exec {sys.executable} -m braing3n_core "$@"\n'
    )
    shim.chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    uuidgen = folder / "uuidgen"  # not on every machine
    uuidgen.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import uuid; print(str(uuid.uuid4()).upper())'\n")
    uuidgen.chmod(0o755)
    return folder


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_example_is_good_shell_or_a_unit(number: int) -> None:
    text = BLOCKS[number]
    if "[Unit]" in text:
        return
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "braing3n-worker.service"
    unit.write_text(block("[Unit]").replace("/opt/braing3n/.venv/bin/braing3n", "/bin/true"))
    said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert [line for line in said.stderr.splitlines() if unit.name in line] == []


def test_the_curl_examples_upload_run_fetch_and_erase(tmp_path: Path, bin_folder: Path, scan: Path) -> None:
    if any(shutil.which(tool) is None for tool in ("curl", "sha256sum")):
        pytest.skip("needs curl and sha256sum")
    spool = tmp_path / "spool"
    spool.mkdir()
    worker = secure_worker(spool).start().wait_ready()
    shutil.copy(scan, tmp_path / "T1.nii.gz")
    shutil.copy(spool / "worker-cert.pem", tmp_path / "worker-cert.pem")
    script = block("uuidgen").replace("https://gpu.hospital.example:8765", worker.url)
    script = script.replace("curl ", "curl -sS --fail ").replace("probes.json", "provenance.json")  # a rehearsal's file
    script = re.sub(r"(?m)^(curl .*/uploads/\$SHA)$", r"! \1  # 404: nothing of it is here", script)
    script = re.sub(r"(?m)^(curl .*wait=25.*)$", r"until \1 | grep state...done; do sleep 0.2; done", script)
    path = f"{bin_folder}:{os.environ['PATH']}"
    environment = os.environ | {"BRAING3N_WORKER_TOKEN": worker.tokens["alice"], "PATH": path}
    try:
        run = subprocess.run(["bash", "-eux"], input=script, cwd=tmp_path, env=environment, text=True,
                             capture_output=True, timeout=120)  # fmt: skip
        jobs = worker.engine()._wire.call("GET", "/v1/jobs").json()
    finally:
        worker.stop()
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "provenance.json").read_text())["verb"] == "probe"
    assert jobs == {"jobs": []}


def test_the_slurm_script_serves_on_its_node_for_its_owner(tmp_path: Path, bin_folder: Path) -> None:
    token, port = "a" * 48, free_port()
    (tmp_path / ".braing3n-token").write_text(token)
    environment = os.environ | {
        "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "SLURM_JOB_ID": "7", "BRAING3N_TEST_FLAGS": f"--port {port}",
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
    }  # fmt: skip
    script = block("#SBATCH").replace("\nbraing3n worker", "\nexec braing3n worker")  # so that it can be ended here
    with running(["bash", "-eu", "-c", script], environment):
        engine = RemoteEngine(f"http://127.0.0.1:{port}", token)
        wait_for(lambda: ready(engine), 60)
        assert engine.run(steps(1), tmp_path / "out").outputs
        assert (tmp_path / "braing3n-7" / "worker.sqlite").exists()
        engine.close()


def test_the_commands_of_the_image_make_a_certificate_serve_and_say_that_they_are_healthy(
    tmp_path: Path, bin_folder: Path
) -> None:
    """As in a container: first `init` on the volume, then without arguments; the health check from inside."""
    port = str(free_port())
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path), "PATH": f"{bin_folder}:{os.environ['PATH']}"}

    def local(command: list[str]) -> list[str]:
        here = [w.replace("/spool", str(tmp_path)).replace("8765", port) for w in command]
        return [str(bin_folder / here[0]), *here[1:]]

    init = local([*words("ENTRYPOINT"), "init", "--host", "gpu.hospital.example"])
    said = subprocess.run(init, env=environment, capture_output=True, text=True, check=True).stdout
    token = next(line.split()[-1] for line in said.splitlines() if line.startswith("token:"))
    serve = [*local([*words("ENTRYPOINT"), *words("CMD")]), "--port", port]
    with running(serve, environment):
        cert = tmp_path / "braing3n" / "worker" / "worker-cert.pem"
        engine = RemoteEngine(f"https://127.0.0.1:{port}", token, fingerprint_of(cert))
        wait_for(lambda: ready(engine), 60)
        healthy = subprocess.run(local(words("HEALTHCHECK")), env=environment, capture_output=True, timeout=60)
        assert healthy.returncode == 0, healthy.stderr
        assert engine.run(steps(1), tmp_path / "out").outputs
        engine.close()
    sick = subprocess.run(local(words("HEALTHCHECK")), env=environment, capture_output=True, timeout=60)
    assert sick.returncode != 0


def test_the_image_gets_every_file_that_it_installs_from() -> None:
    copied = " ".join(re.findall(r"^COPY (.*)", DOCKERFILE, re.MULTILINE)).split()
    assert all((REPOSITORY / name).exists() for name in copied)
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "braing3n_core"} <= set(copied)
