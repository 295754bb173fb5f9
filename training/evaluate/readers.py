"""Held-out probes: linear read-outs fitted on real scans that the generator never saw, to judge what it makes.

Legend: n, m scans, N = 1200 tokens, C latent channels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from braing3n_core.errors import RequestError
from braing3n_core.probes import softmax, two_sided

from ..fit_few import fit_few
from ..fit_linear import FOLDS, LinearFit, fit_logistic, fit_ridge, log_loss
from ..fit_probes import fit_by_channel
from ..latents import LatentSet
from ..store import Record, subject_keys
from .metrics.change import folds_of
from .metrics.scores import balanced_accuracy, correlation, macro_auc


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear probe of ``task`` on flattened latents.

    share (K,): of each class among the scans that it was fitted on. truth (n,), unseen (n,) or (n,K): of real scans
    that it had not seen, and what it read there. fitted_on: in words.
    """

    task: str
    classes: tuple[str, ...]
    fit: LinearFit
    share: np.ndarray
    truth: np.ndarray
    unseen: np.ndarray
    fitted_on: str = ""

    def values(self, latents: np.ndarray) -> np.ndarray:
        """Numbers (m,) or class probabilities (m,K) of latents (m,N,C)."""
        flat = np.asarray(latents, np.float32).reshape(len(latents), -1)
        scores = flat @ self.fit.weights.T.astype(np.float32) + self.fit.bias
        return softmax(two_sided(scores)) if self.classes else scores.reshape(len(latents))

    def named(self, latents: np.ndarray) -> np.ndarray:
        """The class (m,) of latents (m,N,C)."""
        return self._judged(self.values(latents))

    def _judged(self, shares: np.ndarray) -> np.ndarray:
        """The class (m,) whose probability (m,K) is furthest above its share of the scans fitted on.

        A probe of forty healthy and eight ill scans says that everybody is healthy; among as many of each, which is
        what is asked of a generator and what balanced accuracy counts, this is the best answer.
        """
        return np.array(self.classes)[(shares / self.share).argmax(1)]

    @property
    def quality(self) -> float:
        """On real scans it had not seen: balanced accuracy of classes, r of numbers. No generator is read better."""
        if not self.classes:
            return correlation(self.truth, self.unseen)
        return balanced_accuracy(self.truth, self._judged(self.unseen))

    @property
    def auc(self) -> float:
        """Macro AUC on real scans it had not seen."""
        return macro_auc(self.truth, self.unseen, self.classes)

    def tried_on(self, scans: LatentSet) -> Reader:
        """The same with its quality on these scans, where there are enough of every class to say."""
        truth = np.array([record[self.task] for record in scans.records])
        if len(np.unique(truth)) < 2 or fewest_subjects(scans.records, truth, self.classes) < FOLDS:
            return self
        return replace(self, truth=truth, unseen=self.values(scans.latents.numpy()))


@dataclass(frozen=True, eq=False)
class Readers:
    """Every held-out probe of a study, each fitted once.

    evaluated: its scans. others: further real scans, of people who are not among the evaluated. Where those carry a
    label often enough the probe is fitted on them and has seen none of the evaluated; elsewhere on the evaluated.
    """

    evaluated: LatentSet
    others: LatentSet | None = None
    _kept: dict[Any, Reader | None] = field(init=False, default_factory=dict)

    def of(self, task: str, among: Mapping[str, str], classes: Sequence[str] = ()) -> Reader | None:
        """The probe of ``task`` by scans with the labels ``among``; None where nobody has enough of them."""
        return self._by_others(task, among, classes) or self._by_evaluated(task, self.evaluated.where(**among), classes)

    def apart(
        self, task: str, among: Mapping[str, str], rows: np.ndarray, classes: Sequence[str] = ()
    ) -> list[tuple[np.ndarray, Reader]]:
        """Places in ``rows`` (of the evaluated) with a probe that has not seen their subjects: a probe knows the scans
        it was fitted on too well to be moved. Empty when the other subjects are too few.
        """
        reader = self._by_others(task, among, classes)
        if reader is not None:
            return [(np.arange(len(rows)), reader)]
        everyone = np.array(self.evaluated.where(**among), int)
        fold = folds_of(np.array([str(r["subject"]) for r in self.evaluated.records]), FOLDS)
        parts: list[tuple[np.ndarray, Reader]] = []
        for k in np.unique(fold[rows]):
            reader = self._by_evaluated(task, everyone[fold[everyone] != k], classes)
            if reader is None or (parts and reader.classes != parts[0][1].classes):
                return []
            parts.append((np.flatnonzero(fold[rows] == k), reader))
        return parts

    def _by_others(self, task: str, among: Mapping[str, str], classes: Sequence[str]) -> Reader | None:
        if self.others is None:
            return None
        reader = self._once(self.others, task, self.others.where(**among), classes, "others")
        if reader is None:
            return None
        return reader.tried_on(comparable(self.evaluated.rows(self.evaluated.where(**among)), task, reader.classes))

    def _by_evaluated(self, task: str, rows: Sequence[int] | np.ndarray, classes: Sequence[str]) -> Reader | None:
        return self._once(self.evaluated, task, rows, classes, "of these")

    def _once(
        self, scans: LatentSet, task: str, rows: Sequence[int] | np.ndarray, classes: Sequence[str], whose: str
    ) -> Reader | None:
        key = (whose, task, tuple(classes), tuple(int(i) for i in rows))
        if key not in self._kept:
            reader = fit_reader(task, scans.rows([int(i) for i in rows]), tuple(classes))
            self._kept[key] = reader and replace(reader, fitted_on=f"{reader.fitted_on} {whose}")
        return self._kept[key]


