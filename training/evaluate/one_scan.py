"""Edits of one scan through the whole product: identity at nothing, growth with the horizon, place of the change,
seams, repeatability.

    python -m training.evaluate scan SCAN.nii.gz -o DIR
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from braing3n_core import Conditions, CounterfactualRequest, Engine, ForecastRequest, Volume
from braing3n_core.atlas import to_model_grid
from braing3n_core.generation.render import soft_mask
from braing3n_core.outcomes import Encoded, Rendered

from .figures import Panel, three_planes
from .metrics.images import seam_ratio
from .page import write_report
from .table import Cell, Picture, Table, rows_of, save_table

HORIZONS_YEARS = (0.0, 1.0, 2.0, 5.0, 10.0)


def run(path: Path, out: Path, checkpoint: str, device: str) -> Path:
    """Preprocess, edit and forecast the scan, write the report; its path."""
    engine = Engine(checkpoint, device)
    encoded = engine.encode(engine.preprocess(Volume.load(path, "T1")))
    table = edits(engine, encoded, path.name, out)
    facts = {
        "checkpoint": ", ".join(f"{k} {engine.parts.checkpoint(k).id}" for k in engine.parts.kinds), "scan": path.name,
        "computed by": f"python -m training.evaluate scan {path.name}",
    }
    save_table(out, table, facts)
    return write_report(out, "BrainG3N: edits of one scan", facts, [table])


def edits(engine: Engine, encoded: Encoded, name: str, out: Path) -> Table:
    """The table; differences are means over the brain in percent of its 1st to 99th percentile range."""
    preprocessed = encoded.preprocessed
    brain, scan = preprocessed.mask.array > 0, preprocessed.volume.array
    low, high = np.quantile(scan[brain], [0.01, 0.99])

    def change(rendered: Rendered) -> float:
        return float(100 * np.abs(rendered.atlas_difference.array[brain]).mean() / (high - low))

    def edit(**target: object) -> Rendered:
        return engine.counterfactual(encoded, CounterfactualRequest(name, target=Conditions(**target))).rendered

    null = engine.counterfactual(encoded, CounterfactualRequest(name)).rendered
    ill, again = edit(disease="AD"), edit(disease="AD")
    points = engine.forecast(encoded, ForecastRequest(name, horizons_years=HORIZONS_YEARS)).points
    maps = {f"{p.horizon_years:g} y": p.rendered.atlas_difference.array for p in points} | {
        "AD": ill.atlas_difference.array}
    shares = [change(p.rendered) for p in points]
    last, near, whole = np.abs(maps[f"{HORIZONS_YEARS[-1]:g} y"]), near_fluid(scan, brain), soft_mask(brain) == 1
    inside = torch.from_numpy(to_model_grid(brain))

    def seam(array: np.ndarray) -> float:
        return seam_ratio(torch.from_numpy(to_model_grid(array)), inside)

    cells: list[list[Cell]] = [
        ["native grid kept", ill.native.same_grid(preprocessed.native), "yes"],
        ["null edit equals the input voxel for voxel",
         bool(np.array_equal(null.native.array, preprocessed.native.array)), "yes"],
        ["same seed, same voxels", bool(np.array_equal(ill.native.array, again.native.array)), "yes"],
        ["AD edit: mean change in the brain (% of range)", change(ill), None],
        *([f"forecast {p.horizon_years:g} y: mean change in the brain (% of range)", s, None]
          for p, s in zip(points, shares, strict=True)),
        ["grows strictly with the horizon", bool(np.all(np.diff(shares) > 0)), "yes"],
        ["10 y change near ventricles and sulci over elsewhere",
         float(last[whole & near].mean() / last[whole & ~near].mean()), "above 1"],
        ["seam ratio: decoded scan", seam(engine.reconstruct(encoded).rendered.atlas.array), "at most 1.2"],
        ["seam ratio: 10 y difference map", seam(last), "at most 1.2"],
        ["seam ratio: AD difference map", seam(maps["AD"]), "at most 1.2"],
    ]
    return Table("one_scan", f"Edits of {name}", f"one scan, {name}", ("what", "measured", "aim"), rows_of(cells),
                 (NEAR,), (_picture(out, scan, maps),))


NEAR = (
    "Near: within 3 mm of the darkest tenth of the brain. Near and elsewhere count where a map is whole; towards the "
    "brain's outline it fades."
)


def near_fluid(scan: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Voxels within 3 mm of the darkest tenth of a T1 brain: ventricles and sulci, bool (X,Y,Z)."""
    from scipy import ndimage

    fluid = brain & (scan < np.quantile(scan[brain], 0.1))
    return ndimage.binary_dilation(fluid, iterations=3) & brain


def _picture(out: Path, scan: np.ndarray, maps: dict[str, np.ndarray]) -> Picture:
    """Difference maps, each in its own colour scale."""
    volume, panels = to_model_grid(scan), [Panel("scan", to_model_grid(scan))]
    for name, found in maps.items():
        limit = max(float(np.percentile(np.abs(found), 99.8)), 1e-6)
        if name != "0 y":
            panels.append(Panel(f"{name}: change, limit {limit:.3g}", volume, True, to_model_grid(found), limit))
    three_planes(out / "pictures" / "one_scan.png", panels)
    return Picture("one_scan.png", "Decoded change in the scan's own unit; red brighter, blue darker.")
