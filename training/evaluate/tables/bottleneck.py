"""What the tokenizer keeps of a scan: error, PSNR and SSIM over the whole grid and in the brain, beside the paper's."""

from __future__ import annotations

import numpy as np
import torch

from ..figures import Panel, three_planes
from ..metrics.images import volume_metrics
from ..metrics.scores import Estimate, bootstrap
from ..study import Study, Ticker, spread
from ..table import HERE, PATIENTS, Cell, Picture, Table, rows_of

COLUMNS = ("model", "numbers", "scans", "MSE", "MSE, brain", "PSNR", "PSNR, brain", "SSIM", "seam", "data of the row")
PAPER = (
    ("AutoencoderKL, from scratch (paper)", "614K", ".093", "33.62", ".868"),
    ("MAE d=32, chosen (paper)", "38K", ".119", "32.54", ".859"),
    ("MAE d=128 (paper)", "154K", ".075", "34.60", ".912"),
    ("MAE d=512 (paper)", "614K", ".066", "35.16", ".921"),
    ("MAE, no projection (paper)", "1.4M", ".057", "35.79", ".932"),
)
METRICS = ("mse", "mse_brain", "psnr", "psnr_brain", "ssim", "seam")


def compute(study: Study) -> Table:
    """The table, and a scan beside its reconstruction."""
    rows = spread(len(study.records), study.settings.volumes)
    mean = np.mean([study.volume(int(i)) for i in rows[: min(len(rows), 30)]], axis=0)
    found: dict[str, list[dict[str, float]]] = {"ours": [], "mean image": []}
    ticker = Ticker("reconstructing", len(rows))
    for done, i in enumerate(rows):
        truth, decoded = torch.from_numpy(study.volume(int(i))), torch.from_numpy(study.decode(study.latents[i]))
        found["ours"].append(volume_metrics(truth, decoded))
        found["mean image"].append(volume_metrics(truth, torch.from_numpy(mean)))
        for other in study.reconstructors:
            found.setdefault(other.name, []).append(volume_metrics(truth, torch.from_numpy(other.of(truth.numpy()))))
        ticker(done + 1)
    subjects = study.subjects[rows]
    numbers = f"{study.latents[0].size / 1000:.3g}K"
    contrast = study.column("modality")[rows]
    ours = found["ours"]
    cells: list[list[Cell]] = [_row(study, "this checkpoint", numbers, ours, subjects)]
    for modality in dict.fromkeys(str(c) for c in contrast):
        own = np.flatnonzero(contrast == modality)
        cells.append(_row(study, f"this checkpoint, {modality}", numbers, [ours[k] for k in own], subjects[own]))
    for other in study.reconstructors:
        cells.append(_row(study, other.name, f"{other.numbers / 1000:.3g}K", found[other.name], subjects))
    cells.append(_row(study, "mean image of these scans", "0", found["mean image"], subjects))
    cells.append(["the scan itself (ceiling)", "4.9M", len(rows), 0.0, 0.0, "inf", "inf", 1.0,
                  float(np.mean([m["seam_truth"] for m in ours])), HERE])
    cells += [[n, k, None, mse, None, psnr, None, ssim, None, PATIENTS] for n, k, mse, psnr, ssim in PAPER]
    values = {m: float(np.mean([v[m] for v in ours])) for m in METRICS}
    values |= {f"{o.name}/{m}": float(np.mean([v[m] for v in found[o.name]])) for o in study.reconstructors
               for m in METRICS}
    return Table(
        "bottleneck", "Bottleneck and reconstruction (paper, Table 5)", study.label, COLUMNS, rows_of(cells), _notes(),
        _picture(study), values,
    )


def _notes() -> tuple[str, ...]:
    return (
        "Errors of z-scored volumes; PSNR by each volume's own range. Means over scans, 95 % intervals by a bootstrap "
        "over subjects. Seam: step across the 16-voxel patch borders over the step beside them, 1 is seamless.",
        "The paper's rows are on 1,100 tumour volumes of patients and cannot be compared number by number. Bottlenecks "
        "of other widths and AutoencoderKL are rows of their own where `--reconstructors` names them "
        "(training/runs/bottlenecks.sh trains them).",
    )


def _row(study: Study, name: str, numbers: str, found: list[dict[str, float]], subjects: np.ndarray) -> list[Cell]:
    def estimate(metric: str) -> Estimate:
        values = np.array([f[metric] for f in found])
        return bootstrap(lambda i: float(values[i].mean()), subjects, study.settings.bootstrap)

    return [name, numbers, len(found), *(estimate(m) for m in METRICS), HERE]


def _picture(study: Study) -> tuple[Picture, ...]:
    panels = []
    for modality in ("T1", "T1C", "T2", "FLAIR"):
        rows = study.where(modality=modality)
        if len(rows):
            i = int(rows[len(rows) // 2])
            panels += [Panel(f"{modality}: scan", study.volume(i)),
                       Panel("reconstruction", study.decode(study.latents[i]), synthetic=True)]
    three_planes(study.pictures / "bottleneck.png", panels)
    return (Picture("bottleneck.png", "A held-out scan of each contrast, and what its 1200 tokens keep of it."),)
