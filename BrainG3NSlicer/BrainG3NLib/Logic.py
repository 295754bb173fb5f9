"""What the module does, without a window: a scan node in, result nodes out. Knows no Qt.

``process`` does it all and waits; a panel takes the three steps apart: :meth:`prepare` and :meth:`accept` on the main
thread, :meth:`Job.run` on another::

    logic = Logic(slicer.mrmlScene, Compute(ComputeSettings(python="/path/to/python")))
    run = logic.process("counterfactual", Requests.settings(inputVolume=node, targetDisease="AD"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from braing3n_core.errors import BrainG3NError, VolumeError
from braing3n_core.progress import Cancel, Progress, silent
from braing3n_core.schema import Result
from braing3n_core.volume import Volume

from . import Requests, Scene, Tables, Timeline
from .Colours import amountColours
from .Jobs import Answer, Image, Job, jobFolder
from .Scene import UNIT, Run
from .Volumes import affineOf, checkScan, fileName, volumeFromNode
from .Worker import Compute


class Logic:
    """The verbs of the module on one scene. compute: where the model runs."""

    def __init__(self, scene, compute: Compute | None = None) -> None:
        self.scene = scene
        self.compute = compute

    def prepare(self, kind: str, parameters: Any) -> Job:
        """Copy what a run needs out of the scene. Main thread. Raises BrainG3NError when the settings make no sense."""
        node = parameters.inputVolume
        checkScan(node)
        volume = volumeFromNode(node, parameters.modality)
        mask = self._mask(parameters.maskVolume, volume)
        Requests.buildRequest(kind, parameters, "x.nrrd", "x" if mask else None)  # refuse before a folder is made
        folder = jobFolder()
        path = folder / f"{fileName(node)}.nrrd"
        maskPath = None if mask is None else str(folder / "brain_mask.nrrd")
        request = Requests.buildRequest(kind, parameters, str(path), maskPath)
        samples = int(parameters.editSamples) if kind == "counterfactual" else 1
        return Job(kind, request, volume, mask, folder, node.GetID(), samples=samples,
                   coarseFirst=bool(parameters.coarseFirst))  # fmt: skip

    def accept(self, job: Job, answer: Answer) -> Iterator[Run]:
        """Make the result nodes, a few at each step, so that a caller can let the window breathe between them.

        Main thread. Yields the run after every step; if it is closed or fails, no node of the run stays behind.
        """
        title = Requests.label(job.request) + (" coarse" if answer.coarse else "")
        run = Run(self.scene, self.scene.GetNodeByID(job.inputID), answer.result, title)
        finished = False
        try:
            for step in self._steps(job, answer, run):
                step()
                yield run
            finished = True
        finally:
            if not finished:
                run.rollBack()

    def process(
        self, kind: str, parameters: Any, *, progress: Progress = silent, cancel: Cancel | None = None
    ) -> Run:
        """All at once, waiting. Raises BrainG3NError; nothing is left behind then."""
        if kind == "examine":
            raise BrainG3NError("slicer.examine", "Looking at a scan makes no nodes.", "Call Logic.examine.")
        job, answer = self._answered(kind, parameters, progress, cancel)
        *_, run = self.accept(job, answer)
        return run

    def examine(self, parameters: Any) -> dict[str, Any]:
        """How far the scan is prepared already, waiting: stage, in_words, evidence. Raises BrainG3NError."""
        return dict(self._answered("examine", parameters, silent, None)[1].tables["stage"])

    def _answered(
        self, kind: str, parameters: Any, progress: Progress, cancel: Cancel | None
    ) -> tuple[Job, Answer]:
        if self.compute is None:
            raise BrainG3NError("slicer.compute", "No place to compute was chosen.", "Give the Logic a Compute.")
        job = self.prepare(kind, parameters)
        job.cancel = cancel or job.cancel
        return job, job.run(self.compute.engine(), progress)

    def _mask(self, node, volume: Volume) -> Volume | None:
        if node is None:
            return None
        checkScan(node, "brain mask")
        mask = volumeFromNode(node)
        if not mask.same_grid(volume):
            raise VolumeError(
                "slicer.mask_grid", f"The mask {node.GetName()} is not on the grid of the input volume.",
                "Resample it to the input's grid first (module Resample Scalar/Vector/DWI Volume).",
            )  # fmt: skip
        return volume.with_array((mask.array > 0).astype(np.float32, order="K"))

    def _steps(self, job: Job, answer: Answer, run: Run) -> Iterator[Callable[[], Any]]:
        kind = job.kind
        if kind == "preprocess":
            yield from _preprocessed(answer, run)
        elif kind == "counterfactual":
            yield from _counterfactual(answer, run)
        elif kind == "forecast":
            yield from _forecast(answer, run)
        if answer.result.readings:
            yield lambda: Tables.addTable(
                run, "readings", run.name("readings", synthetic=False), Tables.READING_COLUMNS,
                Tables.readingRows(answer.result.readings), synthetic=False,
            )  # fmt: skip
            yield lambda: Tables.addProbabilities(run, answer.result.readings)


def _preprocessed(answer: Answer, run: Run) -> Iterator[Callable[[], Any]]:
    for image in answer.images_of("preprocessed", "SRI24"):
        yield lambda i=image: Scene.addVolume(run, "preprocessed", run.name("on the atlas", False), i, synthetic=False)
    for image in answer.images_of("mask"):
        yield lambda i=image: Scene.addMask(run, "mask", run.name("brain mask", False), i)
    yield lambda: Scene.addTransform(run, "transform", run.name("to atlas", False), transformOf(answer))
    yield lambda: Tables.addTable(
        run, "quality", run.name("quality", False), Tables.QUALITY_COLUMNS, qualityRows(answer.result), synthetic=False
    )


def _counterfactual(answer: Answer, run: Run) -> Iterator[Callable[[], Any]]:
    limit = max(image.limit for each in (answer, *answer.others) for image in each.images_of("difference"))
    yield from _edited(answer, run, limit, "")
    if answer.result.effects:
        rows = Tables.effectRows(answer.result.effects, answer.result.readings)
        yield lambda: Tables.addTable(run, "effects", run.name("effects"), Tables.EFFECT_COLUMNS, rows)
    for number, other in enumerate(answer.others, start=2):
        yield from _edited(other, run, limit, f"-{number}")
    spread = answer.spread
    if spread is not None:
        yield lambda: _uncertainty(run, _on(run, spread))


def _edited(answer: Answer, run: Run, limit: float, suffix: str) -> Iterator[Callable[[], Any]]:
    """One sample: the edited scan, and its difference with limits that all samples share."""
    (edited,), (change,) = answer.images_of("counterfactual"), answer.images_of("difference")
    facts = answer.result.provenance
    words = f"sample {suffix[1:]}" if suffix else ""
    yield lambda: Scene.addVolume(run, f"counterfactual{suffix}", run.name(words), _on(run, edited), facts=facts)
    name = f"difference {words}".strip()
    yield lambda: Scene.addDifference(run, f"difference{suffix}", run.name(name), _on(run, change), limit, facts)


def _forecast(answer: Answer, run: Run) -> Iterator[Callable[[], Any]]:
    images = [_on(run, i) for i in answer.images_of("forecast")]
    changes = [_on(run, i) for i in answer.images_of("difference")]
    yield from Timeline.timelineSteps(run, images, changes, UNIT)
    for image in answer.images_of("uncertainty"):
        yield lambda i=image: _uncertainty(run, _on(run, i))
    trajectory = answer.tables.get("trajectory", {})
    for task, unit in Tables.numberTasks(trajectory):
        yield lambda t=task, u=unit: Tables.addTrajectory(run, trajectory, t, u)


def _uncertainty(run: Run, image: Image) -> None:
    node = Scene.addVolume(run, "uncertainty", run.name("uncertainty"), image)
    display = node.GetScalarVolumeDisplayNode()
    display.SetAndObserveColorNodeID(amountColours(run.scene).GetID())
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, image.limit)
    Scene.addLegend(run, node, f"Spread of the samples\n({UNIT})", "%.3g")


def _on(run: Run, image: Image) -> Image:
    """The image on exactly the input's grid: the last digits of a file's affine are the input's own."""
    if run.inputNode is None or not np.allclose(affineOf(run.inputNode), image.affine, atol=1e-3):
        return image
    return Image(image.output, image.array, affineOf(run.inputNode), image.limit)


