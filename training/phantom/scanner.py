"""From tissue to signal: the contrast of each modality, then blur, bias field and noise of the site.

Legend: X Y Z voxels of the model grid, N voxels inside the brain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from braing3n_core.atlas import MODEL_SHAPE
from braing3n_core.schema import MODALITIES

from .anatomy import T1_MEANS
from .subjects import Subject
from .tissue import Tissue
from .warp import smooth_noise, stream

if TYPE_CHECKING:
    import torch

# grey, white, fluid, factor of the T1 texture, white-matter lesion, tumour core, rim (before enhancement), oedema
CONTRASTS: dict[str, tuple[float, ...]] = {
    "T1": (*T1_MEANS, 1.0, 58.0, 40.0, 52.0, 55.0),
    "T1C": (59.0, 76.0, 27.0, 0.9, 59.0, 42.0, 54.0, 56.0),
    "T2": (60.0, 42.0, 108.0, -0.55, 66.0, 96.0, 72.0, 84.0),
    "FLAIR": (64.0, 51.0, 16.0, -0.30, 88.0, 50.0, 78.0, 90.0),
}


def scan(tissue: Tissue, subject: Subject, visit: int, modality: str) -> np.ndarray:
    """Contrast, blur, bias field and noise of one modality, float32 (X,Y,Z)."""
    import torch

    site, rng, inside = subject.site, stream(subject, 5, visit, MODALITIES.index(modality)), tissue.brain.inside
    signal = _signal(tissue, subject, modality, rng)
    if site.blur > 0:
        volume = torch.full(MODEL_SHAPE, CONTRASTS[modality][2])
        volume[inside] = signal
        signal = _blur(volume, site.blur)[inside]
    bias = tissue.brain.lift(1 + site.bias * smooth_noise(rng, 1, (5, 5, 5)))[0]
    values, noise = (signal * bias).numpy(), site.noise * CONTRASTS["T1"][1]
    real, imaginary = noise * rng.standard_normal((2, values.size), dtype=np.float32)
    out = np.zeros(MODEL_SHAPE, np.float32)
    out[inside.numpy()] = np.maximum(np.hypot(values + real, imaginary) * site.gain, 0.01)
    return out


def _signal(tissue: Tissue, subject: Subject, modality: str, rng: np.random.Generator) -> torch.Tensor:
    import torch

    grey, white, fluid, texture, wmh, core, rim, oedema = CONTRASTS[modality]
    own = 1 + 0.012 * rng.standard_normal(3)
    middle = (grey + white) / 2
    less = 1 - 0.22 * min(max(tissue.contrast, -0.3), 1.2)
    grey, white = middle + (grey - middle) * less, middle + (white - middle) * less
    tissue_means = np.array([grey, white, fluid]) * subject.site.tissue * own
    means = dict(zip(("grey", "white", "fluid"), tissue_means, strict=True))
    if modality == "T1C":
        rim += 62 * tissue.enhancement
    if modality == "FLAIR":
        rim -= 45 * tissue.mismatch
    means |= {"wmh": wmh, "core": core, "rim": rim, "oedema": oedema}
    signal = tissue.residual * texture
    for name, share in tissue.shares.items():
        signal = signal + share * float(means[name])
    if modality == "T1C":
        vessels, common = tissue.brain.lift(torch.stack([_vessels(subject), tissue.enhancing]))
        signal = signal + 45 * vessels * tissue.sulci + 55 * common * tissue.shares["fluid"]
    if modality in ("T2", "FLAIR") and tissue.nigra is not None:
        signal = signal + 8 * tissue.nigra
    return signal.clamp_(min=0)


def _blur(volume: torch.Tensor, weight: float) -> torch.Tensor:
    """A 3-tap blur along each axis."""
    for axis in range(3):
        n = volume.shape[axis]
        out = volume * (1 - 2 * weight)
        out.narrow(axis, 1, n - 1).add_(volume.narrow(axis, 0, n - 1), alpha=weight)
        out.narrow(axis, 0, n - 1).add_(volume.narrow(axis, 1, n - 1), alpha=weight)
        volume = out
    return volume


def _vessels(subject: Subject) -> torch.Tensor:
    """Where sulcal vessels take up contrast agent, (x,y,z), 0..1."""
    import torch

    return torch.sigmoid((smooth_noise(stream(subject, 4), 1, (30, 36, 30))[0] - 1.2) / 0.2)
