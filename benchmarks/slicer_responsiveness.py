"""How quick the Slicer module is for its user, clicked behind the stand-ins, on a real scene, with a real worker.

    BRAING3N_PYTHON=... python -m benchmarks.slicer_responsiveness

A scan of about 20 MB and the embedded checkpoint. Prints how long the panel takes to open; for each verb how long it is
to the coarse answer and to the whole one on the screen, once on a scan that nobody has preprocessed, then after
Preprocess; how long the main thread was held at most (in wall time, and in time of this thread alone, which does not
count waiting for a busy processor; of it Python's own full garbage collections); and how soon the panel is ready after
Cancel. Each click waits until the worker has nothing left to do, as a user takes longer to look.

The load of the computer is printed first and last: with other work on it wall times say little, and what says more are
the seconds of a processor that the worker spent until then (where the system tells them, on Linux).
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "BrainG3NSlicer")]

import numpy as np  # noqa: E402

LIMIT_MS, SECONDS = 100.0, 3600.0
PYTHON = os.environ.get("BRAING3N_PYTHON", sys.executable)
VERBS = {"preprocess": "preprocessButton", "counterfactual": "counterfactualButton", "forecast": "forecastButton"}


class Watch:
    """Measures calls by name: all that the main thread does for the module."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[float, float]]] = {}
        self.collections: list[float] = []
        self._began = 0.0
        gc.callbacks.append(self._collecting)

    def _collecting(self, phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        elif about["generation"] == 2:
            self.collections.append(1000.0 * (time.perf_counter() - self._began))

    def around(self, owner: Any, name: str) -> None:
        """Measure a method of a class from now on."""
        original: Callable[..., Any] = getattr(owner, name)

        def measured(*arguments: Any) -> Any:
            wall, own = time.perf_counter(), time.thread_time()
            try:
                return original(*arguments)
            finally:
                spent = (time.perf_counter() - wall, time.thread_time() - own)
                self.calls.setdefault(name, []).append(spent)

        setattr(owner, name, measured)

    def report(self) -> None:
        """Print the longest of each, then :meth:`forget`."""
        for name, spent in self.calls.items():
            wall, own = (1000.0 * max(column) for column in zip(*spent, strict=True))
            held = "" if own <= LIMIT_MS else f"  more than {LIMIT_MS:g} ms"
            print(f"  {name:14} {len(spent):5} times, longest {wall:7.1f} ms wall, {own:7.1f} ms own{held}", flush=True)
        if self.collections:
            longest = max(self.collections)
            print(f"  collections    {len(self.collections):5} times, longest {longest:7.1f} ms", flush=True)
        self.forget()

    def forget(self) -> None:
        """Begin again."""
        self.calls.clear()
        self.collections.clear()


def worker_seconds() -> float:
    """Processor time of this process's descendants that live, in seconds; 0 where there is no /proc."""
    parents, spent, ticks = {}, {}, os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        process = int(stat.parent.name)
        parents[process], spent[process] = int(fields[1]), (int(fields[11]) + int(fields[12])) / ticks
    family = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(spent[process] for process in family if process != os.getpid())


def settle(app: Any, quiet_seconds: float = 1.5) -> None:
    """Wait until the worker's processes rest: it makes ahead what the next click needs."""
    spent, since = worker_seconds(), time.perf_counter()
    while time.perf_counter() - since < quiet_seconds:
        app.turn(0.1)
        if (now := worker_seconds()) - spent > 0.05:
            spent, since = now, time.perf_counter()


class Clock:
    """Seconds since a click, at which something was on the screen: of the wall, and of the worker's processors."""

    def __init__(self, panels: Any) -> None:
        self.start, self.spent, self.seen = 0.0, 0.0, {}
        look = panels._look

        def looked(run: Any) -> None:
            look(run)
            what = "coarse" if run is panels.coarse else "whole"
            self.seen[what] = (time.perf_counter() - self.start, worker_seconds() - self.spent)

        panels._look = looked

    def click(self, button: Any) -> None:
        """Begin."""
        self.seen.clear()
        self.start, self.spent = time.perf_counter(), worker_seconds()
        button.click()

    def text(self) -> str:
        """What was seen when."""
        return ", ".join(
            f"{what} answer after {wall:.1f} s ({own:.1f} s of a processor in the worker)"
            for what, (wall, own) in self.seen.items()
        )


def scan(scene: Any, brightest: float = 1000.0) -> Any:
    """The ICBM152 brain on the atlas grid in 16 bits, as scanners give it, as a volume node."""
    from BrainG3NLib.Volumes import fillNode, slicerOrder

    from braing3n_core.volume import Volume
    from Testing.slicer.conftest import addVolume
    from Testing.slicer.harness.template import writeTemplate

    with tempfile.TemporaryDirectory() as folder:
        volume = Volume.load(writeTemplate(PYTHON, Path(folder) / "template.nrrd"))
    whole = slicerOrder((brightest * volume.array / volume.array.max()).astype(np.int16))
    print(f"A scan of {whole.nbytes / 1e6:.0f} MB; each of its results has {2 * whole.nbytes / 1e6:.0f} MB.")
    return addVolume(scene, "Head", whole, volume.affine, fillNode)


def opened() -> Any:
    """An application with the module's panel open. The first time the module is imported too, as by Slicer."""
    from Testing.slicer.harness.application import Slicer

    app = Slicer()
    wall, own = time.perf_counter(), time.thread_time()
    app.open()
    print(f"Open: {time.perf_counter() - wall:.2f} s wall, {time.thread_time() - own:.2f} s own.", flush=True)
    return app


def choose(ui: Any) -> None:
    """A scan that is on the atlas, an edit and four horizons."""
    for box, value in ((ui.stageBox, "registered"), (ui.brainBox, "none"), (ui.targetDiseaseBox, "AD")):
        box.currentIndex = box.findData(value)
    ui.pythonPath.currentPath, ui.correctBiasBox.checked, ui.coarseBox.checked = PYTHON, False, True
    ui.horizonsEdit.text, ui.samplesBox.value = "1, 2, 3, 5", 8


def cancelled(app: Any) -> None:
    """How soon the panel is ready after Cancel, in the middle of a forecast."""
    ui, panels = app.widget.ui, app.widget.panels
    before = app.mrml.nodes()
    ui.forecastButton.click()
    app.turn(2.0)
    start = time.perf_counter()
    ui.forecastButton.click()
    app.wait(lambda: not panels.isRunning(), SECONDS)
    left = len(set(app.mrml.nodes()) - set(before))
    print(f"Cancel: ready after {time.perf_counter() - start:.2f} s, {left} nodes left behind.", flush=True)


def load() -> str:
    """Of the last minute."""
    return f"Load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors."


def main() -> None:
    """All of it."""
    print(load())
    opened().close()
    watch = Watch()
    for name in ("apply", "pump"):
        watch.around(sys.modules["BrainG3NLib.Widget"].Panels, name)
    app = opened()
    ui, panels = app.widget.ui, app.widget.panels
    ui.inputSelector.setCurrentNode(scan(app.mrml.scene))
    choose(ui)
    ui.testButton.click()
    app.wait(lambda: "Asking" not in ui.computeStatus.text, SECONDS)  # a warm worker
    clock = Clock(panels)
    for words, verb in (
        ("of a scan not preprocessed", "counterfactual"), ("again", "counterfactual"), ("", "preprocess"),
        ("after Preprocess", "counterfactual"), ("", "forecast"),
    ):
        if verb == "preprocess":  # another scan than before, for the worker
            ui.inputSelector.setCurrentNode(scan(app.mrml.scene, brightest=900.0))
        settle(app)
        watch.forget()
        clock.click(getattr(ui, VERBS[verb]))
        app.wait(lambda: not panels.isRunning(), SECONDS)
        print(f"{f'{verb.capitalize()} {words}'.strip()}: {clock.text() or ui.messageLabel.text}", flush=True)
        watch.report()
    cancelled(app)
    app.close()
    print(load())


if __name__ == "__main__":
    main()
