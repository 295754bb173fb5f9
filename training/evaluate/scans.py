"""How much the tokenizer keeps of real scans (paper, Table 5 on files): one row a scan, through the whole pipeline.

    python -m training.evaluate.scans SCAN.nii.gz... [--modality T1] [--stage stripped] [--checkpoint small]

Mean squared error of the z-scored volume over the grid and inside the brain, SSIM, PSNR by the volume's own range, and
the seam ratio, as in :mod:`training.evaluate.reconstruction`; trust says whether the probes find the scan familiar.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from braing3n_core import Engine, Volume
from braing3n_core.errors import BrainG3NError
from braing3n_core.inference import Inference
from braing3n_core.preprocess.intensity import to_model
from braing3n_core.schema import PreprocessOptions

from .reconstruction import volume_metrics

COLUMNS = ("mse", "mse_brain", "ssim", "psnr", "psnr_brain", "seam")
Row = dict[str, object]


def measure(engine: Engine, path: Path, options: PreprocessOptions) -> Row:
    """The numbers of one scan, or the reason why it has none."""
    try:
        encoded = engine.encode(engine.preprocess(Volume.load(path, options.modality), options))
    except BrainG3NError as error:
        return {"scan": path.name, "reason": str(error)}
    decoded = Inference(engine.parts).decode(encoded.latents)
    truth, _ = to_model(encoded.preprocessed.volume.array)
    metrics = volume_metrics(torch.from_numpy(truth), torch.from_numpy(decoded))
    familiar = all(reading.in_distribution for reading in engine.probe(encoded))
    return {"scan": path.name, **{name: metrics[name] for name in COLUMNS}, "familiar": familiar}


def table(rows: Sequence[Row]) -> str:
    """Aligned text, with the mean of the measured scans below."""
    width = max(len(str(row["scan"])) for row in rows) + 2
    lines = [f"{'scan':<{width}}" + "".join(f"{name:>12}" for name in (*COLUMNS, "familiar"))]
    for row in rows:
        if "reason" in row:
            lines.append(f"{row['scan']:<{width}}{row['reason']}")
        else:
            lines.append(f"{row['scan']:<{width}}" + _numbers(row) + f"{'yes' if row['familiar'] else 'no':>12}")
    measured = [row for row in rows if "reason" not in row]
    if len(measured) > 1:
        mean: Row = {name: float(np.mean([row[name] for row in measured])) for name in COLUMNS}  # type: ignore[misc]
        lines.append(f"{f'mean of {len(measured)}':<{width}}" + _numbers(mean))
    return "\n".join(lines)


def _numbers(row: Row) -> str:
    return "".join(f"{row[name]:>12.4f}" for name in COLUMNS)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--modality", default="T1")
    parser.add_argument("--stage", default="auto", help="native, stripped, registered ... (default: suggested)")
    parser.add_argument("--checkpoint", default="small")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    engine = Engine(options.checkpoint)
    how = PreprocessOptions(modality=options.modality, stage=options.stage)
    rows = []
    for path in options.scans:
        rows.append(measure(engine, path, how))
        print(table(rows[-1:]), flush=True)
    print(f"\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
