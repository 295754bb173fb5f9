"""How long the main thread of the Slicer module is held during a real run, with a scan of 20 MB.

    python -m benchmarks.slicer_responsiveness [VERB]

Prints, for each kind of work of the main thread, how often it was done, and the longest in wall time and in time of
this thread alone (which does not count waiting for a busy processor).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "BrainG3NSlicer")]

import numpy as np  # noqa: E402

LIMIT_MS = 100.0


class Watch:
    """Measures calls by name."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[float, float]]] = {}

    def around(self, owner: Any, name: str) -> None:
        """Measure a method of an object from now on."""
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
        """Print the longest of each."""
        for name, spent in self.calls.items():
            wall, own = (1000.0 * max(column) for column in zip(*spent, strict=True))
            held = "" if own <= LIMIT_MS else f"  more than {LIMIT_MS:g} ms"
            print(f"{name:18} {len(spent):5} times, longest {wall:7.1f} ms wall, {own:7.1f} ms own{held}")


def scan(scene: Any) -> Any:
    """The ICBM152 brain on a grid of 20 MB in float32, as a volume node."""
    from BrainG3NLib.Volumes import fillNode, slicerOrder

    from braing3n_core.preprocess.template import load_template
    from Testing.slicer.conftest import addVolume

    volume = load_template().volume
    whole = slicerOrder(np.asarray(volume.array, np.float32))[:, 30:210, 30:210]
    affine = volume.affine.copy()
    affine[:3, 3] = (volume.affine @ [30.0, 30.0, 0.0, 1.0])[:3]
    print(f"scan of {whole.nbytes / 1e6:.0f} MB")
    return addVolume(scene, "Head", np.ascontiguousarray(whole), affine, fillNode)


def main(verb: str = "counterfactual") -> None:
    """Run a verb from its button, with the embedded checkpoint."""
    from Testing.slicer.harness.application import Slicer

    app, watch = Slicer(), Watch()
    ui, panels = app.open().ui, app.widget.panels
    ui.inputSelector.setCurrentNode(scan(app.mrml.scene))
    ui.pythonPath.currentPath = os.environ.get("BRAING3N_PYTHON", sys.executable)
    for box, value in ((ui.stageBox, "registered"), (ui.brainBox, "none"), (ui.targetDiseaseBox, "AD")):
        box.currentIndex = box.findData(value)
    ui.correctBiasBox.checked = False
    for name in ("apply", "_showOneStep", "_sketchOneStep", "_happened"):
        watch.around(panels, name)
    panels.apply(verb)
    app.wait(lambda: not panels.isRunning(), 3600)
    print(ui.messageLabel.text)
    watch.report()
    app.close()


if __name__ == "__main__":
    main(*sys.argv[1:2])
