"""Too large, too slow, too dense or damaged: refused soon, with a typed error, and the worker goes on."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import socket
import time
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from braing3n_core.errors import BrainG3NError, VolumeError
from braing3n_core.protocol import API, CHUNK_BYTES, MAX_JSON_BYTES
from braing3n_core.schema import ProbeRequest, request_to_dict
from braing3n_core.volume import Volume
from braing3n_core.worker.settings import Limits

from ..core.damaged_volumes import sound_files
from .conftest import SLACK, RunningWorker, steps, wait_for

MUTATIONS = int(os.environ.get("BRAING3N_RELIABILITY_VOLUMES", "60"))
FIRST = int(os.environ.get("BRAING3N_RELIABILITY_FIRST", "0"))
"""Number of the first damaged volume; each number is always damaged in the same way."""


def peak_mb(worker: RunningWorker) -> float:
    """Peak memory of the API process."""
    assert worker.process is not None
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def patch(worker: RunningWorker, body: bytes, encoding: str = "", size: int | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {worker.tokens['alice']}", "Content-Encoding": encoding or "identity"}
    place = {"size": str(size or len(body)), "offset": "0"}
    sha = hashlib.sha256(os.urandom(8)).hexdigest()
    return requests.patch(f"{worker.url}{API}/uploads/{sha}", data=body, params=place, headers=headers, timeout=30)


def put(worker: RunningWorker, body: bytes | str) -> requests.Response:
    headers = {"Authorization": f"Bearer {worker.tokens['alice']}"}
    return requests.put(f"{worker.url}{API}/jobs/{uuid.uuid4()}", data=body, headers=headers, timeout=30)


def bomb(encoding: str) -> bytes:
    zeros = bytes(200 * 2**20)
    if encoding == "gzip":
        return gzip.compress(zeros, 9)
    return pytest.importorskip("zstandard").ZstdCompressor().compress(zeros)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("send", ["upload", "job"])
def test_a_bomb_is_refused_in_two_seconds_and_takes_no_memory(worker: RunningWorker, encoding: str, send: str) -> None:
    body, before = bomb(encoding), peak_mb(worker)
    if send == "job":
        headers = {"Authorization": f"Bearer {worker.tokens['alice']}", "Content-Encoding": encoding}
        start = time.monotonic()
        answer = requests.put(f"{worker.url}{API}/jobs/{uuid.uuid4()}", data=body, headers=headers, timeout=30)
    else:
        start = time.monotonic()
        answer = patch(worker, body, encoding, size=200 * 2**20)
    assert time.monotonic() - start < 2 * SLACK
    assert answer.status_code == 413
    assert peak_mb(worker) - before < 256


def test_a_piece_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(worker: RunningWorker) -> None:
    assert patch(worker, os.urandom(CHUNK_BYTES), size=2 * CHUNK_BYTES).status_code == 200
    assert patch(worker, os.urandom(CHUNK_BYTES + 1), size=2 * CHUNK_BYTES).status_code == 413


def test_a_job_of_exactly_the_limit_is_read_and_one_byte_more_is_not(worker: RunningWorker) -> None:
    body = json.dumps({"request": request_to_dict(steps(1))})
    assert put(worker, body + " " * (MAX_JSON_BYTES - len(body))).status_code == 201
    assert put(worker, body + " " * (MAX_JSON_BYTES - len(body) + 1)).status_code == 413


def test_a_file_of_exactly_the_limit_is_begun_and_one_byte_more_is_not(worker: RunningWorker) -> None:
    assert patch(worker, b"x", size=Limits().upload_bytes).status_code in (200, 507)
    assert patch(worker, b"x", size=Limits().upload_bytes + 1).status_code == 413


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", b"\xff", b'{"request": 1}', b'{"request": {"kind": "plague"}}', b'{"request": {"kind": "probe"}}',
    b'{"request": {"kind": "probe", "input": "/etc/passwd"}}', b'{"request": {"kind": "generate", "seed": NaN}}',
    b'{"request": {"kind": "generate"}, "more": 1}', b'{"request": {"kind": "generate"}, "format": "exe"}',
    b'{"request": {"kind": "generate", "conditions": 1}}', b"[" * 100_000, b'{"request": {"kind": ["generate"]}}',
    b'{"request": {"kind": "forecast", "input": 3, "horizons_years": ["x"]}}',
    b'{"request":{"kind":"generate","seed":"\\ud800"}}',
])  # fmt: skip
def test_a_body_that_is_no_job_is_a_typed_error(worker: RunningWorker, body: bytes) -> None:
    answer = put(worker, body)
    if answer.status_code == 201:  # a wrong type inside a field is the engine's to refuse
        headers = {"Authorization": f"Bearer {worker.tokens['alice']}"}
        address = f"{worker.url}{API}/jobs/{answer.json()['id']}"
        wait_for(lambda: requests.get(address, headers=headers, timeout=20).json()["state"] in ("failed", "done"))
    else:
        assert answer.status_code in (400, 422)
        assert {"code", "message", "hint"} <= set(answer.json()["error"])


def test_a_slow_body_is_ended(worker: RunningWorker) -> None:
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", worker.port), 20) as sending:
        sending.sendall(
            f"PUT {API}/jobs/{uuid.uuid4()} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {worker.tokens['alice']}\r\n"
            "Content-Length: 1000\r\n\r\n{".encode()
        )
        assert b" 408 " in sending.recv(1000)
    assert time.monotonic() - start < 2 * Limits().idle_seconds * SLACK


@pytest.mark.parametrize("words", [b"", b"GET / HTTP/1.1\r\nHost:"])
def test_slow_headers_are_ended(worker: RunningWorker, words: bytes) -> None:
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", worker.port), 20) as sending:
        sending.sendall(words)
        assert b" 200 " not in sending.recv(1000)
    assert time.monotonic() - start < 4 * SLACK


def test_a_full_queue_is_429_with_a_time_to_wait(own_worker: RunningWorker) -> None:
    body = json.dumps({"request": request_to_dict(steps(200))})
    answers = [put(own_worker, body) for _ in range(Limits().user_jobs + 1)]
    assert {a.status_code for a in answers[:-1]} == {201}
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) > 0
    headers = {"Authorization": f"Bearer {own_worker.tokens['bob']}"}
    other = requests.put(f"{own_worker.url}{API}/jobs/{uuid.uuid4()}", data=body, headers=headers, timeout=20)
    assert other.status_code == 201


def test_a_volume_that_inflates_without_end_is_refused(worker: RunningWorker, scan: Path, tmp_path: Path) -> None:
    head = zlib.decompress(scan.read_bytes(), wbits=31)
    path, before = tmp_path / "bomb.nii.gz", peak_mb(worker)
    path.write_bytes(gzip.compress(head + bytes(400 * 2**20), 9))
    start = time.monotonic()
    with pytest.raises(VolumeError) as caught:
        worker.engine().run(ProbeRequest(str(path)), tmp_path / "out")
    assert caught.value.code in ("volume.gzip_bomb", "volume.trailing_data")
    assert time.monotonic() - start < 10 * SLACK
    assert peak_mb(worker) - before < 256


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One of the ways in which a file is damaged."""
    data = bytearray(content)
    kind = rng.randrange(5)
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[rng.randrange(len(data)) :]
    elif kind == 2:
        data += rng.randbytes(rng.randint(1, 300))
    elif kind == 3:
        start = rng.randrange(len(data))
        data[start : start + rng.randint(1, 64)] = rng.randbytes(rng.randint(0, 64))
    else:
        start = rng.randrange(min(352, len(data)))
        data[start] = rng.randrange(256)
    return bytes(data)


