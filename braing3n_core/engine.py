"""The engine: the place where volumes, preprocessing, models, samplers, probes and files meet.

``Engine`` implements :class:`braing3n_core.schema.EngineProtocol`. Its verbs also answer in memory, for Python users::

    engine = Engine()
    encoded = engine.encode(engine.preprocess(Volume.load("T1.nii.gz", modality="T1")))
    outcome = engine.counterfactual(encoded, CounterfactualRequest("T1.nii.gz", target=Conditions(disease="AD")))
    outcome.rendered.native.save("edited.nii.gz")

Heavy imports wait for the first use, so that a bad request is refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .calibration import Calibration
from .capabilities import describe, vocabularies_of
from .checking import check_options, check_request
from .loading import Parts
from .outputs import extension_for, staging
from .progress import Cancel, Progress, silent
from .schema import (
    AnyRequest,
    CounterfactualRequest,
    ForecastRequest,
    GenerateRequest,
    PreprocessOptions,
    Reading,
    Result,
    request_kind,
)

if TYPE_CHECKING:
    import numpy as np

    from .editing import Bench
    from .inference import Inference
    from .outcomes import Counterfactual, Encoded, Forecast, Generated, Reconstruction
    from .preprocess.pipeline import Preprocessed
    from .preprocess.stage import Evidence
    from .rendering import Renderer
    from .volume import Volume

PART_OF: dict[str, str] = {"counterfactual": "dit", "generate": "dit", "forecast": "forecaster"}
"""The part of the checkpoint whose vocabularies a verb's conditions must be in."""


