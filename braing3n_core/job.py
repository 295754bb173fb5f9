"""One request from its input file to its output files: read, preprocess, encode, do the verb, write, say where from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, writing
from .capabilities import NEEDS, card, ids_of, runtime_facts
from .outputs import SYNTHETIC, OutputFolder, extension_for, input_stem, write_json
from .progress import Cancel, Progress, part
from .provenance import Timings, file_sha256, software
from .schema import (
    AnyRequest,
    CounterfactualRequest,
    Effect,
    ForecastRequest,
    GenerateRequest,
    PreprocessOptions,
    Reading,
    Request,
    Result,
    request_kind,
    request_to_dict,
)
from .volume import Volume, stem

if TYPE_CHECKING:
    from .engine import Engine
    from .outcomes import Encoded
    from .preprocess.pipeline import Preprocessed

PREPARED, ANSWERED = 0.6, 0.85
"""Shares of the progress bar when the scan is prepared and when the verb is done; the rest is writing."""

WITHOUT_MODELS = {"preprocess": "A preprocessed scan.", "examine": "What a scan shows of its preprocessing."}
"""What the verbs give that use no checkpoint."""

Write = Callable[[OutputFolder], None]


@dataclass
class Job:
    """A request on its way through ``engine``. out_dir: where the files will lie when all is done."""

    engine: Engine
    request: AnyRequest
    out_dir: Path
    progress: Progress
    cancel: Cancel
    timings: Timings = field(default_factory=Timings)
    warnings: list[str] = field(default_factory=list)
    readings: tuple[Reading, ...] = ()
    effects: tuple[Effect, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def run(self, kind: str, folder: Path) -> Result:
        """Do the request and write all its files into ``folder``."""
        answer: Callable[[Any], Write] = getattr(self, f"_{kind}")
        write = answer(self.request)
        self.cancel.check()
        self.progress(ANSWERED, "Writing")
        files = self._files(folder)
        with self.timings.step("write"):
            try:
                write(files)
            finally:
                files.finish()
        self.cancel.check()
        provenance = self._provenance(kind)
        write_json(folder / "provenance.json", provenance)
        return Result(kind, tuple(files.outputs), self.readings, self.effects, provenance, tuple(self.warnings))

    def _preprocess(self, request: Request) -> Write:
        preprocessed = self._prepared(request, part(self.progress, 0.0, ANSWERED))
        return lambda files: writing.write_preprocessed(files, preprocessed)

    def _examine(self, request: Request) -> Write:
        self.progress(0.1, "Reading the scan")
        with self.timings.step("read"):
            volume = Volume.load(request.input, modality=request.preprocess.modality)
        self.progress(0.3, "Looking at its stage")
        with self.timings.step("examine"):
            stage, evidence = self.engine.examine(volume, request.preprocess, sidecar=read_sidecar(request.input))
        found = {"stage": stage, "declared_stage": request.preprocess.stage, "in_words": evidence.sentence()}
        self.facts["input"] = {"file": Path(request.input).name, "sha256": _input_sha256(request.input)}
        self.facts["examined"] = {**found, "evidence": evidence.to_dict()}
        return lambda files: files.json("stage.json", "stage", self.facts["examined"])

    def _encode(self, request: Request) -> Write:
        encoded = self._encoded(request)
        return lambda files: writing.write_encoded(files, encoded)

    def _probe(self, request: Request) -> Write:
        readings = self._read(self._encoded(request))
        return lambda files: writing.write_readings(files, readings)

    def _reconstruct(self, request: Request) -> Write:
        encoded = self._encoded(request)
        with self.timings.step("reconstruct"):
            outcome = self.engine.reconstruct(encoded)
        self.facts["quality"] = {"mse_zscored_brain": outcome.mse, "psnr_db_brain": outcome.psnr_db}
        return lambda files: writing.write_reconstruction(files, outcome)

    def _counterfactual(self, request: CounterfactualRequest) -> Write:
        encoded = self._encoded(request)
        self._read(encoded)
        with self.timings.step("counterfactual"):
            outcome = self.engine.counterfactual(encoded, request, progress=self._answering(), cancel=self.cancel)
        self.effects = outcome.effects
        self.facts["conditions"] = {"source": outcome.source.known(), "target": outcome.target.known()}
        self._tell_read(outcome.read)
        if outcome.target == outcome.source:
            why = "nothing was asked" if not request.target.known() else "the scan is already read or given as that"
            self.warnings.append(f"Null edit ({why}): the counterfactual is the input itself.")
        return lambda files: writing.write_counterfactual(files, outcome)

    def _forecast(self, request: ForecastRequest) -> Write:
        encoded = self._encoded(request)
        self._read(encoded)
        with self.timings.step("forecast"):
            outcome = self.engine.forecast(encoded, request, progress=self._answering(), cancel=self.cancel)
        self.facts["conditions"] = outcome.conditions
        self._tell_read(outcome.read)
        if request.preprocess.modality != "T1":
            self.warnings.append("The forecaster was trained on T1 scans; other contrasts are an extrapolation.")
        return lambda files: writing.write_forecast(files, outcome)

    def _generate(self, request: GenerateRequest) -> Write:
        with self.timings.step("generate"):
            outcome = self.engine.generate(request, progress=part(self.progress, 0.0, ANSWERED), cancel=self.cancel)
        self.facts.update(
            conditions=request.conditions.known(), noise_scale=outcome.noise_scale,
            guidance_scale=outcome.guidance_scale, truncation=outcome.truncation,
            reweighting=list(outcome.reweighting),
        )
        return lambda files: writing.write_generated(files, outcome)

    def _prepared(self, request: Request, progress: Progress) -> Preprocessed:
        """The preprocessed scan, from memory when the last run was on the same file with the same options."""
        key = _fingerprint(request)
        preprocessed = self.engine.kept_scan(key)
        if preprocessed is None:
            options = request.preprocess
            with self.timings.step("read"):
                volume = Volume.load(request.input, modality=options.modality)
                mask = None if options.mask is None else Volume.load(options.mask)
            self.engine.parts.require(NEEDS[request_kind(request)])
            with self.timings.step("preprocess"):
                preprocessed = self.engine.preprocess(
                    volume, options, mask, sidecar=read_sidecar(request.input), progress=progress, cancel=self.cancel
                )
            self.engine.keep_scan(key, preprocessed)
        self.facts["input"] = {"file": Path(request.input).name, "sha256": json.loads(key)["input"]}
        self.facts["preprocess"] = preprocessed.record.to_dict()
        self.warnings.extend(preprocessed.record.warnings)
        return preprocessed

    def _encoded(self, request: Request) -> Encoded:
        preprocessed = self._prepared(request, part(self.progress, 0.0, PREPARED))
        self.cancel.check()
        self.progress(PREPARED, "Encoding")
        with self.timings.step("encode"):
            return self.engine.encode(preprocessed)

    def _read(self, encoded: Encoded) -> tuple[Reading, ...]:
        if not self.engine.parts.has("probes"):
            return ()
        self.readings = tuple(self.engine.probe(encoded))
        strange = next((r for r in self.readings if not r.in_distribution), None)
        if strange is not None:
            self.warnings.append(
                f"This scan does not resemble the data of the checkpoint (score {strange.ood_score:.1f}, limit 1.0): "
                "do not trust what is read, edited or forecast from it."
            )
        return self.readings

    def _tell_read(self, names: tuple[str, ...]) -> None:
        if names:
            self.facts["conditions_read_from_probes"] = list(names)
            self.warnings.append(f"Not given, so read from the scan by the probes: {', '.join(names)}.")

    def _answering(self) -> Progress:
        return part(self.progress, PREPARED, ANSWERED)

    def _files(self, folder: Path) -> OutputFolder:
        source, modality = None, "T1"
        if isinstance(self.request, Request):
            source, modality = self.request.input, self.request.preprocess.modality
        elif self.request.conditions.modality:
            modality = self.request.conditions.modality
        name = "sub-synthetic" if source is None else input_stem(stem(source))
        ids = ids_of(self.engine.parts, request_kind(self.request))
        facts = {
            "Sources": [Path(source).name] if source else [], "Seed": self.request.seed,
            "GeneratedBy": {"Name": "BrainG3N", "Version": __version__, "CheckpointIds": ids},
        }
        extension = extension_for(self.engine.output_format, source)
        return OutputFolder(folder, self.out_dir, name, modality, extension, facts)

    def _provenance(self, kind: str) -> dict[str, Any]:
        uses_models = kind not in WITHOUT_MODELS
        return {
            "verb": kind, "about": WITHOUT_MODELS.get(kind, SYNTHETIC), "software": software(),
            "request": request_to_dict(self.request), **self.facts,
            "checkpoint": card(self.engine.parts) if uses_models else None,
            "runtime": runtime_facts(self.engine.parts) if uses_models else None,
            "seed": self.request.seed, "warnings": self.warnings, "seconds": self.timings.rounded(),
        }


def read_sidecar(scan: str) -> dict[str, Any]:
    """The BIDS JSON beside a scan; empty when there is none, or none that can be read."""
    path = Path(scan).with_name(f"{stem(scan)}.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _fingerprint(request: Request) -> str:
    """What the preprocessed scan depends on: contents of the files and all options."""
    options: PreprocessOptions = request.preprocess
    files = {name: path for name, path in (("mask", options.mask), ("template", options.template)) if path}
    hashes = {name: file_sha256(path) for name, path in files.items()}
    hashes["sidecar"] = json.dumps(read_sidecar(request.input).get("SkullStripped"))
    return json.dumps({"input": _input_sha256(request.input), **dataclasses.asdict(options), **hashes}, sort_keys=True)


def _input_sha256(path: str) -> str:
    try:
        return file_sha256(path)
    except OSError:
        Volume.load(path)  # says in its own words why the file cannot be read
        raise
