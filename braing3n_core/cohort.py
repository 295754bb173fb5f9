"""A synthetic cohort as a BIDS data set: participants.tsv, one T1 (or other contrast) a subject, a privacy report.

Each subject is one run of the engine, near or far, and depends on the seed and its own number alone. So a cohort can be
made in shards on several machines into one folder, and a run that was stopped goes on where it was: what is there and
was made by the same request is kept, what was made by another is refused. All tables are made from what is there.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import __version__
from .atomic import atomic_file
from .errors import RequestError
from .outputs import SYNTHETIC, write_json
from .progress import Cancel, Progress, part, silent
from .schema import Conditions, EngineProtocol, GenerateRequest, Output
from .shard import require_shard

LATENTS = Path("sourcedata") / "latents"
PROVENANCE: tuple[str, ...] = ("software", "checkpoint", "runtime", "noise_scale", "guidance_scale", "truncation",
                               "reweighting")
"""What of a run's provenance stands in the sidecar of its brain, beside the request."""
COLUMNS: tuple[str, ...] = tuple(Conditions.__dataclass_fields__)
DESCRIPTIONS: dict[str, str] = {
    "synthetic": "yes: no such person exists", "seed": "of the noise that this brain was drawn from",
    "age_years": "age that was asked for, in years", "modality": "contrast that was asked for",
    "disease": "diagnosis that was asked for", "sex": "sex that was asked for", "site": "scanner that was asked for",
    "idh1": "IDH1 status that was asked for",
}


@dataclass(frozen=True)
class CohortPlan:
    """What is to be made. base: guidance, sampler, steps and seed of every subject. rows: conditions by subject.

    shard: (i, n), i from 1: this run makes subjects i, i+n, i+2n ... reference: path of latents of real scans.
    """

    base: GenerateRequest
    rows: tuple[Conditions, ...]
    shard: tuple[int, int] = (1, 1)
    reference: str | None = None

    def __post_init__(self) -> None:
        require_shard(*self.shard)
        if not self.rows:
            raise RequestError("cohort.rows", "A cohort needs at least one subject.", "Raise --count.")

    def request(self, number: int) -> GenerateRequest:
        """The request of subject ``number``, from 1."""
        return dataclasses.replace(
            self.base, conditions=self.rows[number - 1], count=1, seed=subject_seed(self.base.seed, number)
        )

    def numbers(self) -> list[int]:
        """The subjects of this shard."""
        return list(range(self.shard[0], len(self.rows) + 1, self.shard[1]))


@dataclass(frozen=True)
class Cohort:
    """What lies in the folder now. made, kept: subjects of this run; present: of all shards; planned: in all."""

    folder: Path
    made: int
    kept: int
    present: int
    planned: int
    privacy: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**dataclasses.asdict(self), "folder": str(self.folder)}


def make_cohort(
    engine: EngineProtocol, plan: CohortPlan, out: Path, *, progress: Progress = silent, cancel: Cancel | None = None
) -> Cohort:
    """Make the subjects of the shard that are not there yet, then the tables of all that is there."""
    from .memorisation import Reference

    reference = None if plan.reference is None else Reference.open(plan.reference)
    _describe(out)
    numbers = plan.numbers()
    made = 0
    for done, number in enumerate(numbers):
        share = part(progress, done / len(numbers), (done + 1) / len(numbers))
        if _is_there(out, number, plan.request(number)):
            share(1.0, f"Subject {number} is there")
            continue
        _make(engine, plan.request(number), number, out, share, cancel)
        made += 1
    names = write_participants(out)
    privacy = write_privacy(out, names, reference)
    progress(1.0, "Cohort written")
    return Cohort(out, made, len(numbers) - made, len(names), len(plan.rows), privacy)


def subject_label(number: int) -> str:
    """``sub-synthetic0001`` for 1."""
    return f"sub-synthetic{number:04d}"


def subject_seed(seed: int, number: int) -> int:
    """A seed for each subject, the same on every machine and in every shard."""
    return int.from_bytes(hashlib.sha256(f"cohort:{seed}:{number}".encode()).digest()[:6], "big")


