"""Memorisation audit: is any generated brain nearer to a training brain than two people are, and would we notice?"""

from __future__ import annotations

import numpy as np

from braing3n_core.memorisation import PERCENTILE, Audit, Reference, audit

from ..figures import Panel, Series, chart, three_planes
from ..study import Study
from ..table import HERE, PATIENTS, Cell, Picture, Table, rows_of
from .fidelity import sampled_rows

COLUMNS = (
    "samples", "number", "near and to one subject", "nearer than the limit", "nearest: median", "nearest: smallest",
    "limit", "share: smallest", "limit of the share", "row of",
)
PLANTED = 3
NOISE = 0.5
OTHERS = "other held-out subjects (the same audit)"


def compute(study: Study) -> Table:
    """Generated samples, planted copies (which must be found) and other subjects, against the training latents."""
    reference, what = _reference(study)
    rows, generated = _generated(study)
    found = {"generated": audit(generated, reference)}
    planted = _planted(reference.latents, found["generated"].limit)
    found["planted copies"] = audit(planted, reference)
    values = {f"{name}/copies": float(a.copies.sum()) for name, a in found.items()}
    values["planted copies/number"] = float(len(planted))
    cells = [_row(name, a) for name, a in found.items()]
    if study.training is not None:
        cells.append(_row(OTHERS, audit(_flat(study, rows), reference)))
    else:
        cells.append([OTHERS, 0, "needs --train-latents", *[None] * 6, HERE])
    cells.append(["generated", 1088, None, 0, None, None, "14.4 (other latents)", None, None, PATIENTS])
    notes = (
        f"Euclidean distance of latents to the nearest of {what}. The limit is the {PERCENTILE:g}th percentile of the "
        "distance of a training scan to the nearest scan of another subject: pairs of one subject do not count.",
        "Share: the distance to the nearest scan over that to the nearest of anybody else; its limit is the same "
        "percentile of training scans. A copy is near to one subject (both limits); a brain like the average, such as "
        "one drawn from less noise, is near to everybody.",
        f"Planted copies are training scans plus noise of {NOISE:g} of the limit; an audit that does not find all of "
        "them proves nothing. About 5 % of other subjects fall under each limit by its definition.",
    )
    return Table("memorisation", "Memorisation audit (paper, section 4.3)", study.label, COLUMNS, rows_of(cells), notes,
                 _pictures(study, found["generated"], generated, reference.latents), values)


def _reference(study: Study) -> tuple[Reference, str]:
    if study.training is not None:
        return Reference(*study.training), f"{len(study.training[0])} scans that the generator learnt from"
    rows = study.where(modality="T1")
    what = f"{len(rows)} held-out scans, since no training latents were given (--train-latents): no audit of training"
    return Reference(_flat(study, rows), study.subjects[rows]), what


def _generated(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """The T1 samples (m,F) of the fidelity table, and the rows whose conditions they have."""
    rows = sampled_rows(study)
    samples = study.generate([study.records[i] for i in rows])
    t1 = study.column("modality")[rows] == "T1"
    return rows[t1], samples[t1].reshape(int(t1.sum()), -1)


def _flat(study: Study, rows: np.ndarray) -> np.ndarray:
    return study.latents[rows].reshape(len(rows), -1)


def _planted(training: np.ndarray, limit: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(training), PLANTED, replace=False)
    noise = rng.normal(size=(PLANTED, training.shape[1]))
    return training[chosen] + NOISE * limit * noise / np.linalg.norm(noise, axis=1, keepdims=True)


def _row(name: str, compared: Audit) -> list[Cell]:
    found = compared.found
    return [name, len(found.distance), int(compared.copies.sum()), int(compared.near.sum()),
            float(np.median(found.distance)), float(found.distance.min()), compared.limit, float(found.share.min()),
            compared.share_limit, HERE]


def _pictures(
    study: Study, compared: Audit, generated: np.ndarray, training: np.ndarray
) -> tuple[Picture, ...]:
    found, real = compared.found, compared.real.distance
    closest = int(found.distance.argmin())
    shape = study.latents.shape[1:]
    pair = [study.decode(z.reshape(shape)) for z in (generated[closest], training[found.row[closest]])]
    panels = [Panel("the generated brain nearest to a training brain", pair[0], synthetic=True),
              Panel("that training brain, decoded", pair[1], synthetic=True)]
    three_planes(study.pictures / "memorisation.png", panels)
    grid = np.linspace(0.02, 0.98, 40)
    chart(study.pictures / "memorisation_distances.png", [
        Series("generated to nearest training", np.quantile(found.distance, grid), grid, line=True),
        Series("training to nearest other subject", np.quantile(real, grid), grid, line=True),
    ], ("distance of latents", "share of scans below"))
    return (Picture("memorisation.png", "The pair with the smallest distance of the audit."),
            Picture("memorisation_distances.png", "Distances of generated and real scans to their nearest neighbour."))
