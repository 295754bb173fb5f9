"""A forecast as a sequence over years: the edited scans and their differences, scrolled together."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from .Jobs import Image
from .Scene import Run, addVolume, showAsDifference
from .Volumes import fillNode, slicerOrder, volumeFromNode

BASELINE = 0.0


def addTimeline(run: Run, images: list[Image], differences: list[Image], unit: str):
    """One browser with two sequences. All differences have the same limits. Returns (browser, volume, difference)."""
    browser = run.add("vtkMRMLSequenceBrowserNode", run.name("browser"))
    limit = max([image.limit for image in differences], default=1.0)
    volume = addVolume(run, "forecast", run.name(), images[-1])
    difference = addVolume(run, "difference", run.name("difference"), differences[-1])
    showAsDifference(run, difference, limit, unit)
    master = _sequence(run, "sequence", run.name("over years"))
    changes = _sequence(run, "sequence-difference", run.name("differences over years"))
    _fill(run, master, volume, [_baseline(run, images[0]), *images])
    _fill(run, changes, difference, [_nothing(differences[0]), *differences])
    for sequence, proxy in ((master, volume), (changes, difference)):
        browser.AddSynchronizedSequenceNodeID(sequence.GetID())
        browser.AddProxyNode(proxy, sequence, False)
        browser.SetSaveChanges(sequence, False)
    browser.SetPlaybackRateFps(2.0)
    browser.SetSelectedItemNumber(master.GetNumberOfDataNodes() - 1)
    run.keep("browser", browser, synthetic=True)
    return browser, volume, difference


def _sequence(run: Run, role: str, name: str):
    node = run.add("vtkMRMLSequenceNode", name)
    node.SetIndexName("time")
    node.SetIndexUnit("years")
    node.SetIndexType(slicer.vtkMRMLSequenceNode.NumericIndex)
    return run.keep(role, node, synthetic=True)


def _fill(run: Run, sequence, proxy, images: list[Image]) -> None:
    """Copies of the images at their years. The sequence copies what it is given, so that one node serves for all."""
    carrier = slicer.vtkMRMLScalarVolumeNode()
    for image in sorted(images, key=years):
        carrier.SetName(f"{proxy.GetName()} {years(image):+g} years")
        fillNode(carrier, image.array, image.affine)
        sequence.SetDataNodeAtValue(carrier, f"{years(image):g}")


def years(image: Image) -> float:
    """The image's horizon; the baseline is zero."""
    return image.output.horizon_years or BASELINE


def _baseline(run: Run, like: Image) -> Image:
    """The scan itself at year zero."""
    if run.inputNode is None:
        return _nothing(like)
    return _at_zero(like, slicerOrder(volumeFromNode(run.inputNode).array))


def _nothing(like: Image) -> Image:
    return _at_zero(like, np.zeros_like(like.array))


def _at_zero(like: Image, array: np.ndarray) -> Image:
    output: Any = type(like.output)(like.output.role, "", like.output.space, like.output.synthetic, BASELINE)
    return Image(output, array, like.affine, like.limit)
