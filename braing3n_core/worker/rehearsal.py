"""The test operation: real files and real time in the place of models, so that the worker can be tested by thousands.

It is there only when a worker is started with ``--rehearsal``, says so in its capabilities and in every result, and
never runs beside the engine. ``probe`` reads the scan and writes its negative; ``generate`` writes ``count`` blocks of
noise that the seed determines, taking ``num_steps`` steps of 10 ms. ``conditions.site`` asks for trouble: ``crash``,
``crash-once``, ``hang`` (deaf to cancel), ``memory``, ``error``.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..checking import RANGES, check_options
from ..errors import RequestError
from ..outputs import OutputFolder, extension_for, input_stem, staging, write_json
from ..progress import Cancel, Progress, silent
from ..schema import REQUESTS, AnyRequest, GenerateRequest, Output, Request, Result, request_kind, request_to_dict
from ..volume import Volume, stem

STEP_SECONDS = 0.01
_BLOCK = (16, 16, 16)
_ABOUT = "A rehearsal of the worker: no model was run."


class Rehearsal:
    """An engine without models. output_format: as of the engine."""

    def __init__(self, output_format: str = "auto") -> None:
        self.output_format = output_format

    def capabilities(self) -> dict[str, Any]:
        """What a face needs, as of the engine; the only verbs are ``probe`` and ``generate``."""
        verbs = {v: {"available": v in ("probe", "generate"), "why": _ABOUT} for v in REQUESTS}
        return {
            "version": __version__, "disclaimer": _ABOUT, "verbs": verbs, "rehearsal": True,
            "ranges": {name: list(span) for name, span in RANGES.items()},
            "vocabularies": {"dit": {}, "forecaster": {}}, "probes": [],
            "checkpoint": {"name": "rehearsal", "folder": "", "ids": {}, "card": _ABOUT, "licence": "Apache-2.0"},
            "device": {"name": "cpu", "why": _ABOUT, "precision": "float32", "precision_why": _ABOUT},
        }  # fmt: skip

    def run(
        self, request: AnyRequest, out_dir: str | Path, *, progress: Progress = silent, cancel: Cancel | None = None
    ) -> Result:
        """Do the request and write its files into ``out_dir``: all of them, or none."""
        cancel = cancel or Cancel()
        with staging(out_dir) as folder:
            if isinstance(request, GenerateRequest):
                files = self._generate(request, folder, Path(out_dir), progress, cancel)
            elif request_kind(request) == "probe":
                files = self._negate(request, folder, Path(out_dir), cancel)
            else:
                raise RequestError("request.kind", "A rehearsal knows probe and generate alone.", "Use the engine.")
            facts = {"verb": request_kind(request), "about": _ABOUT, "request": request_to_dict(request)}
            write_json(folder / "provenance.json", facts)
        progress(1.0, "Done")
        return Result(request_kind(request), tuple(files.outputs), provenance=facts, warnings=(_ABOUT,))

    def _negate(self, request: Request, folder: Path, out_dir: Path, cancel: Cancel) -> OutputFolder:
        check_options(request.preprocess)
        volume = Volume.load(request.input)
        cancel.check()
        files = self._files(request.input, folder, out_dir)
        output = Output("negative", "", "native", synthetic=True)
        files.image(volume.with_array(-volume.array), output, "negative", _ABOUT, Sources=[Path(request.input).name])
        files.finish()
        return files

    def _generate(
        self, request: GenerateRequest, folder: Path, out_dir: Path, progress: Progress, cancel: Cancel
    ) -> OutputFolder:
        _make_trouble(request.conditions.site or "", out_dir)
        for step in range(request.num_steps):
            cancel.check()
            progress(step / request.num_steps, f"Rehearsing step {step + 1}")
            time.sleep(STEP_SECONDS)
        files = self._files(None, folder, out_dir)
        rng = np.random.default_rng(request.seed)
        for number in range(request.count):
            noise = Volume.from_array(rng.normal(size=_BLOCK), np.eye(4))
            files.image(noise, Output("generated", "", "SRI24", synthetic=True), f"generated{number + 1}", _ABOUT)
        files.finish()
        return files

    def _files(self, source: str | None, folder: Path, out_dir: Path) -> OutputFolder:
        name = "sub-synthetic" if source is None else input_stem(stem(source))
        return OutputFolder(folder, out_dir, name, "T1", extension_for(self.output_format, source))


def _make_trouble(kind: str, out_dir: Path) -> None:
    """Do what must not bring the worker down."""
    mark = out_dir.absolute().parent.parent.parent / f"crashed-{out_dir.absolute().parent.name}"
    if kind == "crash" or (kind == "crash-once" and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "hang":
        while True:
            time.sleep(60)
    elif kind == "memory":
        raise MemoryError
    elif kind == "error":
        raise ValueError(f"a bug that knows {out_dir.absolute()}")
