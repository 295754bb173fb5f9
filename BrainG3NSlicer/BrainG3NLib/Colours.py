"""The colour table of differences is diverging, perceptually even, centred on zero, transparent where nothing changed.

Both arms fall in CIE L* along a straight line from a light grey, so that equal steps of the difference look equal.
"""

from __future__ import annotations

import numpy as np
import slicer

ENTRIES = 255  # odd, so that zero has an entry of its own
TRANSPARENT_BELOW = 0.08
"""Share of the limit below which a difference is not painted; opaque from twice that."""
COLOUR_NODE = "BrainG3N difference"
AMOUNT_NODE = "BrainG3N amount"
_GREY_L, _END_L = 92.0, 38.0
_BLUE_AB, _RED_AB = (8.0, -62.0), (62.0, 40.0)  # CIE a*, b* of the ends, inside sRGB at that lightness
_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def divergingTable(entries: int = ENTRIES) -> np.ndarray:
    """(entries, 4) red, green, blue, alpha in 0..1; blue is darker, red is brighter than the input."""
    position = np.linspace(-1.0, 1.0, entries)
    size = np.abs(position)
    lightness = _GREY_L + (_END_L - _GREY_L) * size
    ends = np.where(position[:, None] < 0, _BLUE_AB, _RED_AB)
    rgb = _lab_to_srgb(np.column_stack([lightness, ends * size[:, None]]))
    alpha = np.clip(size / TRANSPARENT_BELOW - 1.0, 0.0, 1.0)
    return np.column_stack([rgb, alpha])


def _lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    y = (lab[:, 0] + 16.0) / 116.0
    f = np.column_stack([y + lab[:, 1] / 500.0, y, y - lab[:, 2] / 200.0])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE
    to_rgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    linear = np.clip(xyz @ to_rgb.T, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def sequentialTable(entries: int = ENTRIES) -> np.ndarray:
    """(entries, 4) for amounts from zero up: clear at zero, then light yellow to dark violet."""
    size = np.linspace(0.0, 1.0, entries)
    lightness = 92.0 - 62.0 * size
    hue = np.deg2rad(90.0 - 140.0 * size)
    chroma = 30.0 + 25.0 * np.sin(np.pi * size)
    rgb = _lab_to_srgb(np.column_stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)]))
    return np.column_stack([rgb, np.clip(size / TRANSPARENT_BELOW - 1.0, 0.0, 1.0)])


def differenceColours(scene):
    """The colour node of differences, made once a scene; its entries are named -1 to +1 times the limit."""
    return _colours(scene, COLOUR_NODE, divergingTable(), np.linspace(-1.0, 1.0, ENTRIES))


def amountColours(scene):
    """The colour node of amounts such as a spread, made once a scene."""
    return _colours(scene, AMOUNT_NODE, sequentialTable(), np.linspace(0.0, 1.0, ENTRIES))


def _colours(scene, name: str, table: np.ndarray, positions: np.ndarray):
    found = scene.GetFirstNodeByName(name)
    if found is not None and found.IsA("vtkMRMLColorTableNode"):
        return found
    node = slicer.vtkMRMLColorTableNode()
    node.SetName(name)
    node.SetTypeToUser()
    node.SetAttribute("Category", "BrainG3N")
    node.SetNumberOfColors(len(table))
    for index, (colour, position) in enumerate(zip(table, positions, strict=True)):
        node.SetColor(index, f"{position:+.2f}", *(float(c) for c in colour))
    node.GetLookupTable().SetRange(0, len(table) - 1)
    return scene.AddNode(node)
