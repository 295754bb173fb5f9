"""A forecast as a sequence over years: the edited scans and their differences, scrolled together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import slicer

from braing3n_core.schema import Output

from .Jobs import Image
from .Scene import Run, addVolume, showAsDifference
from .Volumes import fillNode

BASELINE = 0.0


def timelineSteps(run: Run, images: list[Image], differences: list[Image], unit: str) -> Iterator[Callable[[], Any]]:
    """Make one browser with two sequences, a volume a step. All differences have the same limits."""
    limit = max(image.limit for image in differences)
    yield lambda: addVolume(run, "forecast", run.name(), images[-1])
    yield lambda: addVolume(run, "difference", run.name("difference"), differences[-1])
    yield lambda: showAsDifference(run, run.named["difference"], limit, unit)
    yield lambda: _sequence(run, "sequence", run.name("over years"))
    yield lambda: _sequence(run, "sequence-difference", run.name("differences over years"))
    for image in sorted([*images, _today(images[0])], key=years):
        yield lambda i=image: _put(run, "sequence", "forecast", i)
    for image in sorted([*differences, _today(differences[0])], key=years):
        yield lambda i=image: _put(run, "sequence-difference", "difference", i)
    yield lambda: _browse(run)


def _browse(run: Run) -> None:
    """The browser that plays both sequences; the nodes made first are what it moves."""
    browser = run.add("vtkMRMLSequenceBrowserNode", run.name("browser"))
    modifying = browser.StartModify()  # Slicer makes a node of its own for a sequence that it sees without one
    for sequence, proxy in (("sequence", "forecast"), ("sequence-difference", "difference")):
        browser.AddSynchronizedSequenceNodeID(run.named[sequence].GetID())
        browser.AddProxyNode(run.named[proxy], run.named[sequence], False)
        browser.SetSaveChanges(run.named[sequence], False)
    browser.SetPlaybackRateFps(2.0)
    browser.SetSelectedItemNumber(run.named["sequence"].GetNumberOfDataNodes() - 1)
    run.keep("browser", browser, synthetic=True)
    browser.EndModify(modifying)


def _sequence(run: Run, role: str, name: str):
    node = run.add("vtkMRMLSequenceNode", name)
    node.SetIndexName("time")
    node.SetIndexUnit("years")
    node.SetIndexType(slicer.vtkMRMLSequenceNode.NumericIndex)
    return run.keep(role, node, synthetic=True)


def _put(run: Run, sequence: str, proxy: str, image: Image) -> None:
    """A copy of the image at its year."""
    carrier = slicer.vtkMRMLScalarVolumeNode()
    carrier.SetName(f"{run.named[proxy].GetName()} {years(image):+g} years")
    for name in run.named[proxy].GetAttributeNames():  # what is shown takes over the attributes of what it shows
        carrier.SetAttribute(name, run.named[proxy].GetAttribute(name))
    if years(image) != BASELINE:
        fillNode(carrier, image.array, image.affine)
    elif proxy == "forecast" and run.inputNode is not None:  # nothing was forecast for today: it is the scan itself
        fillNode(carrier, slicer.util.arrayFromVolume(run.inputNode), image.affine)
    else:
        fillNode(carrier, np.zeros(image.array.shape, np.uint8), image.affine)
    run.named[sequence].SetDataNodeAtValue(carrier, f"{years(image):g}")


def years(image: Image) -> float:
    """The image's horizon; the baseline is zero."""
    return image.output.horizon_years or BASELINE


def _today(like: Image) -> Image:
    """The place of year zero, of which the engine makes no image."""
    output = Output(like.output.role, "", like.output.space, like.output.synthetic, BASELINE)
    return Image(output, like.array, like.affine, like.limit)
