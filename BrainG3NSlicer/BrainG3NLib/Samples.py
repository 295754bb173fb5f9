"""Sample data: the ICBM152 brain that the nilearn package carries, for a first try without a scan of one's own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import slicer

from braing3n_core.errors import DependencyError

CATEGORY, NAME, NODE = "BrainG3N", "ICBM152 T1 (average of 152 heads)", "ICBM152"
FILE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def find() -> Path:
    """The file in the nilearn of this Python. Raises DependencyError when there is none; nothing is downloaded."""
    found = importlib.util.find_spec("nilearn")
    for place in (found.submodule_search_locations or []) if found else []:
        path = Path(place) / "datasets" / "data" / FILE
        if path.is_file():
            return path
    raise DependencyError(
        "slicer.sample", "Slicer's Python has no nilearn, which carries the ICBM152 head.",
        "Press Install under Compute, or load a scan of your own.",
    )  # fmt: skip


def load(source: Any = None) -> list[Any]:
    """Load it. What a button of the Sample Data module calls, which has nobody above it to tell of an error."""
    try:
        return [slicer.util.loadVolume(str(find()), {"name": NODE})]
    except DependencyError as error:
        slicer.util.errorDisplay(str(error))
        return []


def register() -> None:
    """Show it in the Sample Data module."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY, sampleName=NAME, uris=f"file:nilearn/datasets/data/{FILE}", fileNames=FILE, nodeNames=NODE,
        customDownloader=load,
    )  # fmt: skip
