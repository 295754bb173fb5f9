"""Fidelity: distances between generated, reconstructed and real scans, always beside two real sets of the same size.

Every comparison is between N scans of one half of the subjects and N of the other, so that the number of scans, and
with it the bias of the Frechet distance, is the same in every column; halves are drawn again and again.
Legend: n scans, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..features import EncoderFeatures, Features, SliceFeatures, rescaled
from ..figures import Panel, bars, three_planes
from ..metrics.crossval import random_halves
from ..metrics.distances import frechet_distance, kernel_distance, standardised
from ..study import Study, Ticker, save_arrays, spread
from ..table import HERE, PATIENTS, Cell, Picture, Table, rows_of

Distance = Callable[[np.ndarray, np.ndarray], float]
SETS = ("real", "recons", "gen")
PAIRS = (("gen", "real"), ("gen", "recons"), ("recons", "real"), ("real", "real"))
COLUMNS = (
    "arm", "features", "N", "FD gen-real", "FD gen-recons", "FD recons-real", "FD real-real (floor)",
    "gen-recons over floor", "KID gen-real", "KID gen-recons", "KID recons-real", "KID real-real", "row of",
)
PAPER: list[Cell] = [
    "all, 14 arms pooled", "Inception-V3, 3 views", "64 an arm", "107.3", "34.4", "77.4", *[None] * 6, PATIENTS,
]
SMALLEST = 16


def compute(study: Study) -> Table:
    """Per feature extractor: T1 pooled, by disease, and the other contrasts, where there are enough scans."""
    rows = sampled_rows(study)
    cells: list[list[Cell]] = []
    values: dict[str, float] = {}
    sets = {which: features(study, rows, which) for which in SETS}
    for extractor in sets["real"]:
        for name, chosen in _arms(study, rows):
            cells.append(_row(study, (name, extractor), {which: of[extractor][chosen] for which, of in sets.items()},
                              study.subjects[rows[chosen]], values))
    return Table("fidelity", "Fidelity (paper, Table 4)", study.label, COLUMNS, rows_of([*cells, PAPER]), _notes(study),
                 _pictures(study, rows, values), values)


def _notes(study: Study) -> tuple[str, ...]:
    return (
        f"N scans of one half of the subjects against N of the other; mean (standard deviation) over "
        f"{study.settings.halves} random halves. One sample is generated under the conditions of each real scan: "
        f"{study.drawn_how}.",
        "Features are divided by their standard deviation over the real scans. FD: Frechet distance. KID: unbiased "
        "kernel distance, 0 for equal distributions. FD of different features, or of different N, cannot be compared.",
        "Own encoder: blind where the encoder is blind. `--features FILE` adds any local TorchScript network, such as "
        "the paper's Inception-V3, whose weights are not part of this repository.",
    )


def sampled_rows(study: Study) -> np.ndarray:
    """First visits, every contrast, at most ``fidelity`` of each."""
    parts = []
    for modality in study.settings.contrasts:
        first = study.first_visits(modality)
        if len(first):
            parts.append(first[spread(len(first), study.settings.fidelity)])
    return np.concatenate(parts)


def _arms(study: Study, rows: np.ndarray) -> list[tuple[str, np.ndarray]]:
    modality, disease = study.column("modality")[rows], study.column("disease")[rows]
    arms = [("T1", np.flatnonzero(modality == "T1"))]
    arms += [(f"T1, {d}", np.flatnonzero((modality == "T1") & (disease == d))) for d in sorted({*disease} - {None})]
    arms += [(str(m), np.flatnonzero(modality == m)) for m in study.settings.contrasts if m != "T1"]
    large = [(name, chosen) for name, chosen in arms if len(chosen) >= SMALLEST]
    return large or [arm for arm in arms if len(arm[1]) >= 4]


def extractors_of(study: Study) -> tuple[Features, ...]:
    """Those that are always there, and those that were given."""
    return (EncoderFeatures(study.inference), SliceFeatures(), *study.extractors)


def features(study: Study, rows: np.ndarray, which: str, truncation: float | None = None) -> dict[str, np.ndarray]:
    """By extractor, features (n,F) of one of :data:`SETS`, one a row; kept between runs. truncation: of ``gen``."""
    extractors = extractors_of(study)
    key = [study.fingerprint["checkpoint"], study.fingerprint["records"], [e.name for e in extractors], rows.tolist()]
    drawing = [*study.settings.drawing(study.settings.guidance_scale), truncation] if which == "gen" else []
    path = study.cache_path("features", [*key, which, *drawing])
    if not path.is_file():
        volumes, ticker = _volumes(study, rows, which, truncation), Ticker(f"features of {which}", len(rows))
        made: list[list[np.ndarray]] = []
        for volume in volumes:
            made.append([e.of(rescaled(volume)) for e in extractors])
            ticker(len(made))
        save_arrays(path, **{f"{k}": np.stack(column) for k, column in enumerate(zip(*made, strict=True))})
    with np.load(path) as found:
        return {e.name: found[f"{k}"].astype(np.float64) for k, e in enumerate(extractors)}


def _volumes(study: Study, rows: np.ndarray, which: str, truncation: float | None) -> Iterator[np.ndarray]:
    """One of :data:`SETS`, a volume (X,Y,Z) a row."""
    if which == "real":
        return (study.volume(int(i)) for i in rows)
    if which == "recons":
        return (study.decode(study.latents[i]) for i in rows)
    drawn = study.generate([study.records[i] for i in rows], truncation=truncation)
    return (study.decode(latents) for latents in drawn)


def compared(sets: dict[str, np.ndarray], subjects: np.ndarray, halves: int) -> tuple[int, dict[str, list[float]]]:
    """How many scans N a side had, and by kind and pair (``FD/gen/recons``) the distance of every two halves of the
    subjects. sets: features (n,F) of each of :data:`SETS`.
    """
    scaled = dict(zip(SETS, standardised(*(sets[which] for which in SETS)), strict=True))
    found: dict[str, list[float]] = {}
    size = 0
    for first, second in random_halves(subjects, halves):
        size = len(first)
        for a, b in PAIRS:
            for kind, distance in (("FD", frechet_distance), ("KID", kernel_distance)):
                found.setdefault(f"{kind}/{a}/{b}", []).append(distance(scaled[a][second], scaled[b][first]))
    return size, found


def over_floor(found: dict[str, list[float]]) -> float:
    """The Frechet distance of generated from reconstructed scans over that of two sets of real ones."""
    return float(np.mean(found["FD/gen/recons"]) / np.mean(found["FD/real/real"]))


def _row(
    study: Study, names: tuple[str, str], sets: dict[str, np.ndarray], subjects: np.ndarray, values: dict[str, float]
) -> list[Cell]:
    size, found = compared(sets, subjects, study.settings.halves)
    cells = {key: f"{np.mean(v):.3g} ({np.std(v):.2g})" for key, v in found.items()}
    for key, v in found.items():
        values["/".join((*names, key))] = float(np.mean(v))
    ratio = values["/".join((*names, "over floor"))] = over_floor(found)
    return [*names, size, *(cells[f"FD/{a}/{b}"] for a, b in PAIRS), ratio,
            *(cells[f"KID/{a}/{b}"] for a, b in PAIRS), HERE]


def _pictures(study: Study, rows: np.ndarray, values: dict[str, float]) -> tuple[Picture, ...]:
    generated = study.generate([study.records[i] for i in rows])
    chosen = np.linspace(0, len(rows) - 1, min(3, len(rows))).astype(int)
    panels = []
    for k in chosen:
        record, i = study.records[rows[k]], int(rows[k])
        name = f"{record['modality']}, {record['disease']}, {record['sex']}, {record['age_years']:.0f} y"
        panels += [Panel(f"scan: {name}", study.volume(i)),
                   Panel("generated", study.decode(generated[k]), synthetic=True)]
    three_planes(study.pictures / "fidelity.png", panels)
    names = [k.removesuffix("/over floor") for k in values if k.endswith("/over floor")]
    groups = [
        (f"{a}-{b}", [values[f"{n}/FD/{a}/{b}"] / values[f"{n}/FD/real/real"] for n in names]) for a, b in PAIRS[:3]
    ]
    label = "Frechet distance over its real-vs-real floor"
    bars(study.pictures / "fidelity_floor.png", names, groups, label, ratios=True)
    return (Picture("fidelity.png", "Real scans, and other brains generated under their conditions."),
            Picture("fidelity_floor.png", "1 is what two sets of real scans of this size differ by."))
