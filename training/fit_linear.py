"""Fit linear probes on many features and few scans by the dual (Gram) solution, exactly.

Legend: n scans, F features (38,400 for flattened latents), K outputs. The Gram matrix of a data set is computed once
and serves every task; cross-validation is grouped by subject (paper, "Probing": 5 folds, seed 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from braing3n_core.errors import RequestError
from braing3n_core.probes import Familiarity, LinearProbe, softmax, two_sided

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

FOLDS = 5
SEED = 2025
Folds = list[tuple[np.ndarray, np.ndarray]]
QUANTILES = 201
"""Of the distance of held-out scans, from which a new scan gets its percentile."""
# Penalties relative to the mean squared norm of a centred scan, so that one grid serves any features.
ALPHAS: tuple[float, ...] = tuple(float(10.0**e) for e in np.arange(-4, 2.01, 0.5))
INVERSE_PENALTIES: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True)
class Design:
    """Features (n,F) float32 with their centred Gram matrix (n,n) float64, to be shared by many fits."""

    features: np.ndarray
    gram: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Design:
        """Compute the Gram matrix, in blocks of columns so that float32 products are summed in float64."""
        gram = np.zeros((len(features), len(features)))
        for start in range(0, features.shape[1], 4096):
            block = features[:, start : start + 4096].astype(np.float32)
            block = block - block.mean(0)
            gram += block @ block.T
        return cls(features, gram)

    def subset(self, rows: np.ndarray) -> Design:
        """The scans ``rows``, centred on their own mean, without touching the features again."""
        return Design(self.features[rows], centred_gram(self.gram[np.ix_(rows, rows)]))

    @property
    def mean_square(self) -> float:
        """Mean squared norm of a centred scan: the unit of the penalties."""
        return float(np.trace(self.gram) / len(self.gram))


@dataclass(frozen=True)
class LinearFit:
    """weights (K,F) float32 and bias (K,) on raw features; penalty: the chosen one, absolute (alpha, or C).

    out_of_fold: (n,) predictions or (n,K) logits of scans that the fit had not seen.
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: float
    out_of_fold: np.ndarray
    classes: tuple[str, ...] = ()

    def rescaled(self, factors: np.ndarray) -> LinearFit:
        """The same fit for features that are not yet multiplied by ``factors`` (F,)."""
        return replace(self, weights=(self.weights * factors).astype(np.float32))


def fit_ridge(
    data: Design | np.ndarray, y: np.ndarray, groups: np.ndarray, alphas: Sequence[float] = ALPHAS
) -> LinearFit:
    """Ridge regression of ``y`` (n,), the alpha chosen by grouped cross-validation on the squared error.

    alphas: relative to :attr:`Design.mean_square`. Equal to the primal solution to numerical precision.
    """
    data = data if isinstance(data, Design) else Design.of(data)
    y = np.asarray(y, dtype=np.float64)
    penalties = np.asarray(alphas) * data.mean_square
    predicted = np.empty((len(penalties), len(y)))
    for train, test in subject_folds(groups):
        predicted[:, test] = _dual_predictions(data.gram, y, train, test, penalties)
    best = int(np.argmin(np.square(predicted - y).mean(1)))
    dual = np.linalg.solve(data.gram + penalties[best] * np.eye(len(y)), y - y.mean())
    weights, mean = _to_features(data.features, dual[None])
    bias = y.mean() - weights.astype(np.float64) @ mean
    return LinearFit(weights, bias, float(penalties[best]), predicted[best])


def fit_logistic(
    data: Design | np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    inverse_penalties: Sequence[float] = INVERSE_PENALTIES,
) -> LinearFit:
    """Multinomial logistic regression, its C chosen by grouped, stratified cross-validation on the log loss.

    The features are rotated to the at most n dimensions that the scans span, which changes no solution of an L2
    penalty, and the weights are rotated back: exact at any F. inverse_penalties: relative as in :func:`fit_ridge`.
    """
    data = data if isinstance(data, Design) else Design.of(data)
    labels = np.asarray(labels).astype(str)
    classes = checked_classes(labels, groups)
    reduced, back = _reduced(data)
    folds = subject_folds(groups, labels)
    trials: list[np.ndarray] = []
    losses: list[float] = []
    for inverse_penalty in sorted(inverse_penalties):
        trials.append(_logistic_out_of_fold(reduced, labels, folds, inverse_penalty))
        losses.append(log_loss(trials[-1], labels, classes))
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break  # past the valley, where a weaker penalty fits longer and worse
    best = int(np.argmin(losses))
    chosen = sorted(inverse_penalties)[best]
    model = _logistic(chosen).fit(reduced, labels)
    weights, mean = _to_features(data.features, model.coef_ @ back)
    bias = model.intercept_ - weights.astype(np.float64) @ mean
    return LinearFit(weights, bias, chosen / data.mean_square, trials[best], classes)


