"""Three-plane montages and curves as PNG, for the report.

Radiological convention: the patient's left is on the viewer's right; anterior and superior are up, and anterior is left
in sagittal slices. Volumes of any orientation are first turned to RAS order; intensities keep their unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .grid import orientation
from .volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = "RdBu_r"
BACKGROUND = "#0d1117"
INK = "#e6edf3"
WARNING_INK = "#ffb454"
VISIBLE_FROM = 0.08
"""Share of the colour limit below which a difference is transparent."""

PLANES: tuple[tuple[int, float], ...] = ((2, 0.42), (2, 0.55), (2, 0.68), (1, 0.45), (1, 0.58), (0, 0.46))
"""The slices of a montage (three axial, two coronal, one sagittal): axis in RAS order, and how far along the brain."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """What all pictures of one scan share: which slices, the window of the greys, and the unit of differences.

    start, stop: the brain's box in RAS order. window: grey limits. unit: intensity that is 1 % of the brain's range.
    """

    start: np.ndarray
    stop: np.ndarray
    window: tuple[float, float]
    unit: float

    @classmethod
    def of(cls, scan: Volume, mask: Volume) -> Canvas:
        """The canvas of a scan and its brain mask, both on one grid."""
        inside = to_ras(mask)[0] > 0.5
        filled = np.argwhere(inside)
        low, high = np.percentile(to_ras(scan)[0][inside], (1, 99))
        margin = 6
        start = np.maximum(filled.min(0) - margin, 0)
        stop = np.minimum(filled.max(0) + 1 + margin, inside.shape)
        return cls(start, stop, (min(0.0, float(low)), float(high) * 1.05), float(high - low) / 100)


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a montage. change: a map laid over the greys, in the scan's unit. outline: a mask drawn as a contour.

    limit: colour limit of the change in percent of the brain's range. one_sided: the map has no negative values.
    """

    title: str
    volume: Volume
    synthetic: bool = False
    change: Volume | None = None
    outline: Volume | None = None
    limit: float = 0.0
    one_sided: bool = False


def montage(path: Path, canvas: Canvas, rows: Sequence[Row]) -> Path:
    """Write rows of six slices each as PNG, with a colour bar where something is laid over."""
    shapes = [_slice(rows[0].volume.array, rows[0].volume, canvas, plane) for plane in PLANES]
    widths = [s.shape[1] * spacing[1] for s, spacing in shapes]
    heights = max(s.shape[0] * spacing[0] for s, spacing in shapes)
    figure = _figure(13.0, 13.0 * 0.915 / (sum(widths) / heights) * len(rows) + 0.35)
    grid = figure.add_gridspec(
        len(rows), len(PLANES) + 1, width_ratios=[*widths, 0.035 * sum(widths)], left=0.005, right=0.955,
        top=1 - 0.3 / figure.get_figheight(), bottom=0.01, wspace=0.02, hspace=0.02,
    )
    for r, row in enumerate(rows):
        for c, plane in enumerate(PLANES):
            axes = figure.add_subplot(grid[r, c])
            _panel(axes, canvas, row, plane)
            if c == 0:
                _label(axes, row)
        if row.change is not None:
            _colour_bar(figure.add_subplot(grid[r, -1]), row)
    figure.text(0.005, 0.995, "Patient's left is on the viewer's right (radiological)", color=INK, fontsize=8, va="top")
    return _save(figure, path)


def colour_limit(canvas: Canvas, changes: Sequence[Volume]) -> float:
    """One limit for several maps, in percent of the brain's range: the 99.8th percentile of what is not zero."""
    tops = [np.percentile(np.abs(c.array[c.array != 0]), 99.8) for c in changes if (c.array != 0).any()]
    return max(float(max(tops)) / canvas.unit, 0.1) if tops else 1.0