def transformOf(answer: Answer) -> np.ndarray:
    """(4,4) native RAS mm to atlas RAS mm, from the record of preprocessing. Identity when it says none."""
    record = answer.result.provenance.get("preprocess", {})
    return np.asarray(record.get("native_to_atlas", np.eye(4)), dtype=float)


def qualityRows(result: Result) -> list[tuple[str, str]]:
    """What preprocessing decided and measured, one line each; warnings come last."""
    record = result.provenance.get("preprocess", {})
    rows = [
        ("Worked from stage", f"{record.get('stage', '?')} (asked for: {record.get('declared_stage', '?')})"),
        ("Brain found by", f"{record.get('brain_backend', '?')}: {record.get('brain_reason', '')}"),
        ("Template", str(record.get("template", "?"))),
        ("Brain voxels outside the model's grid", str(record.get("cropped_brain_voxels", "?"))),
    ]
    rows += [(Tables.taskName(name), f"{value:.4g}") for name, value in record.get("quality", {}).items()]
    return rows + [("Note", warning) for warning in result.warnings]


def saveRun(run: Run, folder: str | Path) -> list[Path]:
    """Write the native images of a run as NIfTI and its tables as TSV. Returns the files."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for role, node in run.named.items():
        stem = target / f"{fileName(run.inputNode or node)}_{role}"
        if node.IsA("vtkMRMLScalarVolumeNode"):
            text = "SYNTHETIC, BrainG3N" if node.GetAttribute(Scene.PREFIX + "Synthetic") == "true" else "BrainG3N"
            written.append(volumeFromNode(node).save(f"{stem}.nii.gz", description=text))
        elif node.IsA("vtkMRMLTableNode"):
            path = Path(f"{stem}.tsv")
            path.write_text(tableText(node), encoding="utf-8")
            written.append(path)
    return written


def tableText(node) -> str:
    """A table node as TSV."""
    columns = [node.GetColumnName(c) for c in range(node.GetNumberOfColumns())]
    rows = [[node.GetCellText(r, c) for c in range(len(columns))] for r in range(node.GetNumberOfRows())]
    return Tables.tsv(columns, rows)
