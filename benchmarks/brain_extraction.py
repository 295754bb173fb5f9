"""Brain extraction against the masks of HD-BET: Dice and seconds for each modality and backend that can run here.

python benchmarks/brain_extraction.py --data DIR [--backend mindgrab template] [--pictures DIR]

DIR is the folder of real test MRI (CONTRIBUTING.md). Each scan goes through N4 first, as in the pipeline. Whole heads
without a reference mask are listed with their brain's volume. CPU seconds count all threads and their waiting;
pictures show heads and must not be shared.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from braing3n_core.preprocess.brain import BrainExtractor, extractors
from braing3n_core.preprocess.intensity import n4_bias_field
from braing3n_core.preprocess.masks import dice, head_mask, volume_ml
from braing3n_core.preprocess.template import load_template
from braing3n_core.volume import Volume, stem

TUMOUR = "tumour_TCGA-FG-6692"
REFERENCED: dict[str, tuple[str, str]] = {
    "T1": ("sub-FG6692_T1w", "hdbet_mask_native_t1"),
    "T1C": ("sub-FG6692_ce-gadolinium_T1w", "hdbet_mask_native_t1c"),
    "T2": ("sub-FG6692_T2w", "hdbet_mask_native_t2"),
    "FLAIR": ("sub-FG6692_FLAIR", "hdbet_mask_native_fla"),
}
ROW = "{scan:<28} {backend:<10} {dice:>6} {ml:>8} {seconds:>8} {cpu:>8}"


def main() -> None:
    """Print the table."""
    arguments = parse()
    template = load_template(arguments.template)
    chosen = [e for name, e in extractors(template).items() if name in arguments.backend and usable(e)]
    print(ROW.format(scan="scan", backend="backend", dice="Dice", ml="ml", seconds="seconds", cpu="cpu s"))
    for modality, (scan, mask) in REFERENCED.items():
        folder = arguments.data / TUMOUR
        truth = Volume.load(folder / f"{mask}.nii.gz").array > 0.5
        report(modality, Volume.load(folder / f"{scan}.nii.gz"), chosen, truth, arguments.pictures)
    if arguments.all:
        for path in other_heads(arguments.data):
            report(stem(path), Volume.load(path), chosen, None, arguments.pictures)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("BRAING3N_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--backend", nargs="+", default=["hd-bet", "mindgrab", "template"])
    parser.add_argument("--template", help="stripped T1 on the SRI24 grid")
    parser.add_argument("--all", action="store_true", help="also the heads without a reference mask")
    parser.add_argument("--pictures", type=Path, help="folder for overlays")
    return parser.parse_args()


def usable(extractor: BrainExtractor) -> bool:
    """Whether it can run here; says why not."""
    can, why = extractor.available()
    if not can:
        print(f"{extractor.name} cannot run here: {why}")
    return can


def other_heads(data: Path) -> list[Path]:
    """Whole heads without a reference mask."""
    found = [*data.glob("whole_head_T1/**/*.nii.gz"), *data.glob("ms_patient01/study*.nii.gz")]
    return sorted(found)


def report(
    name: str, volume: Volume, chosen: list[BrainExtractor], truth: np.ndarray | None, pictures: Path | None
) -> None:
    """One line for each backend."""
    corrected = volume.with_array(volume.array / n4_bias_field(volume, head_mask(volume)).array)
    for extractor in chosen:
        wall, cpu = time.perf_counter(), time.process_time()
        mask = extractor.extract(corrected)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        overlap = "-" if truth is None else f"{dice(mask, truth):.3f}"
        size = f"{volume_ml(mask, volume.affine):.0f}"
        row = ROW.format(
            scan=name[:28], backend=extractor.name, dice=overlap, ml=size, seconds=f"{wall:.1f}", cpu=f"{cpu:.1f}"
        )
        print(row, flush=True)
        if pictures is not None:
            picture(pictures / f"{name}_{extractor.name}.png", corrected, mask, truth)


def picture(path: Path, volume: Volume, mask: np.ndarray, truth: np.ndarray | None) -> None:
    """Three planes with the found edge in red and the reference in green."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from braing3n_core.preprocess.spatial import isotropic_grid, resample

    shape, affine = isotropic_grid(volume, 2.0)
    grey, found, reference = (
        None if a is None else resample(a, volume.affine, shape, affine) for a in (volume.array, mask, truth)
    )
    places = np.argwhere(found > 0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(3, 5, figsize=(15, 9))
    for axis in range(3):
        for column, level in enumerate(np.percentile(places[:, axis], (3, 25, 50, 75, 97)).astype(int)):
            shown = axes[axis, column]
            shown.imshow(grey.take(level, axis).T, origin="lower", cmap="gray", vmax=np.percentile(grey, 99))
            for edge, colour in ((reference, "lime"), (found, "red")):
                if edge is not None and edge.take(level, axis).max() > 0:
                    shown.contour(edge.take(level, axis).T, [0.5], colors=colour, linewidths=0.8)
            shown.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=50)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
