"""Edits of one scan: identity at nothing, growth with the horizon, place of the change, seams, repeatability.

    python -m training.evaluate.editing SCAN.nii.gz [--checkpoint small] [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from braing3n_core import Conditions, CounterfactualRequest, Engine, ForecastRequest, Volume
from braing3n_core.atlas import to_model_grid
from braing3n_core.outcomes import Encoded, Rendered

from .bench import show
from .reconstruction import seam_ratio

HORIZONS_YEARS = (0.0, 1.0, 2.0, 5.0, 10.0)


def near_fluid(scan: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Voxels within 3 mm of the darkest tenth of a T1 brain: ventricles and sulci, bool (X,Y,Z)."""
    from scipy import ndimage

    fluid = brain & (scan < np.quantile(scan[brain], 0.1))
    return ndimage.binary_dilation(fluid, iterations=3) & brain


def evaluate(engine: Engine, encoded: Encoded, name: str) -> list[tuple[str, object]]:
    """The numbers of one scan; differences are means over the brain in percent of its 1st to 99th percentile range."""
    preprocessed = encoded.preprocessed
    brain = preprocessed.mask.array > 0
    scan = preprocessed.volume.array
    low, high = np.quantile(scan[brain], [0.01, 0.99])

    def change(rendered: Rendered) -> float:
        return float(100 * np.abs(rendered.atlas_difference.array[brain]).mean() / (high - low))

    request = CounterfactualRequest(name)
    null = engine.counterfactual(encoded, request)
    edit = engine.counterfactual(encoded, CounterfactualRequest(name, target=Conditions(disease="AD")))
    again = engine.counterfactual(encoded, CounterfactualRequest(name, target=Conditions(disease="AD")))
    forecast = engine.forecast(encoded, ForecastRequest(name, horizons_years=HORIZONS_YEARS))
    shares = [change(p.rendered) for p in forecast.points]
    last = np.abs(forecast.points[-1].rendered.atlas_difference.array)
    near = near_fluid(scan, brain)
    decoded = torch.from_numpy(to_model_grid(engine.reconstruct(encoded).rendered.atlas.array))
    inside = torch.from_numpy(to_model_grid(brain))
    rows: list[tuple[str, object]] = [
        ("scan", name),
        ("native grid kept", bool(edit.rendered.native.same_grid(preprocessed.native))),
        ("null edit equals the input voxel for voxel",
         bool(np.array_equal(null.rendered.native.array, preprocessed.native.array))),
        ("same seed, same voxels", bool(np.array_equal(edit.rendered.native.array, again.rendered.native.array))),
        ("AD edit: mean change in the brain (% of range)", change(edit.rendered)),
    ]
    rows += [(f"forecast {p.horizon_years:g} y: mean change in the brain (% of range)", s)
             for p, s in zip(forecast.points, shares, strict=True)]
    return [
        *rows,
        ("grows strictly with the horizon", bool(np.all(np.diff(shares) > 0))),
        ("10 y change near ventricles and sulci over elsewhere", float(last[near].mean() / last[brain & ~near].mean())),
        ("seam ratio of the decoded scan", seam_ratio(decoded, inside)),
        ("seam ratio of the 10 y difference map",
         seam_ratio(torch.from_numpy(to_model_grid(forecast.points[-1].rendered.atlas_difference.array)), inside)),
        ("seam ratio of the AD difference map",
         seam_ratio(torch.from_numpy(to_model_grid(edit.rendered.atlas_difference.array)), inside)),
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--checkpoint", default="small")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engine = Engine(options.checkpoint)
    encoded = engine.encode(engine.preprocess(Volume.load(options.scan, "T1")))
    show(evaluate(engine, encoded, options.scan.name), options.json)


if __name__ == "__main__":
    main()