def read_rows(path: str | Path) -> tuple[Conditions, ...]:
    """Conditions from a participants.tsv: columns age (or age_years), sex, disease, ...; ``n/a`` is unknown.

    Raises RequestError for a file that cannot be read or says nothing of any condition.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RequestError("cohort.participants", f"Cannot read {path}: {why}.", "Give a TSV file.") from error
    lines = csv.DictReader(text.splitlines(), delimiter="\t")
    if not {"age", *COLUMNS} & set(lines.fieldnames or ()):
        raise RequestError(
            "cohort.participants", f"{path} has none of the columns that are conditions.",
            f"Separate columns by tabs and name them: age, {', '.join(c for c in COLUMNS if c != 'age_years')}.",
        )
    rows = tuple(_conditions(line, f"{path}, row {i}") for i, line in enumerate(lines, start=1))
    if not rows:
        raise RequestError("cohort.participants", f"{path} has no rows.", "Write one row for each subject.")
    return rows


def _conditions(line: dict[str, str | None], place: str) -> Conditions:
    values: dict[str, Any] = {}
    for column, cell in line.items():
        name = "age_years" if column == "age" else column
        if name in COLUMNS and cell not in (None, "", "n/a"):
            values[name] = cell
    try:
        if "age_years" in values:
            values["age_years"] = float(values["age_years"])
    except ValueError as error:
        raise RequestError("cohort.age", f"{place}: an age is a number, got {values['age_years']!r}.",
                           "Write a number of years or n/a.") from error
    return Conditions(**values)


def _make(
    engine: EngineProtocol, request: GenerateRequest, number: int, out: Path, progress: Progress,
    cancel: Cancel | None,
) -> None:
    with tempfile.TemporaryDirectory(dir=out, prefix=".making-") as name:
        result = engine.run(request, name, progress=progress, cancel=cancel)
        outputs = {output.role: output for output in result.outputs}
        image, latents = Path(outputs["generated"].path), Path(outputs["latents"].path)
        place = _image_path(out, number, outputs["generated"])
        for folder in (place.parent, out / LATENTS):
            folder.mkdir(parents=True, exist_ok=True)
        sidecar = json.loads(image.with_name(_stem(image) + ".json").read_text(encoding="utf-8"))
        provenance = {k: result.provenance[k] for k in PROVENANCE if k in result.provenance}
        os.replace(latents, out / LATENTS / f"{subject_label(number)}.npz")
        os.replace(image, place)
        # The sidecar comes last: a subject that has one is whole.
        write_json(place.with_name(_stem(place) + ".json"), {
            **sidecar, "Provenance": provenance, "Request": dataclasses.asdict(request), "Image": place.name,
        })


def _image_path(out: Path, number: int, output: Output) -> Path:
    name = Path(output.path).name.partition("_")[2]
    if not name.endswith(".nii.gz"):
        raise RequestError("cohort.format", f"BIDS images are NIfTI, got {name}.", "Leave --format at auto.")
    return out / subject_label(number) / "anat" / f"{subject_label(number)}_{name}"


def _stem(path: Path) -> str:
    return path.name.removesuffix(".nii.gz").removesuffix(".nrrd")


def _is_there(out: Path, number: int, request: GenerateRequest) -> bool:
    path = next(iter((out / subject_label(number) / "anat").glob("*.json")), None)
    if path is None:
        return False
    found = json.loads(path.read_text(encoding="utf-8"))["Request"]
    if found != json.loads(json.dumps(dataclasses.asdict(request))):
        raise RequestError(
            "cohort.other", f"{subject_label(number)} in {out} was made by another request.",
            "Continue a cohort with the same options, or choose another folder.",
        )
    return True


def _describe(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "dataset_description.json", {
        "Name": "SYNTHETIC brains by BrainG3N", "BIDSVersion": "1.9.0", "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "BrainG3N", "Version": __version__, "Description": SYNTHETIC}], "SourceDatasets": [],
    })
    write_json(out / "participants.json", {n: {"Description": text} for n, text in DESCRIPTIONS.items()})
    with atomic_file(out / "README") as handle:
        handle.write(f"{SYNTHETIC}\nNo person of this data set exists. Latents of each brain: {LATENTS}.\n".encode())


def write_participants(out: Path) -> list[str]:
    """``participants.tsv`` from the sidecars of every subject that is there; their labels."""
    sidecars = sorted(out.glob("sub-synthetic*/anat/*.json"))
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(["participant_id", "synthetic", *COLUMNS, "seed"])
    names = []
    for path in sidecars:
        request = json.loads(path.read_text(encoding="utf-8"))["Request"]
        names.append(path.parent.parent.name)
        values = ["n/a" if request["conditions"][c] is None else request["conditions"][c] for c in COLUMNS]
        writer.writerow([names[-1], "yes", *values, request["seed"]])
    with atomic_file(out / "participants.tsv") as handle:
        handle.write(table.getvalue().encode())
    return names


def write_privacy(out: Path, names: Sequence[str], reference: Any) -> dict[str, Any]:
    """``privacy_report.json`` over every subject that is there. reference: a Reference or None."""
    import numpy as np

    from .memorisation import report

    latents = np.zeros((0, 0), np.float32)
    if reference is not None and names:
        arrays = [np.load(out / LATENTS / f"{name}.npz", allow_pickle=False)["latents"] for name in names]
        latents = np.stack([array.reshape(-1).astype(np.float32) for array in arrays])
    found = report(names, latents, reference)
    write_json(out / "privacy_report.json", found)
    return found
