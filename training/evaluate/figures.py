"""Pictures of the report: three planes of small volumes, curves and scatters, as PNG of few colours.

Volumes lie on the model grid, whose x runs to the patient's left and y to the back (docs/conventions.md); they are
shown as a radiologist has them: the patient's left is on the viewer's right, anterior and superior are up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CENTRE = (80, 98, 78)
COLOURS = 96
MARKS = ("o", "x", "+", "^", "v", "s")
"""One a series of points, so that those which agree can be told apart."""
INKS = ("#0b6bcb", "#d1495b", "#2e8b57", "#8a6d3b", "#6f42c1", "#444444")


@dataclass(frozen=True, eq=False)
class Panel:
    """One volume (X,Y,Z) on the model grid. change: laid over in colour; limit: its colour limit."""

    title: str
    volume: np.ndarray
    synthetic: bool = False
    change: np.ndarray | None = None
    limit: float = 1.0


@dataclass(frozen=True, eq=False)
class Series:
    """Points or a line. error: half-lengths of bars."""

    title: str
    x: Sequence[float]
    y: Sequence[float]
    line: bool = False
    error: Sequence[float] | None = None


def planes(volume: np.ndarray, around: float, centre: tuple[int, int, int] = CENTRE) -> np.ndarray:
    """Axial, coronal and sagittal slice side by side, rows downwards, (192, 160+160+192); ``around`` fills the rest."""
    x, y, z = centre
    axial = volume[:, :, z].T
    coronal = _tall(volume[:, y, ::-1].T, around)
    sagittal = _tall(volume[x, :, ::-1].T, around)
    return np.concatenate([axial, coronal, sagittal], axis=1)


def three_planes(path: Path, panels: Sequence[Panel], columns: int = 2) -> Path:
    """Every panel's three planes in a grid. Grey windows are each volume's own 0.5th to 99.5th percentile."""
    rows = -(-len(panels) // columns)
    figure = _figure(4.4 * columns, 1.78 * rows)
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        low, high = np.percentile(panel.volume, [0.5, 99.5])
        axes.imshow(planes(panel.volume, low), cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        if panel.change is not None:
            axes.imshow(_coloured(planes(panel.change, 0.0) / panel.limit))
        axes.set_axis_off()
        axes.set_title(panel.title + (" (SYNTHETIC)" if panel.synthetic else ""), fontsize=8, loc="left", pad=2)
    figure.subplots_adjust(left=0.005, right=0.995, top=1 - 0.2 / figure.get_figheight(), bottom=0.005, wspace=0.02,
                           hspace=0.14)
    return _save(figure, path, COLOURS)


def chart(
    path: Path, series: Sequence[Series], labels: tuple[str, str], diagonal: bool = False, level: float | None = None
) -> Path:
    """Points and lines over one pair of axes. diagonal: y = x; level: a horizontal line."""
    figure = _figure(5.2, 3.4)
    axes = figure.add_subplot()
    for ink, mark, s in zip(INKS * 4, MARKS * 4, series, strict=False):
        if s.error is not None:
            style = "o-" if s.line else "o"
            axes.errorbar(s.x, s.y, yerr=s.error, fmt=style, ms=4, capsize=3, color=ink, label=s.title)
        else:
            style = "-o" if s.line else mark
            axes.plot(s.x, s.y, style, ms=3.5 if style != "+" else 5, alpha=1 if s.line else 0.6, color=ink,
                      label=s.title)
    if diagonal:
        low, high = axes.get_xlim()
        axes.plot([low, high], [low, high], ":", color="#888888", lw=1, label="equal")
    if level is not None:
        axes.axhline(level, ls=":", color="#888888", lw=1)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return _save(figure, path)


def bars(
    path: Path, names: Sequence[str], groups: Sequence[tuple[str, Sequence[float]]], label: str, ratios: bool = False
) -> Path:
    """Grouped horizontal bars; nan leaves a gap. ratios: on a logarithmic axis, with a line at 1."""
    figure = _figure(5.6, 0.6 + 0.42 * len(names))
    axes = figure.add_subplot()
    height = 0.8 / len(groups)
    for k, (title, values) in enumerate(groups):
        at = np.arange(len(names)) + (k - (len(groups) - 1) / 2) * height
        axes.barh(at, values, height, color=INKS[k], label=title)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    if ratios:
        axes.set_xscale("log")
        ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.set_xticks([], minor=True)
        axes.axvline(1, ls=":", color="#888888", lw=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    return _save(figure, path)


def _tall(image: np.ndarray, around: float, rows: int = 192) -> np.ndarray:
    above = (rows - image.shape[0]) // 2
    return np.pad(image, ((above, rows - image.shape[0] - above), (0, 0)), constant_values=around)


def _coloured(share: np.ndarray) -> np.ndarray:
    from matplotlib import colormaps

    colours = colormaps["RdBu_r"](np.clip(share, -1, 1) / 2 + 0.5)
    colours[..., 3] = np.clip((np.abs(share) - 0.08) / 0.3, 0, 0.9)
    return np.asarray(colours)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=90, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path, colours: int = 0) -> Path:
    """colours: as a palette of so many, a third of the size for slices; charts keep their own (0)."""
    from PIL import Image

    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = image.quantize(colours, Image.Quantize.MAXCOVERAGE) if colours else image
    image.save(path, optimize=True)
    return path
