"""What the example scripts share: the Logic without a window, progress on the console, an exit code."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "BrainG3NSlicer"), str(ROOT)]

import slicer  # noqa: E402
from BrainG3NLib.Logic import Logic, saveRun  # noqa: E402
from BrainG3NLib.Requests import settings  # noqa: E402
from BrainG3NLib.Volumes import fillNode, slicerOrder  # noqa: E402
from BrainG3NLib.Worker import Compute, ComputeSettings  # noqa: E402

from braing3n_core.errors import BrainG3NError  # noqa: E402
from braing3n_core.volume import Volume, stem  # noqa: E402

_KEPT = []  # logics live as long as the process


def addOptions(parser):
    """The options of every script."""
    parser.add_argument("--python", default="", help="the Python that has braing3n with its models")
    parser.add_argument("--checkpoint", default="", help="folder; the embedded one when not given")
    parser.add_argument("--modality", default="T1")
    parser.add_argument("--stage", default="auto")
    parser.add_argument("--seed", type=int, default=0)


def makeLogic(options):
    """The Logic on the application's scene, or on one of its own where there is no application."""
    scene = getattr(slicer, "mrmlScene", None) or _plainScene()
    return Logic(scene, Compute(ComputeSettings(python=options.python, checkpoint=options.checkpoint)))


def _plainScene():
    """A scene whose node classes are registered, as the application's is. For slicer-core without the application."""
    scene = slicer.vtkMRMLScene()
    scene.RegisterNodeClass(slicer.vtkMRMLSubjectHierarchyNode())
    for name in ("vtkSlicerColorLogic", "vtkSlicerSequencesLogic", "vtkSlicerTablesLogic", "vtkSlicerPlotsLogic"):
        logic = getattr(slicer, name)()
        logic.SetMRMLScene(scene)
        _KEPT.append(logic)
    return scene


def doAll(logic, runs, options):
    """Do every run, save its files in a folder of its own. Returns 0, or 1 when one of them failed."""
    failed = 0
    for number, item in enumerate(runs, start=1):
        name = "-".join([stem(item.scan), *(str(v) for k, v in item.changes.items() if k.startswith("target"))])
        print(f"{number} of {len(runs)}: {name}", flush=True)
        try:
            done = logic.process(item.kind, _settings(logic, item, options), progress=_tell)
            for path in saveRun(done, options.out / name):
                print(f"  wrote {path}", flush=True)
        except BrainG3NError as error:
            failed += 1
            print(f"  error: {error}", file=sys.stderr, flush=True)
        logic.scene.Clear(0)
    logic.compute.stop()
    return 1 if failed or not runs else 0


def _settings(logic, item, options):
    volume = Volume.load(item.scan, options.modality)
    node = logic.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", volume.name)
    fillNode(node, slicerOrder(volume.array), volume.affine)
    shared = {"inputVolume": node, "modality": options.modality, "stage": options.stage, "seed": options.seed}
    return settings(**{**shared, **item.changes})


def _tell(fraction, message):
    print(f"  {fraction:4.0%}  {message}", flush=True)


def leave(code):
    """End Slicer, or this process, with an exit code."""
    if hasattr(slicer, "app"):
        slicer.util.exit(code)
    sys.exit(code)
