"""The demonstration: every verb on one scan, and a report with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import DependencyError
from .progress import Cancel, Progress, part, silent
from .schema import (
    AnyRequest,
    Conditions,
    CounterfactualRequest,
    EngineProtocol,
    ForecastRequest,
    PreprocessOptions,
    PreprocessRequest,
    ProbeRequest,
    ReconstructRequest,
    Result,
)
from .volume import Volume

HORIZONS_YEARS = (1.0, 2.0, 5.0, 10.0)
ICBM_NOTE = (
    "The scan is ICBM152, the average of 152 young adults' brains: smoother than any person's, and its age, sex and "
    "diagnosis mean nothing."
)
SHARES: dict[str, float] = {
    "preprocess": 0.45, "probe": 0.5, "reconstruct": 0.54, "counterfactual": 0.66, "forecast": 0.9,
}
"""Where on the progress bar each verb ends."""


@dataclass(frozen=True)
class Demo:
    """What a demonstration made. report: path of the page; results: one per verb; notes: what to know of the scan."""

    report: Path
    results: tuple[Result, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "kind": "demo", "report": str(self.report), "notes": list(self.notes),
            "results": [r.to_dict() for r in self.results],
        }


def run_demo(
    engine: EngineProtocol, scan: str | None, out: Path, options: PreprocessOptions, seed: int = 0, *,
    progress: Progress = silent, cancel: Cancel | None = None,
) -> Demo:
    """Run every verb on ``scan`` (None: ICBM152) into ``out``; the scan is preprocessed and encoded once."""
    from .report import Report

    notes = () if scan else (ICBM_NOTE,)
    scan = scan or str(save_icbm152(out / "input"))
    results: list[Result] = []
    start = 0.0
    for verb, request in _requests(scan, options, seed).items():
        if isinstance(request, CounterfactualRequest):
            request = replace(request, target=_target(results))
        folder, share = out / verb, part(progress, start, SHARES[verb])
        results.append(engine.run(request, folder, progress=share, cancel=cancel))
        start = SHARES[verb]
    page = Report(Path(scan), options.modality, results, notes).write(out, part(progress, start, 1.0))
    return Demo(page, tuple(results), notes)


def save_icbm152(folder: Path) -> Path:
    """The ICBM152 brain that the nilearn package carries, 1 mm, skull-stripped, as a file. Raises DependencyError."""
    import numpy as np

    try:
        from nilearn.datasets import load_mni152_template
    except ImportError as error:
        raise DependencyError(
            "dependency.nilearn", f"The default scan comes from nilearn: {error}.",
            "pip install nilearn, or give a scan of your own.",
        ) from error
    image = load_mni152_template(resolution=1)
    array = np.asarray(image.dataobj, dtype=np.float32)
    volume = Volume.from_array(array, image.affine, modality="T1", name="icbm152_T1w")
    return volume.save(folder / "icbm152_T1w.nii.gz", description="ICBM152 2009, average of 152 adults (nilearn)")


def _requests(scan: str, options: PreprocessOptions, seed: int) -> dict[str, AnyRequest]:
    return {
        "preprocess": PreprocessRequest(scan, options, seed), "probe": ProbeRequest(scan, options, seed),
        "reconstruct": ReconstructRequest(scan, options, seed),
        "counterfactual": CounterfactualRequest(scan, options, seed),
        "forecast": ForecastRequest(scan, options, seed, horizons_years=HORIZONS_YEARS),
    }


def _target(results: Sequence[Result]) -> Conditions:
    """Disease AD; for a scan that reads as AD already, healthy."""
    read = {reading.task: reading.value for result in results for reading in result.readings}
    return Conditions(disease="HC" if read.get("disease") == "AD" else "AD")
