"""What a user can set in the panels. It is saved in the scene; what belongs to the computer is not (see Settings).

A word of a condition is ``""`` for "as it is" or "read from the scan"; an age of 0 means the same.
"""

from typing import Annotated

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class BrainG3NParameters:
    """All fields have defaults with which every panel can run once a volume is chosen."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    maskVolume: slicer.vtkMRMLLabelMapVolumeNode
    modality: str = "T1"
    stage: str = "auto"
    brain: str = "auto"
    correctBias: bool = True
    targetDisease: str = ""
    targetSex: str = ""
    targetAge: Annotated[float, WithinRange(0.0, 98.0)] = 0.0
    targetModality: str = ""
    targetSite: str = ""
    targetIdh1: str = ""
    guidance: Annotated[float, WithinRange(0.0, 10.0)] = 1.5
    strength: Annotated[float, WithinRange(0.0, 1.0)] = 1.0
    editMethod: str = "flowedit"
    editSampler: str = "euler"
    editSteps: Annotated[int, WithinRange(1, 200)] = 12
    editRendering: str = "residual"
    editSamples: Annotated[int, WithinRange(1, 16)] = 1
    coarseFirst: bool = True
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    knownAge: Annotated[float, WithinRange(0.0, 98.0)] = 0.0
    knownSex: str = ""
    knownDisease: str = ""
    knownCdr: str = ""
    horizons: str = "1, 2, 5"
    samples: Annotated[int, WithinRange(1, 64)] = 8
    forecastGuidance: Annotated[float, WithinRange(0.0, 10.0)] = 1.0
    forecastSampler: str = "ab2"
    forecastSteps: Annotated[int, WithinRange(1, 200)] = 6
    forecastRendering: str = "residual"
    uncertainty: bool = True
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.7
