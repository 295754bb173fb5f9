"""Held-out probes: linear read-outs fitted on real scans that the generator never saw, to judge what it makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braing3n_core.probes import softmax, two_sided

from ..fit_linear import FOLDS, LinearFit, fit_logistic, fit_ridge
from ..fit_probes import fit_by_channel
from .metrics.scores import balanced_accuracy, correlation, macro_auc


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear probe of ``task`` on flattened latents. truth (n,), out_of_fold (n,) or (n,K): of the real scans."""

    task: str
    classes: tuple[str, ...]
    fit: LinearFit
    truth: np.ndarray
    out_of_fold: np.ndarray

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
        share = np.array([(self.truth == name).mean() for name in self.classes])
        return np.array(self.classes)[(shares / share).argmax(1)]

    @property
    def quality(self) -> float:
        """On real scans it had not seen: balanced accuracy of classes, r of numbers. No generator is read better."""
        if not self.classes:
            return correlation(self.truth, self.out_of_fold)
        return balanced_accuracy(self.truth, self._judged(self.out_of_fold))

    @property
    def auc(self) -> float:
        """Macro AUC on real scans it had not seen."""
        return macro_auc(self.truth, self.out_of_fold, self.classes)


def fit_reader(
    task: str, latents: np.ndarray, values: np.ndarray, subjects: np.ndarray, classes: tuple[str, ...]
) -> Reader | None:
    """None when there are not enough subjects, of every class, for five folds. latents: (n,N,C)."""
    if len(np.unique(subjects)) < FOLDS:
        return None
    if isinstance(values[0], str):
        words = values.astype(str)
        names = tuple(np.unique(words).tolist())
        counts = [len(np.unique(subjects[words == name])) for name in names]
        if len(names) < max(2, len(classes)) or min(counts) < FOLDS:
            return None
        fit = fit_by_channel(fit_logistic, latents, words, subjects)
        return Reader(task, names, fit, words, softmax(two_sided(fit.out_of_fold)))
    y = values.astype(float)
    if y.std() == 0:
        return None
    fit = fit_by_channel(fit_ridge, latents, y, subjects)
    return Reader(task, (), fit, y, fit.out_of_fold)