class Engine:
    """One checkpoint set on one device. Not thread-safe: one run at a time.

    checkpoint: ``small`` or a folder. device: ``auto``, ``cpu``, ``cuda``. precision: ``auto``, ``float32``,
    ``bfloat16``. output_format: ``auto`` (as the input), ``nifti``, ``nrrd``. Parts load on first use. The last scan
    stays in memory, so that a second question about the same file is not preprocessed again.
    """

    def __init__(
        self, checkpoint: str | Path = "small", device: str = "auto", precision: str = "auto",
        output_format: str = "auto",
    ) -> None:
        self.parts = Parts(checkpoint, device, precision)
        extension_for(output_format, None)
        self.output_format = output_format
        self._scan: Scan | None = None

    def capabilities(self) -> dict[str, Any]:
        """All that a face needs to build its form; no weights are loaded."""
        return describe(self.parts)

    def run(
        self, request: AnyRequest, out_dir: str | Path, *, progress: Progress = silent, cancel: Cancel | None = None
    ) -> Result:
        """Do the request and write its files into ``out_dir``: all of them, or none.

        Raises BrainG3NError for what the caller can mend and Cancelled after ``cancel``.
        """
        kind = request_kind(request)
        check_request(request, vocabularies_of(self.parts, PART_OF.get(kind)))
        from .job import Job

        with staging(out_dir) as folder:
            result = Job(self, request, Path(out_dir), progress, cancel or Cancel()).run(kind, folder)
        progress(1.0, "Done")
        return result

    def preprocess(
        self, volume: Volume, options: PreprocessOptions | None = None, mask: Volume | None = None, *,
        sidecar: Mapping[str, Any] | None = None, progress: Progress = silent, cancel: Cancel | None = None,
    ) -> Preprocessed:
        """A scan of any grid onto the atlas grid. mask: its brain, in the scan's grid. sidecar: its BIDS JSON."""
        from .preprocess.pipeline import preprocess

        options = options or PreprocessOptions(modality=volume.modality or "T1")
        check_options(options)
        return preprocess(volume, options, mask=mask, sidecar=sidecar, progress=progress, cancel=cancel)

    def examine(
        self, volume: Volume, options: PreprocessOptions | None = None, *, sidecar: Mapping[str, Any] | None = None
    ) -> tuple[str, Evidence]:
        """The stage that :meth:`preprocess` would work from, and why; a declared one that cannot be is refused."""
        from .preprocess.stage import decide_stage, examine
        from .preprocess.template import load_template

        options = options or PreprocessOptions()
        check_options(options)
        evidence = examine(volume, load_template(options.template).mask, sidecar)
        return decide_stage(options.stage, evidence, mask_given=options.mask is not None), evidence

    def encode(self, preprocessed: Preprocessed) -> Encoded:
        """Tokens (1200,D), embedding (D,) and latents (1200,C) of a preprocessed scan."""
        scan = self._scan_of(preprocessed)
        if scan.encoded is None:
            scan.encoded = self._encode(preprocessed)
        return scan.encoded

    def probe(self, encoded: Encoded) -> list[Reading]:
        """What the probes read, each with its interval or probabilities, its quality, and whether to trust it."""
        modality = encoded.preprocessed.volume.modality
        return self.parts.probes.read(encoded.latents, encoded.embedding, modality)

    def reconstruct(self, encoded: Encoded) -> Reconstruction:
        """The scan decoded from its own latents: what the tokenizer keeps."""
        from .drawing import reconstruct

        scan = self._scan_of(encoded.preprocessed, encoded)
        return reconstruct(encoded, scan.decoded(self._inference), scan.renderer)

    def counterfactual(
        self, encoded: Encoded, request: CounterfactualRequest, *, progress: Progress = silent,
        cancel: Cancel | None = None,
    ) -> Counterfactual:
        """The same scan under other conditions (FlowEdit); ``request.input`` is not read."""
        from .editing import counterfactual

        known = vocabularies_of(self.parts, "dit")
        check_request(request, known)
        return counterfactual(self._bench(encoded, progress, cancel), request, known)

    def forecast(
        self, encoded: Encoded, request: ForecastRequest, *, progress: Progress = silent, cancel: Cancel | None = None
    ) -> Forecast:
        """The same scan at other times, an ensemble per horizon; ``request.input`` is not read."""
        from .editing import forecast

        known = vocabularies_of(self.parts, "forecaster")
        check_request(request, known)
        calibration = Calibration.of(self.parts.checkpoint("forecaster").metrics)
        return forecast(self._bench(encoded, progress, cancel), request, known, calibration)

    def generate(
        self, request: GenerateRequest, *, progress: Progress = silent, cancel: Cancel | None = None
    ) -> Generated:
        """New brains from noise under ``request.conditions``, on the atlas grid."""
        from .drawing import generate

        check_request(request, vocabularies_of(self.parts, "dit"))
        return generate(self._inference, request, progress, cancel)

    def kept_scan(self, key: str) -> Preprocessed | None:
        """The scan of the last run, if its files and options were these."""
        return self._scan.preprocessed if self._scan is not None and self._scan.key == key else None

    def keep_scan(self, key: str, preprocessed: Preprocessed) -> None:
        """Keep a preprocessed scan for the next run on the same file."""
        self._scan = Scan(preprocessed, key)

    def forget_scan(self) -> None:
        """Let go of the last scan and all that was made from it."""
        self._scan = None

    def ahead(self) -> Iterator[Callable[[], object]]:
        """What the next run would wait for, in pieces that a caller with time to spare may call one by one.

        Template and networks, then what follows from the kept scan alone. A piece whose work is done costs nothing;
        one may raise what the run itself would raise. The answers are the same with them or without.
        """
        from .preprocess.template import load_template

        yield load_template
        for kind in self.parts.kinds:
            yield partial(getattr, self.parts, kind)
        scan = self._scan
        if scan is not None:
            yield lambda: self.encode(scan.preprocessed)
            yield lambda: scan.decoded(self._inference)
            yield lambda: scan.renderer.prepare()

    @cached_property
    def _inference(self) -> Inference:
        from .inference import Inference

        return Inference(self.parts)

    def _encode(self, preprocessed: Preprocessed) -> Encoded:
        from .outcomes import Encoded
        from .preprocess.intensity import to_model

        array, normalisation = to_model(preprocessed.volume.array)
        tokens, latents = self._inference.encode(array)
        return Encoded(preprocessed, tokens, tokens.mean(axis=0), latents, normalisation)

    def _scan_of(self, preprocessed: Preprocessed, encoded: Encoded | None = None) -> Scan:
        if self._scan is None or self._scan.preprocessed is not preprocessed:
            self._scan = Scan(preprocessed)
        if encoded is not None:
            self._scan.encoded = encoded
        return self._scan

    def _bench(self, encoded: Encoded, progress: Progress, cancel: Cancel | None) -> Bench:
        from .editing import Bench
        from .probes import ProbePanel

        scan = self._scan_of(encoded.preprocessed, encoded)
        panel = self.parts.probes if self.parts.has("probes") else ProbePanel(())
        return Bench(self._inference, panel, encoded, scan.renderer, scan.decoded(self._inference), progress, cancel)


class Scan:
    """A preprocessed scan and what follows from it alone, each made once: encoding, renderer, decoded latents."""

    def __init__(self, preprocessed: Preprocessed, key: str | None = None) -> None:
        self.preprocessed, self.key = preprocessed, key
        self.encoded: Encoded | None = None
        self._decoded: np.ndarray | None = None

    @cached_property
    def renderer(self) -> Renderer:
        from .rendering import Renderer

        if self.encoded is None:
            raise RuntimeError("a scan is rendered only after it is encoded")
        return Renderer(self.encoded)

    def decoded(self, inference: Inference) -> np.ndarray:
        """The scan's own latents, decoded (X,Y,Z), z-scored."""
        if self.encoded is None:
            raise RuntimeError("a scan is decoded only after it is encoded")
        if self._decoded is None:
            self._decoded = inference.decode(self.encoded.latents)
        return self._decoded
