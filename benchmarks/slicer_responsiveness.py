"""How quick the Slicer module is for its user, clicked behind the stand-ins, on a real scene, with a real worker.

    BRAING3N_PYTHON=... python -m benchmarks.slicer_responsiveness

A scan of about 20 MB and the embedded checkpoint. Prints how long the panel takes to open; for each verb how long it is
to the coarse answer and to the whole one on the screen, and how long the main thread was held at most (in wall time,
and in time of this thread alone, which does not count waiting for a busy processor); and how soon the panel is ready
after Cancel. The load of the computer is printed first and last: with other work on it wall times say little.
"""

from __future__ import annotations

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
VERBS = {"counterfactual": "counterfactualButton", "forecast": "forecastButton"}


class Watch:
    """Measures calls by name: all that the main thread does for the module."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[float, float]]] = {}

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
        """Print the longest of each, and begin again."""
        for name, spent in self.calls.items():
            wall, own = (1000.0 * max(column) for column in zip(*spent, strict=True))
            held = "" if own <= LIMIT_MS else f"  more than {LIMIT_MS:g} ms"
            print(f"  {name:14} {len(spent):5} times, longest {wall:7.1f} ms wall, {own:7.1f} ms own{held}", flush=True)
        self.calls.clear()


class Clock:
    """Seconds since a click, at which something was on the screen."""

    def __init__(self, panels: Any) -> None:
        self.start, self.seen = time.perf_counter(), {}
        look = panels._look

        def looked(run: Any) -> None:
            look(run)
            self.seen["coarse" if run is panels.coarse else "whole"] = time.perf_counter() - self.start

        panels._look = looked

    def click(self, button: Any) -> None:
        """Begin."""
        self.seen.clear()
        self.start = time.perf_counter()
        button.click()


def scan(scene: Any) -> Any:
    """The ICBM152 brain on the atlas grid in 16 bits, as scanners give it, as a volume node."""
    from BrainG3NLib.Volumes import fillNode, slicerOrder

    from braing3n_core.volume import Volume
    from Testing.slicer.conftest import addVolume
    from Testing.slicer.harness.template import writeTemplate

    with tempfile.TemporaryDirectory() as folder:
        volume = Volume.load(writeTemplate(PYTHON, Path(folder) / "template.nrrd"))
    whole = slicerOrder((1000.0 * volume.array / volume.array.max()).astype(np.int16))
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
    watch.calls.clear()
    for words, verb in (("first", "counterfactual"), ("again", "counterfactual"), ("first", "forecast")):
        clock.click(getattr(ui, VERBS[verb]))
        app.wait(lambda: not panels.isRunning(), SECONDS)
        seen = ", ".join(f"{what} answer after {seconds:.1f} s" for what, seconds in clock.seen.items())
        print(f"{verb.capitalize()}, {words} time: {seen or ui.messageLabel.text}", flush=True)
        watch.report()
    cancelled(app)
    app.close()
    print(load())


if __name__ == "__main__":
    main()
