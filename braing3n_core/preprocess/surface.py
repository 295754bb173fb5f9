"""A surface that grows from inside the brain until the greys end (Smith 2002, the brain extraction tool's model).

A closed triangle mesh is pulled by its own smoothness and pushed along its normals by the darkest grey found inwards:
out while that is still brain, in when it is not. Lengths in mm, points in RAS+ world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..progress import Cancel
from ..volume import Volume

_OFF_LATTICE = np.array([1.4142e-5, 1.7320e-5, 0.0])
"""In voxels: moves a mesh off the voxel centres, so that no column runs exactly through an edge."""


@dataclass(frozen=True)
class SurfaceOptions:
    """Numbers of the model: mm, except for the bare ones.

    grey_fraction: where between dark and the brain's grey the edge is taken. smooth_radii: surface curvatures between
    which smoothing sets in. look_in / look_out: depth in which the darkest / brightest grey is looked for.
    """

    iterations: int = 600
    subdivisions: int = 4
    grey_fraction: float = 0.5
    smooth_radii: tuple[float, float] = (3.33, 10.0)
    look_dark: float = 20.0
    look_bright: float = 10.0
    step: float = 0.05


@dataclass(frozen=True)
class Greys:
    """Levels of one scan: the dark end, the lowest head grey, and the brain's median."""

    dark: float
    head: float
    brain: float


def measure_greys(volume: Volume, inside: np.ndarray) -> Greys:
    """The grey levels that steer the surface. inside: a mask that is surely brain, bool (X,Y,Z)."""
    low, high = np.percentile(volume.array, (2.0, 98.0))
    return Greys(float(low), float(low + 0.1 * (high - low)), float(np.median(volume.array[inside])))


def icosphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit sphere of triangles: vertices (V,3) and faces (F,3), outward by the right-hand rule."""
    golden = (1 + 5**0.5) / 2
    corners = [(0, s, t * golden) for s in (-1, 1) for t in (-1, 1)]
    vertices = np.array([np.roll(c, k) for k in range(3) for c in corners], dtype=float)
    from scipy.spatial import ConvexHull

    for level in range(subdivisions + 1):
        vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
        faces = ConvexHull(vertices).simplices
        if level < subdivisions:
            edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
            vertices = np.concatenate([vertices, vertices[edges].mean(axis=1)])
    outward = np.einsum("fi,fi->f", np.cross(*_sides(vertices, faces)), vertices[faces].mean(axis=1)) > 0
    faces = np.where(outward[:, None], faces, faces[:, ::-1])
    return vertices, faces


def _sides(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return b - a, c - a


class Surface:
    """A mesh with the topology of a sphere. vertices: (V,3) mm; faces: (F,3)."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        from scipy import sparse

        self.vertices, self.faces = vertices, faces
        pairs = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
        self._edges = pairs
        count, ends = len(vertices), np.concatenate([pairs, pairs[:, ::-1]])
        links: Any = sparse.csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
        self._mean: Any = sparse.diags(1.0 / np.asarray(links.sum(axis=1)).ravel()) @ links
        corners = faces.ravel()
        self._sum: Any = sparse.csr_matrix(
            (np.ones(len(corners)), (corners, np.repeat(np.arange(len(faces)), 3))), shape=(count, len(faces))
        )

    def normals(self) -> np.ndarray:
        """Outward unit normals (V,3), weighted by area."""
        normal = self._sum @ np.cross(*_sides(self.vertices, self.faces))
        return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9))

    def edge_mm(self) -> float:
        """Mean length of the edges."""
        a, b = self.vertices[self._edges[:, 0]], self.vertices[self._edges[:, 1]]
        return float(np.linalg.norm(a - b, axis=1).mean())

    def towards_neighbours(self) -> np.ndarray:
        """From each vertex to the mean of its neighbours (V,3)."""
        return np.asarray(self._mean @ self.vertices - self.vertices)