def test_mutated_volumes_crash_nothing_and_none_is_taken_with_wrong_voxels(
    worker: RunningWorker, tmp_path: Path
) -> None:
    files, engine = sorted(sound_files(tmp_path).items()), worker.engine()

    def refused(number: int) -> bool:
        rng = random.Random(f"mutation {number}")
        name, content = rng.choice(files)
        path, out = tmp_path / f"{number}-{name}", tmp_path / f"o{number}"
        path.write_bytes(mutated(content, rng))
        start = time.monotonic()
        far, near = taken(lambda: voxels(engine, path, out)), taken(lambda: local(path))
        assert time.monotonic() - start < 10 * SLACK
        assert isinstance(far, str) == isinstance(near, str), (far, near)
        assert far == near if isinstance(far, str) else np.array_equal(far, near)
        path.unlink()
        shutil.rmtree(out, ignore_errors=True)
        return isinstance(far, str)

    with ThreadPoolExecutor(4) as pool:  # most of the time of each is waiting for the disk
        assert sum(pool.map(refused, range(FIRST, FIRST + MUTATIONS))) > MUTATIONS / 4


def taken(read: Any) -> Any:
    """Voxels, or the code of the refusal."""
    try:
        return read()
    except BrainG3NError as error:
        assert error.hint
        return error.code


def voxels(engine: Any, path: Path, out: Path) -> np.ndarray:
    result = engine.run(ProbeRequest(str(path)), out)
    return -Volume.load(result.outputs[0].path).array


def local(path: Path) -> np.ndarray:
    return Volume.load(path).array
