"""A first affine for the registration: both brains blurred, one's greys predicted from the other's, least squares.

Predicted are the fixed greys by a polynomial in the moving greys and in the blurred outline of the moving brain: the
outline tells a dark rim from the blurred edge of a bright one, so that the contrasts may differ.

ANTs climbs to the nearest top of mutual information; started a few millimetres and degrees away it can stop on a lower
one. This start has no such steps to stumble over, costs about a second, and is exact arithmetic: no samples are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..volume import Volume
from .spatial import isotropic_grid, resample

SPACING_MM = 4.0
BLUR_MM = (6.0, 3.0)
"""Standard deviations of the blur, coarse to fine."""
ITERATIONS = 20
DAMPING = 1e-3
MOST_DEGREES, MOST_STRETCH = 40.0, 1.5
"""Beyond them nothing is believed."""
RADIUS_MM = 100.0
"""Scale of the coordinates, so that a unit of each of the 12 parameters moves voxels about as far."""


@dataclass(frozen=True, eq=False)
class _Pair:
    """The fixed brain's points and greys; the moving brain's grids. points: (P,3) RAS mm.

    channels: (8,X,Y,Z), the moving greys, its outline, and the gradients of both per mm. affine: of the channels.
    """

    points: np.ndarray
    greys: np.ndarray
    channels: np.ndarray
    affine: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """Of the fixed brain, mm."""
        return np.asarray(self.points[self.greys > 0.1 * self.greys.max()].mean(axis=0))


def prealign(moving: Volume, fixed: Volume, guess: np.ndarray) -> np.ndarray:
    """A better ``guess`` (4x4, moving -> fixed, RAS), or the guess itself when what is found is no pose of a head.

    The greys of half a brain are explained best by turning it on its side; a scan stands upright in its world.
    """
    fixed_to_moving = np.linalg.inv(guess)
    for blur in BLUR_MM:
        fixed_to_moving = _descend(_pair(moving, fixed, blur), fixed_to_moving)
    found = np.linalg.inv(fixed_to_moving)
    plausible = rotation_degrees(found) <= MOST_DEGREES and stretch(found) <= MOST_STRETCH
    return found if plausible else np.asarray(guess, dtype=float)


def rotation_degrees(affine: np.ndarray) -> float:
    """The angle by which an affine (4x4) turns, apart from its scaling and shear."""
    left, _, right = np.linalg.svd(affine[:3, :3])
    return float(np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1.0, 1.0))))


def stretch(affine: np.ndarray) -> float:
    """How much more an affine (4x4) stretches along its strongest axis than along its weakest."""
    lengths = np.linalg.svd(affine[:3, :3], compute_uv=False)
    return float(lengths[0] / lengths[-1])


def _pair(moving: Volume, fixed: Volume, blur_mm: float) -> _Pair:
    target = _blurred(fixed, blur_mm)
    near = np.argwhere(target.array > 0.02)
    points = near @ target.affine[:3, :3].T + target.affine[:3, 3]
    greys, outline = (_blurred(v, blur_mm) for v in (moving, moving.with_array((moving.array > 0).astype(np.float32))))
    slopes = [np.gradient(v.array, SPACING_MM) for v in (greys, outline)]
    channels = np.stack([greys.array, outline.array, *slopes[0], *slopes[1]])
    return _Pair(points, target.array[tuple(near.T)].astype(float), channels, greys.affine)


def _blurred(volume: Volume, blur_mm: float) -> Volume:
    """On 4 mm RAS+ voxels with a margin for the blur; brightest 1.0."""
    from scipy import ndimage

    shape, affine = isotropic_grid(volume, SPACING_MM, pad_mm=4 * blur_mm)
    array = ndimage.gaussian_filter(resample(volume.array, volume.affine, shape, affine), blur_mm / SPACING_MM)
    return Volume.from_array(array / max(float(array.max()), 1e-9), affine)


def _descend(pair: _Pair, start: np.ndarray) -> np.ndarray:
    """Levenberg and Marquardt's least squares from ``start`` (4x4, fixed -> moving)."""
    best, damping = start, DAMPING
    residual, jacobian = _linearised(pair, best)
    for _ in range(ITERATIONS):
        normal = jacobian.T @ jacobian
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), jacobian.T @ residual)
        tried = best @ _as_affine(step, pair.middle)
        new_residual, new_jacobian = _linearised(pair, tried)
        if new_residual @ new_residual < residual @ residual:
            best, residual, jacobian, damping = tried, new_residual, new_jacobian, damping / 3
        else:
            damping *= 10
        if damping > 1e6 or np.abs(step).max() < 1e-4 * SPACING_MM:
            break
    return best


def _linearised(pair: _Pair, fixed_to_moving: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the moving greys leave unexplained (P,), and how the explained part changes with the parameters (P,12)."""
    at = pair.points @ fixed_to_moving[:3, :3].T + fixed_to_moving[:3, 3]
    values = _sample(pair, at)
    terms, by_grey, by_outline = _polynomial(values[0], values[1])
    weights = np.linalg.lstsq(terms, pair.greys, rcond=None)[0]
    slopes = (by_grey @ weights)[:, None] * values[2:5].T + (by_outline @ weights)[:, None] * values[5:8].T
    pull = slopes @ fixed_to_moving[:3, :3]
    arms = np.concatenate([(pair.points - pair.middle) / RADIUS_MM, np.ones((len(at), 1))], axis=1)
    return pair.greys - terms @ weights, (pull[:, :, None] * arms[:, None, :]).reshape(len(at), 12)


def _polynomial(grey: np.ndarray, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The terms (P,7) of the prediction, and their derivatives by grey and by outline."""
    one, none = np.ones_like(grey), np.zeros_like(grey)
    terms = (one, grey, grey**2, grey**3, outline, outline**2, grey * outline)
    by_grey = (none, one, 2 * grey, 3 * grey**2, none, none, outline)
    by_outline = (none, none, none, none, one, 2 * outline, grey)
    return np.stack(terms, axis=1), np.stack(by_grey, axis=1), np.stack(by_outline, axis=1)


def _sample(pair: _Pair, points: np.ndarray) -> np.ndarray:
    """The channels (8,P) at world points; 0 outside."""
    from scipy import ndimage

    inverse = np.linalg.inv(pair.affine)
    voxels = (points @ inverse[:3, :3].T + inverse[:3, 3]).T
    return np.stack([ndimage.map_coordinates(c, voxels, order=1, output=float) for c in pair.channels])


def _as_affine(step: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The 12 parameters (3x3 per ``RADIUS_MM`` and a shift in mm, row by row) as a 4x4 about the middle."""
    rows = step.reshape(3, 4)
    affine = np.eye(4)
    affine[:3, :3] += rows[:, :3] / RADIUS_MM
    affine[:3, 3] = rows[:, 3] - rows[:, :3] @ middle / RADIUS_MM
    return affine
