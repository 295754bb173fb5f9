"""The engine of a worker, over HTTP: same interface, same files, same errors (docs/worker.md).

Needs what 3D Slicer's own Python bundles: the standard library, ``requests`` and numpy. Usable from any thread, and
from several at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .encoding import encodings_here, smaller
from .errors import BrainG3NError, Cancelled, RequestError, UnreachableError, VolumeError, WorkerError, error_from_dict
from .outputs import input_stem, staging, write_json
from .progress import Cancel, Progress, part, silent
from .protocol import (
    API,
    CHUNK_BYTES,
    CHUNK_SHA_HEADER,
    content_id,
    files_of,
    map_text,
    restorer,
    with_files,
)
from .schema import AnyRequest, Result, request_to_send, result_from_dict
from .volume import stem
from .wire import Wire, connection_errors, failure_of, wait

if TYPE_CHECKING:
    from requests import Response

UPLOADED, COMPUTED = 0.05, 0.95
"""Shares of the progress bar when the files are there and when the worker is done; the rest is the download."""
POLL_SECONDS = 1.0
"""How long one poll waits for news, and so how late a cancel may be heard."""
_PIECE = 2**16
_SMALLEST_CHUNK = 2**18
_STALLS = 20


class RemoteEngine:
    """A worker at ``url``, asked with ``token``.

    fingerprint: sha256 of the worker's certificate, when it is self-signed. output_format: as of the engine.
    patience_seconds: how long a broken connection, a restarting worker or a full queue is waited for.
    """

    def __init__(
        self, url: str, token: str, fingerprint: str | None = None, *, output_format: str = "auto",
        patience_seconds: float = 120.0,
    ) -> None:
        self._wire = Wire(url, token, fingerprint, patience_seconds)
        self.url, self.output_format = self._wire.url, output_format

    def health(self) -> dict[str, Any]:
        """``{"ok": bool, "status": ready | starting | unfit}``, at once. Raises UnreachableError, UntrustedError."""
        response = self._wire.once("GET", f"{API}/health/ready")
        return _object(response.content)

    def capabilities(self) -> dict[str, Any]:
        """What the worker's engine can do: see :class:`~braing3n_core.schema.EngineProtocol`."""
        return dict(_object(self._wire.call("GET", f"{API}/capabilities").content)["engine"])

    def run(
        self, request: AnyRequest, out_dir: str | Path, *, progress: Progress = silent, cancel: Cancel | None = None
    ) -> Result:
        """Do the request on the worker and write its files into ``out_dir``: all of them, or none.

        Raises what the engine raised, with its type, code and hint; Cancelled; AccessError, UnreachableError,
        UntrustedError, BusyError, WorkerError. Whatever happens, the worker is asked to erase the job.
        """
        cancel = cancel or Cancel()
        cancel.check()
        monotone = _Rising(progress)
        errand = Errand(self._wire, request_to_send(request), self.output_format, cancel)
        try:
            answer = errand.send(part(monotone, 0.0, UPLOADED), part(monotone, UPLOADED, COMPUTED))
            with staging(out_dir) as folder:
                errand.fetch(answer, folder, part(monotone, COMPUTED, 1.0))
                cancel.check()
        finally:
            errand.erase()
        monotone(1.0, "Done")
        return errand.result(answer, Path(out_dir))

    def close(self) -> None:
        """Let go of the connections."""
        self._wire.close()


