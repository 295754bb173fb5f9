"""The labelled population of the phantom cohort: who they are, how they age, and the truth behind it.

Everything here is drawn from ``default_rng([seed, index])``; subject ``i`` is the same in a cohort of 3 or 3000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braing3n_core.errors import RequestError

DISEASES: tuple[str, ...] = ("HC", "MCI", "AD", "PD", "GBM", "glioma")
DISEASE_SHARES: tuple[float, ...] = (0.40, 0.12, 0.18, 0.10, 0.10, 0.10)
AGE_RANGES: dict[str, tuple[float, float]] = {
    "HC": (20, 90), "MCI": (55, 90), "AD": (55, 90), "PD": (55, 90), "GBM": (25, 80), "glioma": (25, 80),
}
SPEED: dict[str, float] = {"MCI": 1.5, "AD": 2.2, "PD": 1.2}
MAX_AGE_YEARS = 97.0
COMPONENTS: tuple[str, ...] = ("ventricle", "cortex", "sulci", "hippocampus", "wmh", "contrast")
SPREAD: dict[str, float] = {
    "ventricle": 0.40, "cortex": 0.10, "sulci": 0.04, "hippocampus": 0.13, "wmh": 0.10, "contrast": 0.12,
}
BRAIN_AGE_SD_YEARS = 3.0
DISEASE_EXTRA: dict[str, dict[str, float]] = {
    "AD": {"ventricle": 2.0, "hippocampus": 1.4, "temporal": 2.2, "horn": 0.9, "sulci": 0.12, "wmh": 0.08},
    "MCI": {"ventricle": 0.9, "hippocampus": 0.7, "temporal": 1.0, "horn": 0.4, "sulci": 0.05, "wmh": 0.04},
    "PD": {"ventricle": 0.3, "midbrain": 1.4, "nigra": 1.0},
}
TUMOUR_SITES_MM: dict[str, tuple[float, float, float]] = {
    "frontal": (28, 34, 18), "temporal": (44, -22, -8), "parietal": (30, -42, 36), "occipital": (25, -72, 12),
    "insular": (36, 4, 2),
}


@dataclass(frozen=True)
class Site:
    """One imaginary scanner. blur: 3-tap weight; noise, bias: fractions of white matter; tissue: sd of its means."""

    name: str
    blur: float
    noise: float
    bias: float
    gain: float
    tissue: tuple[float, float, float]


SITES: tuple[Site, ...] = (
    Site("phantom-1", 0.00, 0.020, 0.035, 1.00, (1.00, 1.00, 1.00)),
    Site("phantom-2", 0.06, 0.026, 0.045, 1.60, (1.03, 0.98, 1.10)),
    Site("phantom-3", 0.11, 0.018, 0.050, 0.70, (0.97, 1.02, 0.90)),
    Site("phantom-4", 0.03, 0.030, 0.040, 1.20, (1.02, 1.03, 1.20)),
)


@dataclass(frozen=True)
class Tumour:
    """One lesion. centre in MNI mm (RAS+), lengths in mm, growth of the radius in mm a year.

    enhancement: share of the full contrast uptake of its ring. mismatch: FLAIR signal lost inside (T2-FLAIR sign).
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float
    growth_mm: float
    necrosis: float
    enhancement: float
    oedema_mm: float
    mass_mm: float
    roughness: float
    mismatch: float


@dataclass(frozen=True)
class Visit:
    """One session: index from 0, age in years, clinical dementia rating."""

    index: int
    age_years: float
    cdr: float

    @property
    def name(self) -> str:
        return f"ses-{self.index + 1}"


@dataclass(frozen=True)
class Subject:
    """One person of the cohort and the truth about them.

    brain_age_gap_years: how far the brain is ahead at baseline. speed: true velocity of ageing, brain years a year.
    offsets: individual deviation of each atrophy component, in units of :data:`SPREAD`. severity: of the disease.
    sex_shift_mm: amplitude of the sex pattern.
    """

    index: int
    seed: int
    anatomy: str
    sex: str
    disease: str
    idh1: str | None
    site: Site
    visits: tuple[Visit, ...]
    brain_age_gap_years: float
    speed: float
    offsets: tuple[float, ...]
    severity: float
    sex_shift_mm: float
    tumour: Tumour | None

    @property
    def name(self) -> str:
        return f"sub-{self.index + 1:04d}"

    @property
    def age_years(self) -> float:
        """Age at the first visit."""
        return self.visits[0].age_years

    def brain_age_years(self, visit: int) -> float:
        """Age that the brain shows at a visit: age, the gap, and the integral of the speed since baseline."""
        return self.age_years + self.brain_age_gap_years + self.speed * self.elapsed_years(visit)

    def elapsed_years(self, visit: int) -> float:
        """Years since the first visit."""
        return self.visits[visit].age_years - self.age_years

    def amounts(self, visit: int) -> dict[str, float]:
        """Size of every effect at a visit, in mm or as a share; zero is the template itself."""
        normal, reference = normative(self.brain_age_years(visit)), normative(30.0)
        amounts = {k: normal[k] - reference[k] for k in COMPONENTS}
        for name, offset in zip(COMPONENTS, self.offsets, strict=True):
            amounts[name] += SPREAD[name] * offset
        progress = self.severity * (1 + 0.08 * self.speed * self.elapsed_years(visit))
        for name, extra in DISEASE_EXTRA.get(self.disease, {}).items():
            amounts[name] = amounts.get(name, 0.0) + extra * progress
        amounts["horn"] = amounts.get("horn", 0.0) + 0.12 * max(amounts["hippocampus"], 0.0)
        return {**amounts, "sex": self.sex_shift_mm}