def conformal_half_width(y: np.ndarray, out_of_fold: np.ndarray, level: float = 0.9) -> float:
    """Half-width of the interval that holds the truth of a new scan with probability at least ``level``.

    The finite-sample quantile of the absolute out-of-fold residuals; infinite when there are too few scans for it.
    """
    residuals = np.sort(np.abs(np.asarray(y, dtype=np.float64) - out_of_fold))
    rank = int(np.ceil((len(residuals) + 1) * level))
    return float(residuals[rank - 1]) if rank <= len(residuals) else float("inf")


def fit_temperature(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> float:
    """The temperature whose softmax of the out-of-fold ``logits`` (n,K) has the smallest log loss."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_t: log_loss(logits / np.exp(log_t), labels, classes), bounds=(-4.0, 4.0), method="bounded"
    )
    return float(np.exp(found.x))


def log_loss(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> float:
    """Mean negative log-likelihood of ``labels`` (n,) under ``logits`` (n,K), or (n,1) log-odds of two classes."""
    column = np.searchsorted(np.asarray(classes), np.asarray(labels).astype(str))
    shares = softmax(two_sided(logits))[np.arange(len(column)), column]
    return float(-np.log(np.maximum(shares, 1e-300)).mean())


def fit_familiarity(
    data: Design | np.ndarray, groups: np.ndarray, features: str = "latents", components: int = 16
) -> Familiarity:
    """The model of what training scans look like; limit and quantiles are of scans held out by subject."""
    data = data if isinstance(data, Design) else Design.of(data)
    held_out = [_held_out(data, train, test, components) for train, test in subject_folds(groups)]
    off = float(np.sqrt(np.mean(np.concatenate([outside for _, outside in held_out]))))
    within = np.concatenate([inside for inside, _ in held_out])
    outside = np.concatenate([outside for _, outside in held_out])
    distance = np.sqrt(within + outside / off**2)
    values, vectors = _top(data.gram, components)
    axes, mean = _to_features(data.features, (vectors / np.sqrt(values)).T)
    scales = np.sqrt(shrunk(values / len(data.gram), data.gram))
    return Familiarity(
        features, mean.astype(np.float32), axes, scales, off, float(np.quantile(distance, 0.99)),
        np.quantile(distance, np.linspace(0, 1, QUANTILES)),
    )


def shrunk(variances: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Variances (R,) of leading components shrunk towards their mean by the share of Ledoit and Wolf (2004).

    The share is that of the covariance of the scans' R leading scores, from the centred Gram matrix (n,n): few scans
    make the largest variances too large and the smallest too small, and a distance divides by them.
    """
    count, size = len(gram), len(variances)
    values, vectors = _top(gram, size)
    scores = vectors * np.sqrt(values)
    spread = values / count
    off_target = float(np.square(spread - spread.mean()).sum())
    noise = float((np.square(scores).sum(1) ** 2).sum() / count**2 - np.square(spread).sum() / count)
    share = min(max(noise / off_target, 0.0), 1.0) if off_target > 0 else 1.0
    return np.asarray((1 - share) * variances + share * variances.mean())


def regression_probe(task: str, features: str, fit: LinearFit, y: np.ndarray, **rest: Any) -> LinearProbe:
    """A probe from :func:`fit_ridge`, its interval and quality from the out-of-fold predictions.

    rest: further fields of :class:`LinearProbe` (unit, level).
    """
    y = np.asarray(y, dtype=np.float64)
    residuals = fit.out_of_fold - y
    quality = {
        "mae": float(np.abs(residuals).mean()), "r2": float(1 - np.square(residuals).mean() / y.var()), "n": len(y),
        "data": "out-of-fold, grouped by subject",
    }
    half_width = conformal_half_width(y, fit.out_of_fold, rest.get("level", 0.9))
    return LinearProbe(
        task, "regression", features, fit.weights, fit.bias.reshape(1), half_width=half_width, quality=quality, **rest
    )


def classification_probe(task: str, features: str, fit: LinearFit, labels: np.ndarray, **rest: Any) -> LinearProbe:
    """A probe from :func:`fit_logistic`, its temperature and quality from the out-of-fold logits."""
    from sklearn.metrics import roc_auc_score

    labels = np.asarray(labels).astype(str)
    temperature = fit_temperature(fit.out_of_fold, labels, fit.classes)
    shares = softmax(two_sided(fit.out_of_fold) / temperature)
    truth = labels[:, None] == np.asarray(fit.classes)
    quality = {
        "auc": float(roc_auc_score(truth, shares, average="macro")),
        "accuracy": float((shares.argmax(1) == truth.argmax(1)).mean()), "n": len(labels),
        "data": "out-of-fold, grouped by subject",
    }
    return LinearProbe(
        task, "classification", features, fit.weights, fit.bias, classes=fit.classes, temperature=temperature,
        quality=quality, **rest,
    )


def centred_gram(gram: np.ndarray) -> np.ndarray:
    """The Gram matrix (n,n) of the same scans after subtracting their mean."""
    rows = gram.mean(0)
    return gram - rows[None] - rows[:, None] + gram.mean()


def subject_folds(groups: np.ndarray, labels: np.ndarray | None = None) -> Folds:
    """Rows to fit on and rows to try, five times, no subject in both, stratified by the labels where there are any.

    Raises RequestError for too few subjects.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    count = len(np.unique(groups))
    if count < FOLDS:
        raise RequestError(
            "probe.subjects", f"Fitting needs at least {FOLDS} subjects, got {count}.", "Add subjects to the data."
        )
    if labels is None:
        return list(GroupKFold(FOLDS, shuffle=True, random_state=SEED).split(groups, groups=groups))
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    return list(splitter.split(groups, labels, groups))


def _cross_gram(gram: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Products (test, train) of scans that are all centred on the training mean."""
    inner, cross = gram[np.ix_(train, train)], gram[np.ix_(test, train)]
    return cross - cross.mean(1, keepdims=True) - inner.mean(0)[None] + inner.mean()


def _dual_predictions(
    gram: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, penalties: np.ndarray
) -> np.ndarray:
    """Predictions (penalties, test): one eigendecomposition serves every penalty."""
    values, vectors = np.linalg.eigh(centred_gram(gram[np.ix_(train, train)]))
    mean = y[train].mean()
    shrunk = (vectors.T @ (y[train] - mean))[None] / (np.maximum(values, 0)[None] + penalties[:, None])
    return mean + shrunk @ (_cross_gram(gram, train, test) @ vectors).T


def _reduced(data: Design) -> tuple[np.ndarray, np.ndarray]:
    """Scans (n,r) in the r dimensions they span, of mean squared norm 1, and (r,n): weights there -> dual weights."""
    values, vectors = np.linalg.eigh(data.gram)
    kept = values > values[-1] * 1e-9
    root, vectors = np.sqrt(values[kept]), vectors[:, kept]
    unit = np.sqrt(data.mean_square)
    return vectors * (root / unit), (vectors / (root * unit)).T


def _logistic(inverse_penalty: float) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=inverse_penalty, max_iter=1000, tol=1e-5)