class Errand:
    """One request on its way to the worker and its files on their way back."""

    def __init__(self, wire: Wire, request: dict[str, Any], output_format: str, cancel: Cancel) -> None:
        self.wire, self.request, self.output_format, self.cancel = wire, request, output_format, cancel
        self.id = str(uuid.uuid4())
        self.files = {field: str(path) for field, path in files_of(request).items()}
        source = self.files.get("input")
        self.stem = input_stem(stem(source)) if source else "sub-synthetic"
        self.restore = restorer(self.files, self.stem)
        self._sent = False
        self._encodings = encodings_here()

    def send(self, uploading: Progress, computing: Progress) -> dict[str, Any]:
        """Upload, submit and follow to the end; the worker's last answer. Raises the engine's error."""
        hashes = {field: _file_sha256(field, path) for field, path in self.files.items()}
        while True:
            for field, sha256 in hashes.items():
                self._upload(self.files[field], sha256, uploading)
            if self._submit(hashes):
                break
        answer = self._follow(computing)
        if answer["state"] == "done":
            return answer
        raise error_from_dict(map_text(answer.get("error") or {}, self.restore))

    def fetch(self, answer: dict[str, Any], folder: Path, progress: Progress) -> None:
        """Download every file of the result under the caller's names."""
        total = sum(a["size"] for a in answer["artifacts"]) or 1
        done = 0
        for artifact in answer["artifacts"]:
            target = folder / self._own_name(artifact["name"])
            self._download(artifact, target, part(progress, done / total, (done + artifact["size"]) / total))
            done += artifact["size"]
            if target.suffix == ".json":
                write_json(target, map_text(json.loads(target.read_text(encoding="utf-8")), self.restore))

    def result(self, answer: dict[str, Any], out_dir: Path) -> Result:
        """The result as the engine gives it, its paths in ``out_dir``."""
        data = answer["result"]
        outputs = [{**o, "path": str(out_dir / self._own_name(o["path"].rpartition("/")[2]))} for o in data["outputs"]]
        try:
            return result_from_dict({**map_text(data, self.restore), "outputs": outputs})
        except RequestError as error:
            raise WorkerError("worker.protocol", f"The worker's answer is not a result: {error.message}",
                              "Install the same braing3n version on both sides.") from error  # fmt: skip

    def erase(self) -> None:
        """Let the worker erase the job: it was retrieved, cancelled or has failed. It expires if this is not heard."""
        with suppress(BrainG3NError):
            if self._sent:
                self.wire.call("DELETE", f"{API}/jobs/{self.id}", expect=(404,), patience_seconds=3.0)

    def _upload(self, path: str, sha256: str, progress: Progress) -> None:
        """Send what the worker lacks of a file, from where it stands.

        Each broken connection halves the pieces: 2, 1, 0.5, then 0.25 MiB each time are all that is sent in vain.
        """
        address, size, chunk = f"{API}/uploads/{sha256}", os.path.getsize(path), CHUNK_BYTES
        offset, deadline = self._standing(address), time.monotonic() + self.wire.patience_seconds
        with open(path, "rb") as handle:
            while offset < size or (offset == 0 and size == 0):
                before = offset
                progress(offset / max(size, 1), "Uploading")
                handle.seek(offset)
                try:
                    offset = self._send_piece(address, size, offset, handle.read(chunk))
                except UnreachableError:
                    if time.monotonic() > deadline:
                        raise
                    wait(0.1, self.cancel)
                    chunk, offset = max(chunk // 2, _SMALLEST_CHUNK), self._standing(address)
                if offset > before:
                    deadline = time.monotonic() + self.wire.patience_seconds
        progress(1.0, "Uploaded")

    def _send_piece(self, address: str, size: int, offset: int, piece: bytes) -> int:
        """Send a piece; where the file stands then."""
        if not piece:
            raise VolumeError("volume.truncated", "The file is empty or became shorter while it was sent.",
                              "Copy or export it again.")  # fmt: skip
        headers = {CHUNK_SHA_HEADER: hashlib.sha256(piece).hexdigest(), "Content-Type": "application/octet-stream"}
        body, encoding = smaller(piece, self._encodings)
        if encoding:
            headers["Content-Encoding"] = encoding
        place = {"size": str(size), "offset": str(offset)}
        response = self.wire.call(
            "PATCH", address, params=place, data=body, headers=headers, cancel=self.cancel, expect=(409, 415),
            again=False,
        )  # fmt: skip
        if response.status_code == 415:
            return self._without(encoding, response, offset)
        if response.status_code == 409:
            return int(response.headers.get("Upload-Offset", "0"))
        return int(_object(response.content)["offset"])

    def _without(self, encoding: str, response: Response, offset: int) -> int:
        """The worker cannot read this encoding: send the piece again in another. Raises its error when it was none."""
        if not encoding:
            raise failure_of(response)
        self._encodings = tuple(e for e in self._encodings if e != encoding)
        return offset

    def _standing(self, address: str) -> int:
        response = self.wire.call("GET", address, cancel=self.cancel, expect=(404,))
        return 0 if response.status_code == 404 else int(_object(response.content)["offset"])

    def _submit(self, hashes: dict[str, str]) -> bool:
        """Queue the job; False when a file has expired meanwhile and must be sent again."""
        words = {field: content_id(hashes[field], path) for field, path in self.files.items()}
        body = {"request": with_files(self.request, words), "format": self.output_format}
        self._sent = True
        response = self.wire.call("PUT", f"{API}/jobs/{self.id}", json=body, cancel=self.cancel, expect=(409,))
        if response.status_code == 409:
            error = error_from_dict(_object(response.content)["error"])
            if error.code != "upload.missing":
                raise error
            return False
        return True

    def _follow(self, progress: Progress) -> dict[str, Any]:
        """Wait for the end of the job, telling how far it is."""
        seen = 0
        while True:
            self.cancel.check()
            response = self.wire.call("GET", f"{API}/jobs/{self.id}", cancel=self.cancel,
                                      params={"wait": str(POLL_SECONDS), "seen": str(seen)})  # fmt: skip
            answer = _object(response.content)
            if answer["state"] in ("done", "failed", "cancelled"):
                return answer
            if answer["version"] != seen:
                progress(float(answer["fraction"]), self.restore(answer["message"]))
            seen = int(answer["version"])

    def _download(self, artifact: dict[str, Any], target: Path, progress: Progress) -> None:
        """Fetch a file, going on where a broken connection stopped; its sha256 must be right at the end."""
        address, digest, stalls = f"{API}/jobs/{self.id}/artifacts/{artifact['name']}", hashlib.sha256(), 0
        deadline = time.monotonic() + self.wire.patience_seconds
        with open(target, "wb") as handle:
            while handle.tell() < artifact["size"]:
                before = handle.tell()
                try:
                    self._receive(address, handle, digest, artifact["size"], progress)
                except UnreachableError:
                    if handle.tell() > before:
                        deadline = time.monotonic() + self.wire.patience_seconds
                    stalls = 0 if handle.tell() > before else stalls + 1
                    if time.monotonic() > deadline:
                        raise
                    wait(min(0.1 * 2**min(stalls, 6), 5.0), self.cancel)
            handle.flush()
            os.fsync(handle.fileno())
        if digest.hexdigest() != artifact["sha256"]:
            raise WorkerError("worker.damaged", f"The file {target.name} was damaged on its way.", "Run it again.")

    def _receive(self, address: str, handle: Any, digest: Any, size: int, progress: Progress) -> None:
        with self.wire.stream(address, handle.tell()) as response:
            if handle.tell() and response.status_code != 206:
                raise WorkerError("worker.range", "The worker or a proxy does not continue downloads.",
                                  "Check the proxy in between.")  # fmt: skip
            with connection_errors(self.wire.url):
                for piece in response.iter_content(_PIECE):
                    self.cancel.check()
                    if handle.tell() + len(piece) > size:
                        raise WorkerError("worker.damaged", "A file is longer than announced.", "Run it again.")
                    handle.write(piece)
                    digest.update(piece)
                    progress(handle.tell() / size, "Downloading")
        if handle.tell() < size:
            raise UnreachableError("worker.unreachable", f"{self.wire.url} broke off a download.", "Try again later.")

    def _own_name(self, name: str) -> str:
        """The caller's name of a file of the result; never a path."""
        own = self.restore(name) if self.files else name
        if own != os.path.basename(own) or own in ("", ".", ".."):
            raise WorkerError("worker.protocol", "The worker named a file outside the folder.", "Do not trust it.")
        return own


class _Rising:
    """A progress sink that never goes back, as when a job is tried again."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._highest = progress, 0.0

    def __call__(self, fraction: float, message: str) -> None:
        self._highest = max(self._highest, fraction)
        self._progress(self._highest, message)


def _file_sha256(field: str, path: str) -> str:
    """The content of a file. Raises what the engine raises when it is not there."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        if field != "input":
            what = field.rpartition(".")[2]
            raise RequestError(f"request.{what}", f"There is no {what} file {path}.", "Check the path.") from error
        if isinstance(error, IsADirectoryError):
            raise VolumeError("volume.folder", f"{path}: a worker takes files, not folders.",
                              "Convert the series to NIfTI first, e.g. with dcm2niix.") from error  # fmt: skip
        code = "volume.not_found" if isinstance(error, FileNotFoundError | NotADirectoryError) else "volume.unreadable"
        raise VolumeError(code, f"{path}: cannot be read ({error.strerror}).", "Check the path.") from error


def _object(content: bytes) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise WorkerError("worker.answer", "The address does not answer as a worker.", "Check the address.")
    return data


__all__ = ["Cancelled", "RemoteEngine"]
