"""A contact sheet of the cohort: four contrasts, and what age, disease and tumours do to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braing3n_core.schema import MODALITIES

from .anatomy import Anatomy, mni_to_voxel
from .render import render_visit
from .subjects import Subject, make_population

X_CROP, Y_CROP, Z_CROP = slice(8, 152), slice(10, 192), slice(8, 152)
BACKGROUND, INK, FAINT = "#101214", "#f0f0f0", "#9aa4ad"


@dataclass(frozen=True)
class Column:
    """One subject of the sheet."""

    title: str
    subject: Subject

    @property
    def place(self) -> tuple[int, int]:
        """Indices of the axial and the coronal slice: through the tumour, else ventricles and hippocampus."""
        lesion = self.subject.tumour
        axial = coronal = mni_to_voxel(np.array(lesion.centre_mm if lesion else (0, -22, 12)))
        return int(round(axial[2])), int(round(coronal[1]))


def columns(anatomy: str, seed: int = 7) -> list[Column]:
    """Six people of one cohort who show the range."""
    people = make_population(1500, 1, seed, (anatomy,))
    shown: list[tuple[str, float, Callable[[Subject], bool]]] = [
        ("healthy", 25, lambda s: s.disease == "HC"),
        ("healthy", 55, lambda s: s.disease == "HC"),
        ("healthy", 82, lambda s: s.disease == "HC"),
        ("AD", 82, lambda s: s.disease == "AD"),
        ("GBM", 60, lambda s: s.disease == "GBM"),
        ("glioma, IDH1 mutant", 42, lambda s: s.idh1 == "mutant"),
    ]
    found = []
    for title, age_years, wanted in shown:
        subject = min((s for s in people if wanted(s)), key=lambda s: _distance(s, age_years))
        found.append(Column(f"{title}, {subject.age_years:.0f} y", subject))
    return found


def draw_sheet(anatomy: Anatomy, out: Path) -> Path:
    """Render the six people and write the sheet as PNG, radiological: the patient's left is on the viewer's right."""
    from matplotlib import pyplot as plt

    people = columns(anatomy.name)
    figure, axes = plt.subplots(
        len(MODALITIES), 2 * len(people), figsize=(16, 6.1), facecolor=BACKGROUND, squeeze=False,
        gridspec_kw={"width_ratios": [144, 144] * len(people), "wspace": 0.02, "hspace": 0.03},
    )
    figure.subplots_adjust(left=0.035, right=0.998, top=0.90, bottom=0.035)
    for j, column in enumerate(people):
        volumes, _ = render_visit(anatomy, column.subject, 0)
        for i, modality in enumerate(MODALITIES):
            _show(axes[i, 2 * j], axes[i, 2 * j + 1], volumes[modality], column.place)
        box = axes[0, 2 * j].get_position()
        figure.text(box.x1, 0.915, column.title, color=INK, ha="center", fontsize=11)
    for i, modality in enumerate(MODALITIES):
        box = axes[i, 0].get_position()
        middle = (box.y0 + box.y1) / 2
        figure.text(0.018, middle, modality, color=INK, ha="center", va="center", rotation=90, fontsize=11)
    figure.text(0.035, 0.965, "Digital phantom cohort: SYNTHETIC brains, no patients", color=INK, fontsize=13)
    figure.text(0.998, 0.008, "axial (front up) and coronal; the left of the head is on the right", color=FAINT,
                ha="right", fontsize=9)
    return _save_small(figure, out)


def _distance(subject: Subject, age_years: float) -> float:
    """How far a subject is from a typical one of this age, scanned without blur."""
    typical = abs(subject.brain_age_gap_years) + 2 * abs(subject.offsets[0]) + 40 * subject.site.blur
    return 2 * abs(subject.age_years - age_years) + typical


def _show(left: object, right: object, volume: np.ndarray, place: tuple[int, int]) -> None:
    """Model-grid arrays run to the left, to the back and up; pictures run right and down."""
    axial, coronal = place
    top = float(np.percentile(volume[volume > 0], 99.6))
    options = {"cmap": "gray", "vmin": 0, "vmax": top, "interpolation": "bilinear"}
    left.imshow(volume[X_CROP, Y_CROP, axial].T, origin="upper", **options)  # type: ignore[attr-defined]
    right.imshow(volume[X_CROP, coronal, Z_CROP].T, origin="lower", **options)  # type: ignore[attr-defined]
    for axes in (left, right):
        axes.set_axis_off()  # type: ignore[attr-defined]


def _save_small(figure: object, out: Path) -> Path:
    """A grey picture needs a palette of 64 entries only."""
    import io

    from matplotlib import pyplot as plt
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, facecolor=BACKGROUND)  # type: ignore[attr-defined]
    plt.close(figure)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.open(buffer).convert("RGB").quantize(64).save(out, optimize=True)
    return out