def _logistic_out_of_fold(
    reduced: np.ndarray, labels: np.ndarray, folds: Folds, inverse_penalty: float
) -> np.ndarray:
    parts = []
    for train, test in folds:
        scores = _logistic(inverse_penalty).fit(reduced[train], labels[train]).decision_function(reduced[test])
        parts.append((test, scores.reshape(len(test), -1)))
    logits = np.empty((len(labels), parts[0][1].shape[1]))
    for test, scores in parts:
        logits[test] = scores
    return logits


def checked_classes(labels: np.ndarray, groups: np.ndarray) -> tuple[str, ...]:
    """The classes, in order; RequestError unless there are two or more, of enough subjects each."""
    classes = tuple(np.unique(labels).tolist())
    rare = [c for c in classes if len(np.unique(groups[labels == c])) < FOLDS]
    if rare or len(classes) < 2:
        raise RequestError(
            "probe.classes", f"Each of two or more classes needs {FOLDS} subjects; too rare: {rare or classes}.",
            "Leave the rare classes out or add subjects.",
        )
    return classes


def _to_features(features: np.ndarray, dual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Primal weights (K,F) float32 of dual ones (K,n) on centred scans, and the mean (F,) float64."""
    mean = features.mean(0, dtype=np.float64)
    weights = dual.astype(np.float32) @ features - dual.sum(1, keepdims=True) * mean
    return weights.astype(np.float32), mean


def _top(gram: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(gram)
    count = min(components, int((values > values[-1] * 1e-9).sum()))
    return values[-count:], vectors[:, -count:]


def _held_out(data: Design, train: np.ndarray, test: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Of held-out scans: mean squared whitened coordinate (test,), squared distance from the subspace (test,)."""
    inner, across = data.gram[np.ix_(train, train)], data.gram[np.ix_(test, train)]
    centred = centred_gram(inner)
    values, vectors = _top(centred, components)
    coordinates = _cross_gram(data.gram, train, test) @ (vectors / np.sqrt(values))
    norms = np.diag(data.gram)[test] - 2 * across.mean(1) + inner.mean()
    whitened = np.square(coordinates) / shrunk(values / len(train), centred)
    return whitened.mean(1), np.maximum(norms - np.square(coordinates).sum(1), 0)