def normative(brain_age_years: float) -> dict[str, float]:
    """The mean course of each component of healthy ageing. ``x`` is 0 at 20 and 1 at 90 years."""
    x = (brain_age_years - 20) / 70
    return {
        "ventricle": 0.9 * x + 3.6 * max(x, 0) ** 2,
        "cortex": 1.2 * x,
        "sulci": 0.15 + 0.62 * x,
        "hippocampus": 0.3 * x + 0.5 * max(x, 0) ** 2,
        "wmh": 0.9 * max(x - 0.25, 0) ** 1.5,
        "contrast": x,
    }


def make_population(subjects: int, visits: int, seed: int, anatomies: Sequence[str] = ("icbm152",)) -> list[Subject]:
    """The cohort: ``subjects`` people with ``visits`` sessions each, deterministic by seed.

    Raises :class:`RequestError` for an empty cohort.
    """
    if subjects < 1 or visits < 1 or not anatomies:
        raise RequestError(
            "phantom.empty", f"A cohort of {subjects} subjects, {visits} visits, {len(anatomies)} anatomies is empty.",
            "Ask for at least one of each.",
        )
    return [make_subject(index, visits, seed, anatomies) for index in range(subjects)]


def make_subject(index: int, visits: int, seed: int, anatomies: Sequence[str]) -> Subject:
    """Subject ``index`` of the population with this seed."""
    rng = np.random.default_rng([seed, index])
    disease = str(rng.choice(DISEASES, p=DISEASE_SHARES))
    age = float(rng.uniform(*AGE_RANGES[disease]))
    ahead, own = rng.standard_normal(2)
    severity = float(rng.uniform(0.75, 1.35))
    sex = str(rng.choice(["F", "M"]))
    idh1 = _idh1(disease, rng)
    drawn = np.random.default_rng([seed, index, 1])
    return Subject(
        index=index, seed=seed, anatomy=str(rng.choice(list(anatomies))), sex=sex, disease=disease, idh1=idh1,
        site=SITES[int(rng.integers(len(SITES)))], visits=_visits(age, visits, disease, severity, drawn),
        brain_age_gap_years=BRAIN_AGE_SD_YEARS * float(ahead),
        speed=SPEED.get(disease, 1.0) * max(1 + 0.25 * (0.5 * float(ahead) + 0.75**0.5 * float(own)), 0.2),
        offsets=tuple(rng.standard_normal(len(COMPONENTS)).tolist()), severity=severity,
        sex_shift_mm=float((1 if sex == "M" else -1) * 1.0 + 0.35 * rng.standard_normal()),
        tumour=_tumour(disease, idh1, rng),
    )


def _idh1(disease: str, rng: np.random.Generator) -> str | None:
    mutant = rng.random() < 0.8
    if disease == "GBM":
        return "wildtype"
    return ("mutant" if mutant else "wildtype") if disease == "glioma" else None


def _visits(age: float, count: int, disease: str, severity: float, rng: np.random.Generator) -> tuple[Visit, ...]:
    visits = [Visit(0, round(age, 2), _cdr(disease, severity, 0.0))]
    while len(visits) < count:
        last = visits[-1].age_years
        step = min(float(rng.uniform(1, 6)), max((MAX_AGE_YEARS - last) / 2, 0.25))
        now = round(last + step, 2)
        visits.append(Visit(len(visits), now, _cdr(disease, severity, now - age)))
    return tuple(visits)


def _cdr(disease: str, severity: float, elapsed_years: float) -> float:
    if disease == "MCI":
        return 0.5 if severity + 0.05 * elapsed_years < 1.5 else 1.0
    if disease == "AD":
        level = severity + 0.08 * elapsed_years
        return 0.5 if level < 0.85 else 1.0 if level < 1.2 else 2.0 if level < 1.6 else 3.0
    return 0.0


def _tumour(disease: str, idh1: str | None, rng: np.random.Generator) -> Tumour | None:
    shares = [0.65, 0.1, 0.1, 0.03, 0.12] if idh1 == "mutant" else [0.3, 0.3, 0.2, 0.1, 0.1]
    place = str(rng.choice(list(TUMOUR_SITES_MM), p=shares))
    side, jitter, u = rng.choice([-1, 1]), rng.standard_normal(3) * 4, rng.random(6)
    x, y, z = np.array(TUMOUR_SITES_MM[place]) * [side, 1, 1] + jitter
    centre = (float(x), float(y), float(z))
    if disease == "GBM":
        return Tumour(centre, 11 + 8 * u[0], 1 + 2 * u[1], 0.5 + 0.15 * u[2], 0.8 + 0.2 * u[3], 9 + 8 * u[4],
                      3 + 3 * u[5], 0.16, 0.0)
    if disease == "glioma" and idh1 == "mutant":
        return Tumour(centre, 13 + 9 * u[0], 0.5 + u[1], 0.0, 0.12 * u[3], 2 + 2 * u[4], 2 + 2 * u[5], 0.08,
                      0.4 + 0.4 * u[2])
    if disease == "glioma":
        return Tumour(centre, 12 + 8 * u[0], 0.8 + 1.5 * u[1], 0.15 * u[2], 0.15 + 0.3 * u[3], 5 + 5 * u[4],
                      2 + 2.5 * u[5], 0.2, 0.0)
    return None
