"""How the age that was asked for is read again in brains, and what the same probes make of real scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...store import Record, matching
from ..metrics.scores import Estimate, bootstrap, correlation
from ..readers import Reader
from ..study import Study, follow

AGES_YEARS = (30.0, 50.0, 70.0)
HEALTHY = {"modality": "T1", "disease": "HC"}
"""Whose age is asked for and read: diseases look like age."""
BRAIN_AGE = "truth.brain_age_years"


@dataclass(frozen=True, eq=False)
class AgeJudge:
    """A probe of the age of the healthy in T1: values() of latents (m,N,C) in years (m,).

    truth (n,), unseen (n,): the ages of real scans that it had not seen, and what it read there.
    """

    kind: str
    values: Callable[[np.ndarray], np.ndarray]
    truth: np.ndarray
    unseen: np.ndarray


@dataclass(frozen=True, eq=False)
class AgeReading:
    """What a judge reads (m,) of brains that were asked for at ages ``asked`` (m,), from the noises ``noise`` (m,)."""

    judge: AgeJudge
    asked: np.ndarray
    read: np.ndarray
    noise: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """The mean age read where each of :data:`AGES_YEARS` was asked for."""
        return np.array([self.read[self.asked == a].mean() for a in AGES_YEARS])

    @property
    def r(self) -> float:
        return correlation(self.asked, self.read)

    def r_within(self, rounds: int) -> Estimate:
        """r with its interval over noises; rounds: of the bootstrap."""
        return bootstrap(lambda i: correlation(self.asked[i], self.read[i]), self.noise, rounds)

    def in_words(self, rounds: int) -> str:
        """``r .96 [.95, .97]; 31.9/49.6/71.5 (real scans r .95; 32.4/50.1/68.2)``; rounds: of the bootstrap."""
        scans = in_people(self.judge.truth, self.judge.unseen)
        return f"r {self.r_within(rounds)}; {slashed(self.means)}{f' (real scans {scans})' if scans else ''}"


@dataclass(frozen=True, eq=False)
class AgeInPeople:
    """What is read (3,) of people of each of :data:`AGES_YEARS`, and r at these ages.

    A probe draws ages towards their mean and people of one age differ, in brains as in scans: no generator that is as
    various as people is read with a larger r.
    """

    read: np.ndarray
    r: float

    def __str__(self) -> str:
        return f"r {self.r:.3g}; {slashed(self.read)}"


def in_people(age_years: np.ndarray, read: np.ndarray) -> AgeInPeople | None:
    """From what is read (n,) of people of these ages (n,): on the straight line through all of them, and as far off it
    as they are. None of people of one age alone.
    """
    if len(np.unique(age_years)) < 2:
        return None
    line = np.polyfit(age_years, read, 1)
    on_line = np.polyval(line, AGES_YEARS)
    apart = float(np.var(read - np.polyval(line, age_years)))
    return AgeInPeople(on_line, float(np.std(on_line) / np.sqrt(np.var(on_line) + apart)))


def true_brain_ages(records: Sequence[Record]) -> AgeInPeople | None:
    """What a probe without any error would read of the healthy; None where nobody knows their brain age."""
    healthy = [records[i] for i in matching(records, HEALTHY)]
    known = [(r["age_years"], age) for r in healthy if (age := follow(r, BRAIN_AGE)) is not None]
    return in_people(*np.array(known, float).T) if known else None


def slashed(ages: np.ndarray) -> str:
    """``31.9/49.6/71.5``."""
    return "/".join(f"{a:.1f}" for a in ages)


def bases_at(study: Study, age_years: float) -> list[Record]:
    """Healthy bases at one age."""
    bases = study.bases(study.settings.samples, ("HC",))
    return [{**r, **HEALTHY, "idh1": None, "age_years": age_years} for r in bases]


def readings(study: Study, scale: float | None = None, truncation: float | None = None) -> list[AgeReading]:
    """Of brains at :data:`AGES_YEARS`, from the same noises at each: by the held-out probe and the shipped one, as far
    as there are such.
    """
    brains = [study.generate(bases_at(study, a), scale, truncation=truncation) for a in AGES_YEARS]
    latents, counts = np.concatenate(brains), [len(b) for b in brains]
    asked, noise = np.repeat(AGES_YEARS, counts), np.concatenate([np.arange(count) for count in counts])
    return [AgeReading(judge, asked, judge.values(latents), noise) for judge in judges_of(study)]


def held_out(study: Study) -> Reader | None:
    """The held-out probe of the age of the healthy."""
    return study.readers.of("age_years", HEALTHY)


def judges_of(study: Study) -> list[AgeJudge]:
    """The held-out probe and the shipped one, as far as there are such."""
    found = []
    reader = held_out(study)
    if reader:
        found.append(AgeJudge("held-out", reader.values, reader.truth, reader.unseen))
    probe = study.shipped_probe("age")
    if probe is not None:
        rows = [i for i in study.where(**HEALTHY) if study.records[i].get("age_years") is not None]
        truth = np.array([float(study.records[i]["age_years"]) for i in rows])

        def values(latents: np.ndarray) -> np.ndarray:
            return probe.scores(latents.reshape(len(latents), -1))[:, 0]

        unseen = values(study.latents[rows]) if rows else truth
        found.append(AgeJudge("shipped", values, truth, unseen))
    return found
