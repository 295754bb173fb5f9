"""What a user can set in the panels. It is saved in the scene; what belongs to the computer is not (see Settings).

A word of a condition is ``""`` for "as it is" or "read from the scan"; an age of 0 means the same. A condition's
guidance of 0 stands for the common one, of an age for none.
"""

from typing import Annotated

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from braing3n_core.checking import RANGES

from .Requests import DEFAULTS, UNKNOWN_AGE

Age = Annotated[float, WithinRange(UNKNOWN_AGE, RANGES["age_years"][1])]
Guidance = Annotated[float, WithinRange(*RANGES["guidance_scale"])]
Share = Annotated[float, WithinRange(*RANGES["strength"])]
Steps = Annotated[int, WithinRange(*RANGES["num_steps"])]


@parameterNodeWrapper
class BrainG3NParameters:
    """All fields have defaults with which every panel can run once a volume is chosen."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    maskVolume: slicer.vtkMRMLLabelMapVolumeNode
    modality: str = DEFAULTS["modality"]
    stage: str = DEFAULTS["stage"]
    brain: str = DEFAULTS["brain"]
    correctBias: bool = DEFAULTS["correctBias"]
    targetDisease: str = DEFAULTS["targetDisease"]
    targetSex: str = DEFAULTS["targetSex"]
    targetAge: Age = DEFAULTS["targetAge"]
    targetModality: str = DEFAULTS["targetModality"]
    targetSite: str = DEFAULTS["targetSite"]
    targetIdh1: str = DEFAULTS["targetIdh1"]
    guidanceDisease: Guidance = DEFAULTS["guidanceDisease"]
    guidanceSex: Guidance = DEFAULTS["guidanceSex"]
    guidanceAge: Guidance = DEFAULTS["guidanceAge"]
    guidanceModality: Guidance = DEFAULTS["guidanceModality"]
    guidanceSite: Guidance = DEFAULTS["guidanceSite"]
    guidanceIdh1: Guidance = DEFAULTS["guidanceIdh1"]
    guidance: Guidance = DEFAULTS["guidance"]
    strength: Share = DEFAULTS["strength"]
    editMethod: str = DEFAULTS["editMethod"]
    editSampler: str = DEFAULTS["editSampler"]
    editSteps: Steps = DEFAULTS["editSteps"]
    editRendering: str = DEFAULTS["editRendering"]
    editSamples: Annotated[int, WithinRange(1, 16)] = DEFAULTS["editSamples"]
    coarseFirst: bool = True
    seed: Annotated[int, WithinRange(0, 999999)] = DEFAULTS["seed"]
    knownAge: Age = DEFAULTS["knownAge"]
    knownSex: str = DEFAULTS["knownSex"]
    knownDisease: str = DEFAULTS["knownDisease"]
    knownCdr: str = DEFAULTS["knownCdr"]
    horizons: str = DEFAULTS["horizons"]
    samples: Annotated[int, WithinRange(*RANGES["samples"])] = DEFAULTS["samples"]
    forecastGuidance: Guidance = DEFAULTS["forecastGuidance"]
    forecastSampler: str = DEFAULTS["forecastSampler"]
    forecastSteps: Steps = DEFAULTS["forecastSteps"]
    forecastRendering: str = DEFAULTS["forecastRendering"]
    uncertainty: bool = DEFAULTS["uncertainty"]
    opacity: Share = 0.7
