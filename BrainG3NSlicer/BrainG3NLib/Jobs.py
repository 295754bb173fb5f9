"""One run of the engine, away from the main thread.

A job is made on the main thread from copies of the volumes; its thread knows no MRML and no Qt. What happens comes back
through a queue that the main thread empties when it likes (in Slicer: a QTimer).
"""

from __future__ import annotations

import json
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from braing3n_core.errors import BrainG3NError, Cancelled
from braing3n_core.progress import Cancel, Progress
from braing3n_core.schema import AnyRequest, CounterfactualRequest, EngineProtocol, ForecastRequest, Output, Result
from braing3n_core.volume import Volume

from .Volumes import slicerOrder


@dataclass(frozen=True)
class Image:
    """An image of a result, ready for MRML. array: (K,J,I) float32 contiguous. limit: largest magnitude shown."""

    output: Output
    array: np.ndarray
    affine: np.ndarray
    limit: float


@dataclass(frozen=True)
class Answer:
    """What a job found: the result, its images, its tables that are JSON files, and its further samples.

    spread: standard deviation of the samples of a counterfactual, voxel by voxel. coarse: made with few steps.
    """

    result: Result
    images: tuple[Image, ...]
    tables: dict[str, Any]
    others: tuple[Answer, ...] = ()
    spread: Image | None = None
    coarse: bool = False

    def images_of(self, role: str, space: str = "native") -> list[Image]:
        """Images by role and space, in the order of their horizons."""
        found = [i for i in self.images if i.output.role == role and i.output.space == space]
        return sorted(found, key=lambda image: image.output.horizon_years or 0.0)


COARSE_STEPS = 2
"""Of the integrator for the first answer. More are closer to the full answer, and later."""
COARSE_SHARE = 0.3
"""Of the progress bar: the first answer also reads and prepares the scan, which the full one need not do again."""