def fit_reader(task: str, scans: LatentSet, classes: tuple[str, ...] = ()) -> Reader | None:
    """A probe of a label, or of these words of it, tried out of fold; None when there are not enough subjects, of
    every class, for five folds.
    """
    scans = comparable(scans, task, classes)
    subjects = np.array([str(record["subject"]) for record in scans.records])
    if len(np.unique(subjects)) < FOLDS:
        return None
    values, latents, count = [r[task] for r in scans.records], scans.latents.numpy(), str(len(subjects))
    if isinstance(values[0], str):
        words = np.array(values)
        names = tuple(np.unique(words).tolist())
        if len(names) < max(2, len(classes)) or fewest_subjects(scans.records, words, names) < FOLDS:
            return None
        # Some labels show a little everywhere, some in two tokens alone: out of fold it is seen which.
        fits = (fit_by_channel(fit_logistic, latents, words, subjects),
                fit_few(latents.reshape(len(latents), -1), words, subjects))
        fit = min(fits, key=lambda f: log_loss(f.out_of_fold, words, names))
        share = np.array([(words == name).mean() for name in names])
        return Reader(task, names, fit, share, words, softmax(two_sided(fit.out_of_fold)), count)
    y = np.array(values, float)
    if y.std() == 0:
        return None
    fit = fit_by_channel(fit_ridge, latents, y, subjects)
    return Reader(task, (), fit, np.ones(0), y, fit.out_of_fold, count)


def fewest_subjects(records: Sequence[Record], words: np.ndarray, names: Sequence[str]) -> int:
    """How many subjects the rarest of these words (n,) has; of no words, all subjects."""
    subjects = np.array([str(record["subject"]) for record in records])
    return min((len(np.unique(subjects[words == name])) for name in names), default=len(np.unique(subjects)))


def comparable(scans: LatentSet, task: str, classes: Sequence[str] = ()) -> LatentSet:
    """The scans with this label, or one of these words of it, at ages that all of its words have: else a probe tells
    the old from the young in the place of the ill from the healthy.
    """
    labels = [record.get(task) for record in scans.records]
    rows = [i for i, value in enumerate(labels) if (value in classes if classes else value is not None)]
    return scans.rows(of_common_ages(scans.records, rows, task))


def of_common_ages(records: Sequence[Record], rows: Sequence[int], label: str) -> list[int]:
    """Those of the rows whose age lies within the ages of every word of the label; all rows of a label in numbers, and
    those without an age.
    """
    ages: dict[str, list[float]] = {}
    for i in rows:
        if isinstance(records[i][label], str) and records[i].get("age_years") is not None:
            ages.setdefault(records[i][label], []).append(float(records[i]["age_years"]))
    low, high = max(map(min, ages.values()), default=0), min(map(max, ages.values()), default=math.inf)
    return [i for i in rows if (age := records[i].get("age_years")) is None or low <= age <= high]


def require_others(others: LatentSet, evaluated: Sequence[Record]) -> None:
    """Raises RequestError when somebody is both evaluated and among those whom held-out probes are fitted on."""
    both = set(subject_keys(others.records).values()) & set(subject_keys(evaluated).values())
    if both:
        raise RequestError(
            "evaluate.readers", f"{len(both)} of the people of --reader-latents are evaluated too: a probe knows the "
            "scans that it was fitted on by heart.", "Give latents of other people, who were not trained on either.",
        )
