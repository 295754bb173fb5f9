"""One visit's tissue: the warped anatomy with its atrophy and lesions, and the truth measured on it.

Legend: X Y Z voxels of the model grid, x y z cells of the half grid, N voxels inside the brain, K channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .anatomy import HALF_SHAPE, REGIONS, Anatomy
from .subjects import Subject, Tumour
from .warp import positions, sample, smooth_noise, stream, upsample

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Brain:
    """The voxels inside one brain, at full (step 1) or half (step 2) resolution.

    inside: bool (X,Y,Z) or (x,y,z). Only these N voxels are computed, as flat (K,N) or (N,) tensors.
    """

    inside: torch.Tensor
    step: int

    def lift(self, field: torch.Tensor) -> torch.Tensor:
        """Half-grid maps (K,x,y,z) to (K,N), linearly."""
        return (upsample(field) if self.step == 1 else field)[:, self.inside]

    def nearest(self, field: torch.Tensor) -> torch.Tensor:
        """A smooth half-grid map (x,y,z) to (N,), without interpolation."""
        if self.step == 2:
            return field[self.inside]
        x, y, z = self.inside.nonzero(as_tuple=True)
        return field.flatten()[((x // 2) * HALF_SHAPE[1] + y // 2) * HALF_SHAPE[2] + z // 2]


@dataclass(frozen=True)
class Tissue:
    """Warped maps (N,) of one visit inside the brain.

    shares: grey, white, fluid, wmh (and core, rim, oedema of a tumour), which sum to 1. enhancing: the half-grid map of
    what takes up contrast agent in everybody (x,y,z), of which only one modality needs the voxels.
    """

    brain: Brain
    shares: dict[str, torch.Tensor]
    residual: torch.Tensor
    sulci: torch.Tensor
    enhancing: torch.Tensor
    nigra: torch.Tensor | None
    contrast: float
    enhancement: float
    mismatch: float
    truth: dict[str, float]

    def tumour_labels(self) -> np.ndarray | None:
        """uint8 labels (X,Y,Z): 1 core, 2 oedema, 3 enhancing or solid rim; None without a tumour."""
        if "core" not in self.shares:
            return None
        flat = np.zeros(self.residual.shape, np.uint8)
        for value, name in ((2, "oedema"), (3, "rim"), (1, "core")):
            flat[(self.shares[name] > 0.5).numpy()] = value
        labels = np.zeros(tuple(self.brain.inside.shape), np.uint8)
        labels[self.brain.inside.numpy()] = flat
        return labels


def true_volumes(anatomy: Anatomy, subject: Subject, visit: int) -> dict[str, float]:
    """The truth of a visit without its voxels, measured at half resolution (fast, within about 1 %)."""
    return make_tissue(anatomy, subject, visit, step=2).truth


def make_tissue(anatomy: Anatomy, subject: Subject, visit: int, step: int = 1) -> Tissue:
    """Warp the anatomy and apply atrophy and lesions. step: 1 for full, 2 for half resolution."""
    import torch

    amounts = subject.amounts(visit)
    base, moved, level, push = positions(anatomy, subject, visit, amounts)
    mask = sample(torch.from_numpy(anatomy.mask)[None], base)
    brain = Brain((mask if step == 2 else upsample(mask))[0] > 0.5, step)
    region = dict(zip(REGIONS, sample(torch.from_numpy(anatomy.regions), moved), strict=True))
    horn, lesion = brain.lift(torch.stack([
        (amounts["horn"] * region["horn"]).clamp(0, 0.95), _wmh(region["wmh"], subject, amounts["wmh"])]))
    residual, gm, wm, sulci = sample(torch.from_numpy(anatomy.fields), brain.lift(moved)[:, None, None])[:, 0, 0]
    thin = (amounts["sulci"] * sulci).clamp_(-0.2, 0.9)
    wm = wm * (1 - 0.15 * thin.clamp(min=0)) * (1 - horn)
    gm = torch.minimum(gm * (1 - thin) * (1 - horn), 1 - wm)
    shares = {"grey": gm, "white": wm * (1 - lesion), "fluid": (1 - gm - wm).clamp_(min=0), "wmh": wm * lesion}
    if level is not None and subject.tumour:
        shares = _with_tumour(shares, subject.tumour, brain.lift(level[None])[0])
    nigra = amounts["nigra"] * brain.lift(region["midbrain"][None])[0] if "nigra" in amounts else None
    tumour = subject.tumour
    return Tissue(
        brain, shares, residual * (1 - horn - thin.clamp(0, 1)).clamp_(0, 1), sulci, region["enhancing"], nigra,
        amounts["contrast"], tumour.enhancement if tumour else 0.0, tumour.mismatch if tumour else 0.0,
        _truth(shares, brain, region) | _state(subject, visit, amounts, push),
    )


def _wmh(prior: torch.Tensor, subject: Subject, amount: float) -> torch.Tensor:
    """White-matter hyperintensities (x,y,z), 0..1: patches that grow out from the ventricles."""
    import torch

    noise = smooth_noise(stream(subject, 3), 1, (24, 28, 24))[0]
    return torch.sigmoid((1.15 * amount + 1.3 * prior + 0.2 * noise - 1.45) / 0.08) * (prior / 0.2).clamp(max=1)


def _with_tumour(shares: dict[str, torch.Tensor], tumour: Tumour, level: torch.Tensor) -> dict[str, torch.Tensor]:
    """Replace tissue by the lesion. level (N,): mm from the tumour's surface, negative inside."""
    import torch

    depth = (1 - tumour.necrosis) * tumour.radius_mm
    solid = torch.sigmoid(-level / 0.6)
    core = torch.sigmoid(-(level + depth) / 0.8) if tumour.necrosis > 0.05 else torch.zeros_like(level)
    oedema = torch.sigmoid((tumour.oedema_mm - level) / 1.5) * (1 - solid) * (shares["white"] + 0.25 * shares["grey"])
    left = (1 - solid - oedema).clamp_(min=0)
    rest = {k: v * left for k, v in shares.items()}
    return rest | {"core": core, "rim": (solid - core).clamp_(min=0), "oedema": oedema}


def _truth(shares: dict[str, torch.Tensor], brain: Brain, region: dict[str, torch.Tensor]) -> dict[str, float]:
    """Volumes in ml."""
    ml = brain.step**3 / 1000
    ventricle = brain.nearest((region["ventricle"] + region["horn"]).clamp(0, 1))
    solid = {k: float(v.sum()) * ml for k, v in shares.items()}
    core, rim = solid.get("core", 0.0), solid.get("rim", 0.0)
    return {
        "gm_ml": solid["grey"], "wm_ml": solid["white"] + solid["wmh"], "csf_ml": solid["fluid"],
        "wmh_ml": solid["wmh"], "ventricles_ml": float((shares["fluid"] * ventricle).sum()) * ml,
        "hippocampus_ml": float(((1 - shares["fluid"]) * brain.nearest(region["hippocampus"])).sum()) * ml,
        "brain_ml": float(ventricle.numel()) * ml, "tumour_core_ml": core, "tumour_rim_ml": rim,
        "tumour_oedema_ml": solid.get("oedema", 0.0), "tumour_ml": core + rim,
    }


def _state(subject: Subject, visit: int, amounts: dict[str, float], push: float) -> dict[str, float]:
    state = {f"{k}_amount": float(v) for k, v in amounts.items()}
    return state | {
        "age_years": subject.visits[visit].age_years, "brain_age_years": subject.brain_age_years(visit),
        "speed": subject.speed, "mass_effect_mm": push, "noise": subject.site.noise,
    }
