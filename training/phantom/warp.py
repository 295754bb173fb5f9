"""From template to person: random shape, atrophy and mass effect as backward warps on the half grid.

Legend: X Y Z voxels of the model grid, x y z cells of the half grid, K channels. An output voxel at position p reads
the template at p + displacement(p), in voxels (1 mm).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from braing3n_core.atlas import MODEL_SHAPE

from .anatomy import BASES, HALF_SHAPE, Anatomy, mni_to_voxel
from .subjects import Subject

if TYPE_CHECKING:
    import torch

CONTROL_SHAPE = (8, 9, 8)
SHAPE_SD_VOXELS = 1.9
FLOW_STEPS = 4
FOLD_SHAPE = (18, 21, 18)
FOLD_SD_VOXELS = 0.8
SCALE_SD, ROTATION_SD_DEGREES = 0.017, 1.5
JITTER_MM, JITTER_DEGREES = 0.3, 0.3


def stream(subject: Subject, *key: int) -> np.random.Generator:
    """Random numbers of one subject for one purpose; other purposes, visits and subjects have their own."""
    return np.random.default_rng([subject.seed, subject.index, 7, *key])


@lru_cache(maxsize=8)
def _spline(cells: int, nodes: int) -> np.ndarray:
    """Cubic B-spline weights (cells, nodes) with unit variance in the middle, so that sd means sd."""
    position = (np.arange(cells) + 0.5) / cells * (nodes - 1)
    d = np.abs(position[:, None] - np.arange(nodes))
    weights = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d).clip(0) ** 3 / 6, 0))
    return (weights / np.sqrt((weights**2).sum(1, keepdims=True))).astype(np.float32)


def smooth_noise(rng: np.random.Generator, channels: int, nodes: tuple[int, int, int]) -> torch.Tensor:
    """Smooth standard normal fields (K,x,y,z) on the half grid from random control points."""
    import torch

    control = torch.from_numpy(rng.standard_normal((channels, *nodes), dtype=np.float32))
    for cells, count in zip(HALF_SHAPE, nodes, strict=True):
        control = torch.tensordot(control, torch.from_numpy(_spline(cells, count)), dims=([1], [1]))
    return control.contiguous()


@lru_cache(maxsize=1)
def _half_positions() -> torch.Tensor:
    """Voxel position of each half-grid cell, (3,x,y,z)."""
    import torch

    axes = [2 * torch.arange(n, dtype=torch.float32) + 0.5 for n in HALF_SHAPE]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _affine(rng: np.random.Generator, scale_sd: float, degrees: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_euler("xyz", rng.standard_normal(3) * degrees, degrees=True).as_matrix()
    return rotation @ np.diag(1 + scale_sd * rng.standard_normal(3)), shift * rng.standard_normal(3)


def positions(
    anatomy: Anatomy, subject: Subject, visit: int, amounts: dict[str, float]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, float]:
    """Template positions (3,x,y,z) before and after atrophy, the tumour's level set in mm, its mass effect."""
    import torch

    rng = stream(subject, 0)
    centre = torch.tensor([79.5, 95.5, 79.5])[:, None, None, None]
    person, place = _affine(rng, SCALE_SD, ROTATION_SD_DEGREES, 0.7)
    jitter, shift = _affine(stream(subject, 1, visit), 0.0, JITTER_DEGREES, JITTER_MM)
    matrix = torch.from_numpy((person @ jitter).astype(np.float32))
    moved = torch.einsum("ij,jxyz->ixyz", matrix, _half_positions() - centre)
    base = moved + centre + torch.from_numpy((place + shift).astype(np.float32))[:, None, None, None]
    own = SHAPE_SD_VOXELS * smooth_noise(rng, 3, CONTROL_SHAPE) + FOLD_SD_VOXELS * smooth_noise(rng, 3, FOLD_SHAPE)
    # The person's own shape belongs to the head, not to the scanner's frame: read it where the jitter has moved it.
    base = base + sample(own, _half_positions() + (base - _person_frame(base, person, place, centre)))
    push, level, inner = 0.0, None, base
    if subject.tumour:
        level, inner, push = _mass(base, subject, visit)
    weights = torch.tensor([amounts.get(name, 0.0) for name in BASES])
    field = torch.einsum("k,kcxyz->cxyz", weights, torch.from_numpy(anatomy.bases))
    # A flow in small steps cannot cross the ridges where a direction field vanishes (the middle of a ventricle).
    for _ in range(FLOW_STEPS):
        inner = inner + sample(field, inner) / FLOW_STEPS
    return base, inner, level, push


def _person_frame(base: torch.Tensor, person: np.ndarray, place: np.ndarray, centre: torch.Tensor) -> torch.Tensor:
    """Where ``base`` would be without the jitter of this visit."""
    import torch

    moved = torch.einsum("ij,jxyz->ixyz", torch.from_numpy(person.astype(np.float32)), _half_positions() - centre)
    return moved + centre + torch.from_numpy(place.astype(np.float32))[:, None, None, None]


def _mass(base: torch.Tensor, subject: Subject, visit: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Level set of the tumour (mm from its surface, negative inside) and positions with its mass effect."""
    import torch

    tumour = subject.tumour
    if tumour is None:
        return torch.zeros(HALF_SHAPE), base, 0.0
    years = subject.elapsed_years(visit)
    radius = tumour.radius_mm + tumour.growth_mm * years
    push = tumour.mass_mm * (1 + 0.05 * years)
    centre = torch.from_numpy(mni_to_voxel(np.array(tumour.centre_mm)).astype(np.float32))[:, None, None, None]
    offset = base - centre
    distance = offset.norm(dim=0)
    rough = smooth_noise(stream(subject, 2), 1, FOLD_SHAPE)[0]
    level = distance - radius * (1 + tumour.roughness * rough)
    fade = push * torch.exp(-(distance - radius).clamp(min=0) / 22) * (distance / radius).clamp(max=1)
    return level, base - offset / (distance + 1e-3) * fade, push


def sample(field: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Read (K, ...) on either grid at voxel positions (3,...); linear, the edge goes on."""
    import torch
    from torch.nn.functional import grid_sample

    size = torch.tensor(MODEL_SHAPE, dtype=torch.float32)[:, None, None, None]
    normalised = ((2 * positions + 1) / size - 1).permute(1, 2, 3, 0).flip(-1)[None]
    return grid_sample(field[None], normalised, padding_mode="border", align_corners=False)[0]


def upsample(field: torch.Tensor) -> torch.Tensor:
    """Half-grid maps (K,x,y,z) to (K,X,Y,Z), linearly."""
    from torch.nn.functional import interpolate

    return interpolate(field[None], scale_factor=2, mode="trilinear", align_corners=False)[0]
