"""Names, sidecars and the folder of a run's files.

Names follow BIDS derivatives: ``<input>_space-native_desc-counterfactual_T1w.nii.gz``, a JSON sidecar beside each.
A run writes into a hidden folder inside the output folder, and its files get their names only when all of them exist.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import atomic_file
from .errors import RequestError
from .schema import BIDS_SUFFIX, Output

if TYPE_CHECKING:
    import numpy as np

    from .volume import Volume

FORMATS: dict[str, str] = {"nifti": ".nii.gz", "nrrd": ".nrrd"}
SYNTHETIC = "SYNTHETIC: made by a model, not acquired. Research software, not for clinical use."
_SUFFIX = re.compile(r"_(T1w|T2w|FLAIR|T1|T2|T1c|T1C|T1ce|T1Gd|mask)$")
_ENTITY = re.compile(r"_(space|desc|ce)-[A-Za-z0-9]+")


@dataclass(frozen=True)
class ImageName:
    """The parts of an image's name. suffix: BIDS suffix, or ``mask``. space: ``native`` or ``SRI24``."""

    stem: str
    space: str
    desc: str
    suffix: str
    horizon_years: float | None = None

    def __str__(self) -> str:
        contrast, _, kind = self.suffix.rpartition("_")
        years = "" if self.horizon_years is None else f"years-{years_label(self.horizon_years)}"
        parts = (self.stem, contrast, f"space-{self.space}", f"desc-{self.desc}", years, kind)
        return "_".join(p for p in parts if p)


def input_stem(name: str) -> str:
    """The name of an input without contrast, space and description: ``sub-01_ce-GAD_T1w`` -> ``sub-01``."""
    return _ENTITY.sub("", _SUFFIX.sub("", name)) or "scan"


def years_label(years: float) -> str:
    """A horizon as a BIDS label, which has letters and digits only: 5 -> ``5``, 0.5 -> ``0p5``, -2 -> ``m2``."""
    return f"{years:g}".replace("-", "m").replace(".", "p").replace("+", "")


def extension_for(format_name: str, input_path: str | None) -> str:
    """``.nii.gz`` or ``.nrrd``; ``auto`` keeps the family of the input. Raises RequestError."""
    if format_name == "auto":
        return ".nrrd" if (input_path or "").lower().endswith(".nrrd") else ".nii.gz"
    if format_name not in FORMATS:
        raise RequestError(
            "request.format", f"Unknown output format {format_name!r}.", f"Use auto or one of: {', '.join(FORMATS)}."
        )
    return FORMATS[format_name]


@contextmanager
def staging(out_dir: str | Path) -> Iterator[Path]:
    """A hidden folder whose files move into ``out_dir`` when the block ends well; otherwise nothing is left behind.

    It lies inside ``out_dir``, hence on the same file system, so that each move is a rename. What other runs write into
    ``out_dir`` meanwhile stays, also when this one made the folder.
    """
    target = Path(out_dir)
    created = not target.exists()
    folder = target / f".{secrets.token_hex(6)}.partial"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise RequestError(
            "output.folder", f"Cannot write into {target}: {error.strerror}.", "Choose another folder with --out."
        ) from error
    moved: list[Path] = []
    try:
        yield folder
        for path in sorted(folder.iterdir(), key=lambda p: p.name == "provenance.json"):
            os.replace(path, target / path.name)
            moved.append(target / path.name)
        folder.rmdir()
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        if created:
            with suppress(OSError):  # it holds what another run made
                target.rmdir()
        raise


def write_json(path: Path, data: Any) -> Path:
    """Write indented JSON in one move."""
    with atomic_file(path) as handle:
        handle.write(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=str).encode() + b"\n")
    return path


@dataclass
class OutputFolder:
    """Writes the files of one run into ``folder`` and lists them as they will lie in ``out_dir``.

    facts: what every sidecar says (software, sources, checkpoint ids, seed, conditions).
    """

    folder: Path
    out_dir: Path
    stem: str
    modality: str
    extension: str = ".nii.gz"
    facts: dict[str, Any] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    _writers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))
    _pending: list[Future[Path]] = field(default_factory=list)

    def finish(self) -> None:
        """Wait until every image is written; raises what a writer raised."""
        try:
            for written in self._pending:
                written.result()
        finally:
            self._writers.shutdown(cancel_futures=True)

    def image(self, volume: Volume, output: Output, desc: str, about: str, **facts: Any) -> None:
        """Write an image and its sidecar. output: its role, space, synthetic, horizon (the path is filled in here)."""
        suffix = "mask" if output.role == "mask" else BIDS_SUFFIX[self.modality]
        name = ImageName(self.stem, output.space or "native", desc, suffix, output.horizon_years)
        path = self.folder / f"{name}{self.extension}"
        word = "SYNTHETIC " if output.synthetic else ""
        dtype = "uint8" if suffix == "mask" else "float32"
        # Compression releases the interpreter's lock: two images are written at a time.
        save = partial(volume.save, path, dtype=dtype, description=f"{word}{output.role}, BrainG3N"[:79])
        self._pending.append(self._writers.submit(save))
        write_json(self.folder / f"{name}.json", self._sidecar(output, about, facts))
        self._list(path.name, output)

    def json(self, name: str, role: str, data: Any) -> None:
        """Write a table as JSON."""
        write_json(self.folder / name, data)
        self._list(name, Output(role, ""))

    def arrays(self, desc: str, role: str, arrays: dict[str, np.ndarray]) -> None:
        """Write named arrays as ``<stem>_desc-<desc>.npz`` (no pickle)."""
        import numpy as np

        path = self.folder / f"{self.stem}_desc-{desc}.npz"
        with atomic_file(path) as handle:
            np.savez(handle, allow_pickle=False, **arrays)
        self._list(path.name, Output(role, ""))

    def _sidecar(self, output: Output, about: str, facts: dict[str, Any]) -> dict[str, Any]:
        description = f"{about} {SYNTHETIC}" if output.synthetic else about
        sidecar: dict[str, Any] = {
            "Description": description, "Role": output.role, "Synthetic": output.synthetic, "Space": output.space,
            **self.facts, **facts, "Provenance": "provenance.json",
        }
        if output.horizon_years is not None:
            sidecar["HorizonYears"] = output.horizon_years
        return sidecar

    def _list(self, name: str, output: Output) -> None:
        path = str(self.out_dir / name)
        self.outputs.append(Output(output.role, path, output.space, output.synthetic, output.horizon_years))