@dataclass
class Job:
    """A request with the scan that it is about.

    kind: the verb. request: its ``input`` is ``folder / <name>.nrrd``, which :meth:`run` writes. inputID: MRML id.
    samples: of a counterfactual, each with the next seed. coarseFirst: show an answer of few steps before the full one.
    """

    kind: str
    request: AnyRequest
    volume: Volume
    mask: Volume | None
    folder: Path
    inputID: str
    space: str = "native"
    samples: int = 1
    coarseFirst: bool = False
    cancel: Cancel = field(default_factory=Cancel)

    def run(
        self, engine: EngineProtocol, progress: Progress, preview: Callable[[Answer], Any] | None = None
    ) -> Answer:
        """Write the scan, ask the engine, read what it wrote. The folder is gone afterwards. Raises BrainG3NError.

        preview: called with the coarse answer, if one is wanted and the verb has one.
        """
        try:
            self._write()
            coarse = coarsened(self.request) if preview is not None and self.coarseFirst else None
            share = Shares(progress, self.samples, COARSE_SHARE if coarse is not None else 0.0)
            if coarse is not None and preview is not None:
                preview(replace(self._ask(engine, coarse, "coarse", share.ofCoarse), coarse=True))
            first, *others = [
                self._ask(engine, request, f"sample{n}", share.of(n)) for n, request in enumerate(self._requests())
            ]
            return replace(first, others=tuple(others), spread=spread([first, *others]))
        except OSError as error:
            raise _noFolder(self.folder, error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the folder; for a job that is not run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _requests(self) -> list[AnyRequest]:
        if not isinstance(self.request, CounterfactualRequest):
            return [self.request]
        return [replace(self.request, seed=self.request.seed + n) for n in range(self.samples)]

    def _ask(self, engine: EngineProtocol, request: AnyRequest, name: str, progress: Progress) -> Answer:
        result = engine.run(request, self.folder / name, progress=progress, cancel=self.cancel)
        self.cancel.check()
        return self._read(result)

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.volume.save(self.request.input)  # NRRD keeps the affine to the last digit
        if self.mask is not None:
            self.mask.save(self.request.preprocess.mask, dtype="uint8")

    def _read(self, result: Result) -> Answer:
        images, tables = [], {}
        for output in result.outputs:
            wanted = output.space == self.space or output.role == "preprocessed"
            if output.path.endswith(".nrrd") and wanted:
                images.append(_image(output))
            elif output.path.endswith(".json"):
                tables[output.role] = json.loads(Path(output.path).read_text(encoding="utf-8"))
        return Answer(result, tuple(images), tables)


@dataclass(frozen=True)
class Shares:
    """The progress of a coarse answer and several samples as one that never goes back. coarse: its share, 0..1."""

    whole: Progress
    count: int
    coarse: float = 0.0

    def ofCoarse(self, fraction: float, message: str) -> None:
        """The progress of the coarse answer, which comes first."""
        self.whole(self.coarse * fraction, message)

    def of(self, number: int) -> Progress:
        """The progress of one sample."""
        words = f" (sample {number + 1} of {self.count})" if self.count > 1 else ""
        rest = (1.0 - self.coarse) / self.count
        return lambda fraction, message: self.whole(self.coarse + rest * (number + fraction), message + words)


def coarsened(request: AnyRequest) -> AnyRequest | None:
    """The same question with few steps, of a forecast one sample at the furthest horizon; None where none are asked."""
    if isinstance(request, CounterfactualRequest) and request.num_steps > COARSE_STEPS:
        return replace(request, num_steps=COARSE_STEPS)
    if isinstance(request, ForecastRequest) and request.num_steps > COARSE_STEPS:
        furthest = max(request.horizons_years, key=abs)
        return replace(request, num_steps=COARSE_STEPS, samples=1, uncertainty=False, horizons_years=(furthest,))
    return None


def spread(answers: list[Answer]) -> Image | None:
    """How much the edited scans of several samples differ, voxel by voxel; None for one sample."""
    edited = [answer.images_of("counterfactual")[0] for answer in answers if answer.images_of("counterfactual")]
    if len(edited) < 2:
        return None
    deviation = np.std([image.array for image in edited], axis=0, ddof=1, dtype=np.float32)
    output = replace(edited[0].output, role="uncertainty", path="")
    return Image(output, deviation, edited[0].affine, _limit(deviation))


def _image(output: Output) -> Image:
    volume = Volume.load(output.path, allow_constant=True)
    return Image(output, slicerOrder(volume.array), volume.affine, _limit(volume.array))


def _limit(array: np.ndarray) -> float:
    size = np.abs(array[array != 0])
    return float(np.percentile(size, 99.5)) if size.size else 1.0


def jobFolder() -> Path:
    """A new folder for a job's files, only for this user. Raises BrainG3NError."""
    try:
        return Path(tempfile.mkdtemp(prefix="BrainG3N-"))
    except OSError as error:
        raise _noFolder(Path(tempfile.gettempdir()), error) from error


def _noFolder(folder: Path, error: OSError) -> BrainG3NError:
    return BrainG3NError(
        "slicer.disk", f"The folder {folder} cannot be used: {error.strerror or error}.",
        "Free some space, or choose another temporary folder in Slicer's settings.",
    )  # fmt: skip


@dataclass(frozen=True)
class Event:
    """What a runner reports. kind: ``progress``, ``preview``, ``done``, ``failed`` or ``cancelled``."""

    kind: str
    fraction: float = 0.0
    message: str = ""
    value: Any = None


ENDS = ("done", "failed", "cancelled")


class Runner:
    """Does one task at a time in a thread and hands its events over in order."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._cancel: Cancel | None = None
        self._generation = 0

    @property
    def busy(self) -> bool:
        """Whether a task is under way whose end was not yet abandoned."""
        return self._cancel is not None

    def start(self, task: Callable[[Callable[[Event], None]], Any], cancel: Cancel) -> None:
        """Begin; ``task(tell)`` runs in the thread and tells events. Raises BrainG3NError when one runs already."""
        if self.busy:
            raise BrainG3NError("slicer.busy", "A run is already under way.", "Wait for it, or press Cancel.")
        self._generation += 1
        self._cancel = cancel
        events = self._events = queue.SimpleQueue()
        self._thread = threading.Thread(target=_do, args=(task, events), name="BrainG3N", daemon=True)
        self._thread.start()

    def poll(self) -> list[Event]:
        """The events since the last call; never waits."""
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        if any(event.kind in ENDS for event in found):
            self._cancel = None
        return found

    def cancel(self) -> None:
        """Ask the task to stop; a ``cancelled`` event follows. Never waits."""
        if self._cancel is not None:
            self._cancel.cancel()

    def abandon(self, seconds: float = 0.0) -> None:
        """Cancel and drop whatever still comes, as when the scene or the application closes."""
        self.cancel()
        self._cancel, self._events = None, queue.SimpleQueue()
        if self._thread is not None and seconds:
            self._thread.join(seconds)


def progressInto(tell: Callable[[Event], None]) -> Progress:
    """A progress that tells events."""
    return lambda fraction, message: tell(Event("progress", fraction, message))


def _do(task: Callable[[Callable[[Event], None]], Any], events: queue.SimpleQueue) -> None:
    try:
        value = task(events.put)
    except Cancelled:
        events.put(Event("cancelled"))
    except BrainG3NError as error:
        events.put(Event("failed", message=str(error), value=error))
    except Exception as error:  # noqa: BLE001  a thread has nobody above it: the panel must hear of everything
        wrapped = BrainG3NError(
            "slicer.unexpected", f"Something unforeseen happened ({type(error).__name__}: {error}).",
            "Please report it with the text of Slicer's error log.",
        )  # fmt: skip
        events.put(Event("failed", message=str(wrapped), value=wrapped))
    else:
        events.put(Event("done", 1.0, "Done", value))


class TimeLeft:
    """Seconds left, judged from the fraction done since the start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()

    def text(self, fraction: float) -> str:
        """``12 s left``, or nothing while it is too early to say."""
        elapsed = self._clock() - self._start
        if fraction < 0.05 or elapsed < 1.0:
            return ""
        seconds = elapsed * (1.0 - fraction) / fraction
        return f"{seconds:.0f} s left" if seconds < 90 else f"{seconds / 60:.0f} min left"