def grow(surface: Surface, volume: Volume, greys: Greys, options: SurfaceOptions, cancel: Cancel | None = None) -> None:
    """Let the surface grow in place until it lies on the edge of the brain."""
    edge = surface.edge_mm()
    for iteration in range(options.iterations):
        if cancel is not None and iteration % 50 == 0:
            cancel.check()
        if iteration % 50 == 0:
            edge = surface.edge_mm()
        normal = surface.normals()
        pull = surface.towards_neighbours()
        along = np.einsum("vi,vi->v", pull, normal)
        tangential = pull - along[:, None] * normal
        smooth = _smoothing(along, edge, options) * along
        push = options.step * edge * _push(surface.vertices, normal, volume, greys, options)
        surface.vertices = surface.vertices + 0.5 * tangential + (smooth + push)[:, None] * normal


def _smoothing(along: np.ndarray, edge: float, options: SurfaceOptions) -> np.ndarray:
    """Share of the inward pull that is applied, by the local radius of curvature."""
    low, high = options.smooth_radii
    middle, steep = (1 / low + 1 / high) / 2, 6 / (1 / low - 1 / high)
    curvature = 2 * np.abs(along) / edge**2
    return (1 + np.tanh(steep * (curvature - middle))) / 2


def _push(
    vertices: np.ndarray, normal: np.ndarray, volume: Volume, greys: Greys, options: SurfaceOptions
) -> np.ndarray:
    """-2..2: out where the greys inwards are all brain, in where one is dark."""
    depths = np.arange(1.0, options.look_dark + 0.5, 2.0)
    samples = _sample(volume, vertices[None] - depths[:, None, None] * normal[None])
    darkest = np.clip(samples.min(axis=0), greys.dark, greys.brain)
    brightest = np.clip(samples[depths <= options.look_bright].max(axis=0), greys.head, greys.brain)
    edge_grey = greys.dark + options.grey_fraction * (brightest - greys.dark)
    return np.asarray(2 * (darkest - edge_grey) / np.maximum(brightest - greys.dark, 1e-6))


def _sample(volume: Volume, points: np.ndarray) -> np.ndarray:
    """Greys at points (...,3), nearest voxel; outside the volume 0."""
    inverse = np.linalg.inv(volume.affine)
    voxels = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    limits = np.array(volume.shape) - 1
    inside = np.all((voxels >= 0) & (voxels <= limits), axis=-1)
    voxels = np.clip(voxels, 0, limits)
    return np.where(inside, volume.array[voxels[..., 0], voxels[..., 1], voxels[..., 2]], 0.0)


def voxelise(surface: Surface, shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """The voxels whose centres lie inside the surface: bool (X,Y,Z), by the winding number along the third axis."""
    inverse = np.linalg.inv(affine)
    vertices = surface.vertices @ inverse[:3, :3].T + inverse[:3, 3] + _OFF_LATTICE
    column, height, side = _crossings(vertices[surface.faces], shape)
    first_above = np.clip(np.ceil(height), 0, shape[2]).astype(int)
    turns = np.zeros((shape[0] * shape[1], shape[2] + 1), dtype=np.int32)
    np.add.at(turns, (column, first_above), side)
    return np.asarray(np.cumsum(turns[:, :-1], axis=1) != 0).reshape(shape)


def _crossings(corners: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the voxel columns pierce triangles (F,3,3): flat column index, height in voxels, +1 or -1 by the side."""
    low = np.clip(np.ceil(corners[..., :2].min(axis=1)).astype(int), 0, None)
    high = np.minimum(np.floor(corners[..., :2].max(axis=1)).astype(int), np.array(shape[:2]) - 1)
    size = np.clip(high - low + 1, 0, None)
    number = size.prod(axis=1)
    face = np.repeat(np.arange(len(corners)), number)
    place = np.arange(len(face)) - np.repeat(np.cumsum(number) - number, number)
    x, y = low[face, 0] + place // size[face, 1], low[face, 1] + place % size[face, 1]
    a, b, c = (corners[face, k] for k in range(3))
    point = np.stack([x, y], axis=1) - a[:, :2]
    area = _cross(b - a, c - a)
    safe = np.where(area == 0, np.inf, area)  # upright triangles are never pierced
    share_b, share_c = _cross(point, c - a) / safe, _cross(b - a, point) / safe
    hit = (area != 0) & (share_b >= 0) & (share_c >= 0) & (share_b + share_c <= 1)
    height = a[:, 2] + share_b * (b - a)[:, 2] + share_c * (c - a)[:, 2]
    return (x * shape[1] + y)[hit], height[hit], np.sign(area[hit]).astype(np.int32)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