@dataclass(frozen=True)
class Curve:
    """A trajectory of one reading: x in years, y in ``unit``, low and high its interval."""

    title: str
    unit: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def curves(path: Path, items: Sequence[Curve]) -> Path:
    """Write trajectories with their intervals side by side as PNG."""
    figure = _figure(6.4 * max(len(items), 1), 3.4)
    for i, curve in enumerate(items):
        axes = figure.add_subplot(1, len(items), i + 1)
        axes.set_facecolor(BACKGROUND)
        axes.fill_between(curve.x, curve.low, curve.high, color="#58a6ff", alpha=0.25, lw=0, label="5-95 % of samples")
        axes.plot(curve.x, curve.y, "o-", color="#58a6ff", label="mean forecast")
        axes.set_title(f"{curve.title}: read by the probe from SYNTHETIC forecasts", color=INK, fontsize=10)
        axes.set_xlabel("years from the scan", color=INK)
        axes.set_ylabel(curve.unit, color=INK)
        axes.tick_params(colors=INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(INK)
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    figure.tight_layout()
    return _save(figure, path)


def to_ras(volume: Volume) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The array with its axes along Right, Anterior, Superior (the nearest of each), and its spacing in mm."""
    letters = orientation(volume.affine)
    axes = [next(i for i, letter in enumerate(letters) if letter in pair) for pair in ("RL", "AP", "SI")]
    array = np.transpose(volume.array, axes)
    flips = tuple(slice(None, None, 1 if letters[a] in "RAS" else -1) for a in axes)
    spacing = volume.spacing_mm
    return array[flips], (spacing[axes[0]], spacing[axes[1]], spacing[axes[2]])


def _slice(
    array: np.ndarray, volume: Volume, canvas: Canvas, plane: tuple[int, float]
) -> tuple[np.ndarray, tuple[float, float]]:
    """A slice as rows (upwards) and columns (rightwards on screen), and the spacing of both in mm."""
    axis, share = plane
    ras, spacing = to_ras(volume) if array is volume.array else to_ras(volume.with_array(array))
    index = int(canvas.start[axis] + share * (canvas.stop[axis] - canvas.start[axis]))
    box = [slice(int(a), int(b)) for a, b in zip(canvas.start, canvas.stop, strict=True)]
    box[axis] = slice(index, index + 1)
    flat = ras[tuple(box)].squeeze(axis)  # axes in RAS order without the one cut
    across, up = [a for a in range(3) if a != axis]
    return flat[::-1].T, (spacing[up], spacing[across])  # both x and y run leftwards on screen


def _panel(axes: Any, canvas: Canvas, row: Row, plane: tuple[int, float]) -> None:
    from matplotlib import colormaps

    image, (up, across) = _slice(row.volume.array, row.volume, canvas, plane)
    show = {"origin": "lower", "aspect": up / across, "interpolation": "nearest"}
    axes.imshow(image, cmap="gray", vmin=canvas.window[0], vmax=canvas.window[1], **show)
    if row.change is not None:
        change = _slice(row.change.array, row.change, canvas, plane)[0] / canvas.unit / row.limit
        colours = colormaps["magma" if row.one_sided else COLOURS](change if row.one_sided else change / 2 + 0.5)
        colours[..., 3] = np.clip((np.abs(change) - VISIBLE_FROM) / (0.35 - VISIBLE_FROM), 0, 0.9)
        axes.imshow(colours, **show)
    if row.outline is not None:
        edge = _slice(row.outline.array, row.outline, canvas, plane)[0]
        axes.contour(edge, levels=[0.5], colors="#7ee787", linewidths=0.8)
    axes.set_axis_off()
    left, right = ("A", "P") if plane[0] == 0 else ("R", "L")
    for x, letter in ((0.02, left), (0.95, right)):
        axes.text(x, 0.07, letter, transform=axes.transAxes, color="#8b949e", fontsize=8, va="center")
    if row.synthetic:
        axes.text(0.5, 0.01, "SYNTHETIC", transform=axes.transAxes, color=WARNING_INK, fontsize=7, ha="center")


def _label(axes: Any, row: Row) -> None:
    axes.text(0.02, 0.98, row.title, transform=axes.transAxes, color=INK, fontsize=9, va="top", weight="bold",
              bbox={"facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.7, "pad": 1.5}, zorder=5)


def _colour_bar(axes: Any, row: Row) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low = 0.0 if row.one_sided else -row.limit
    scale = ScalarMappable(Normalize(low, row.limit), colormaps["magma" if row.one_sided else COLOURS])
    bar = axes.figure.colorbar(scale, cax=axes)
    bar.ax.tick_params(colors=INK, labelsize=7)
    bar.outline.set_visible(False)
    bar.set_label("% of the brain's range", color=INK, fontsize=7)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor=BACKGROUND, metadata={"Software": "BrainG3N"})
    return path
