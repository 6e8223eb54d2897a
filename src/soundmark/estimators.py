"""Estimators that scikit-learn lacks: kernel machines whose scores are smooth, calibration by group, averages of heads.

They follow scikit-learn's contract (settings in `__init__`, `fit`, `classes_`, `predict_proba`), so pipelines, `clone`
and the exporter treat them like any other. All take X (n, dim) float32 and y (n,) of any sortable classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.covariance import ledoit_wolf
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

STEEPNESS = 4.0  # of a pairwise vote: a clip at the margin casts tanh(4) = 0.999 of it
PRECOMPUTED_CLIPS = 6000  # up to here the kernel of all training clips (n² doubles, 290 MB) is computed once


class KernelSVM(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Support vector machine with a radial kernel exp(-gamma |x - x'|²), each class against the rest.

    `decision_function` gives one smooth score per class. scikit-learn's `SVC` decides by pairs and counts their votes:
    of its step-like scores neither good probabilities can be made (the log loss is a quarter higher on ESC-50) nor an
    exact graph in single precision. The classes share one kernel matrix, so fitting takes no longer.

    Source: Rifkin and Klautau, "In defense of one-vs-all classification", JMLR 5, 2004.

    Args:
        C: weight of the errors against the width of the margin.
        gamma: the kernel's, or `scale` for 1 / (dim * variance of X).
        class_weight: None, or "balanced".
    """

    def __init__(self, C: float = 10.0, gamma: float | str = "scale", class_weight: str | None = None) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight

    def fit(self, X: np.ndarray, y: np.ndarray) -> KernelSVM:
        """Fit one machine per class; two classes share one."""
        X = np.asarray(X, dtype=np.float64)
        self.classes_, codes = np.unique(y, return_inverse=True)
        variance = float(X.var())
        self.gamma_ = float(self.gamma) if self.gamma != "scale" else 1.0 / (X.shape[1] * variance) if variance else 1.0
        shared = self._kernel(X, X) if len(X) <= PRECOMPUTED_CLIPS else None
        coefficients = np.zeros((len(X), 1 if len(self.classes_) == 2 else len(self.classes_)))
        self.intercept_ = np.zeros(coefficients.shape[1])
        for column in range(coefficients.shape[1]):
            positive = codes == (1 if len(self.classes_) == 2 else column)
            machine = SVC(
                C=self.C,
                kernel="rbf" if shared is None else "precomputed",
                gamma=self.gamma_,
                class_weight=self.class_weight,
                cache_size=500,
            ).fit(X if shared is None else shared, positive)
            coefficients[machine.support_, column] = machine.dual_coef_[0]
            self.intercept_[column] = machine.intercept_[0]
        kept = np.flatnonzero(coefficients.any(axis=1))
        self.support_vectors_, self.dual_coef_ = X[kept], coefficients[kept]
        return self

    def _kernel(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        squares = (X * X).sum(1)[:, None] + (Y * Y).sum(1)[None] - 2.0 * (X @ Y.T)
        kernel: np.ndarray = np.exp(-self.gamma_ * np.maximum(squares, 0.0))
        return kernel

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """(n, classes) scores; (n,) score of the second class where there are two."""
        X = np.asarray(X, dtype=np.float64)
        scores: np.ndarray = self._kernel(X, self.support_vectors_) @ self.dual_coef_ + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) class with the highest score."""
        return _decide(self.classes_, self.decision_function(X))


class LinearSVM(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear support vector machine, each class against each other, joined by smooth votes.

    A class's score is the sum of tanh(4 d) over the decisions d against every other class: nearly the vote count that
    makes pairwise machines good, yet continuous. (One against the rest, a linear machine cannot part one class
    from all others: 17 points of accuracy less on ESC-50.)

    Source: Hastie and Tibshirani, "Classification by pairwise coupling", Annals of Statistics 26, 1998.

    Args:
        C: weight of the errors against the width of the margin.
        class_weight: None, or "balanced".
    """

    def __init__(self, C: float = 1.0, class_weight: str | None = None) -> None:
        self.C = C
        self.class_weight = class_weight

    def fit(self, X: np.ndarray, y: np.ndarray) -> LinearSVM:
        """Fit a machine per pair of classes; `coef_` is (pairs, dim), a positive decision speaks for `pairs_[:, 0]`."""
        machine = SVC(
            C=self.C,
            kernel="linear",
            class_weight=self.class_weight,
            decision_function_shape="ovo",
            cache_size=500,
        ).fit(np.asarray(X, dtype=np.float64), y)
        self.classes_ = machine.classes_
        two = len(self.classes_) == 2  # then scikit-learn turns the sign, so that positive speaks for the second class
        self.pairs_ = np.array([[1, 0]]) if two else np.stack(np.triu_indices(len(self.classes_), k=1), axis=1)
        self.coef_, self.intercept_ = np.asarray(machine.coef_), np.asarray(machine.intercept_)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """(n, classes) scores; (n,) decision for the second class where there are two."""
        decisions = np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_
        if len(self.classes_) == 2:
            single: np.ndarray = decisions[:, 0]
            return single
        scores: np.ndarray = np.tanh(STEEPNESS * decisions) @ vote_matrix(self.pairs_, len(self.classes_))
        return scores

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) class with the highest score."""
        return _decide(self.classes_, self.decision_function(X))


def vote_matrix(pairs: np.ndarray, classes: int) -> np.ndarray:
    """(pairs, classes): +1 for the class a pair's positive decision speaks for, -1 for the other."""
    votes = np.zeros((len(pairs), classes))
    votes[np.arange(len(pairs)), pairs[:, 0]] = 1.0
    votes[np.arange(len(pairs)), pairs[:, 1]] = -1.0
    return votes


def _decide(classes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = classes[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]
    return chosen


class Calibrated(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Probabilities for a machine that has none: softmax of its scores, sharpened by one number.

    The number (an inverse temperature) minimises the log loss of out-of-fold scores, so that no clip's score comes
    from a machine that learnt from it; then the machine is refitted on everything. One number leaves every decision as
    the machine made it. A sigmoid per class (Platt) does not: with few clips per class it cost 13 points of accuracy
    on ESC-50.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.

    Args:
        estimator: what to calibrate, with `decision_function`.
        splits: (train, test) positions into the rows of X given to `fit`; they keep groups whole. Without any, which
            is all that one clip per class allows, the scores are taken as they are.
    """

    def __init__(self, estimator: Any, splits: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.estimator = estimator
        self.splits = splits

    def fit(self, X: np.ndarray, y: np.ndarray) -> Calibrated:
        """Score every split's test side, choose the sharpness, refit on all rows."""
        X, y = np.asarray(X), np.asarray(y)
        self.classes_ = np.unique(y)
        scores, targets = [], []
        for train, test in self.splits:
            machine = clone(self.estimator).fit(X[train], y[train])
            scores.append(self._scores(machine, X[test]))
            targets.append(np.searchsorted(self.classes_, y[test]))
        self.sharpness_ = _sharpness(np.concatenate(scores), np.concatenate(targets)) if scores else 1.0
        self.estimator_ = clone(self.estimator).fit(X, y)
        return self

    def _scores(self, machine: Any, X: np.ndarray) -> np.ndarray:
        """(n, classes), of which a class that was missing in this split has the row's lowest score."""
        raw = np.asarray(machine.decision_function(X), dtype=np.float64)
        raw = np.stack([-raw / 2, raw / 2], axis=1) if raw.ndim == 1 else raw
        scores = np.repeat(raw.min(axis=1, keepdims=True), len(self.classes_), axis=1)
        scores[:, np.searchsorted(self.classes_, machine.classes_)] = raw
        return scores

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, classes), rows summing to one."""
        probabilities: np.ndarray = softmax(self.sharpness_ * self._scores(self.estimator_, X), axis=1)
        return probabilities

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) most probable class."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen


def _sharpness(scores: np.ndarray, targets: np.ndarray) -> float:
    """The factor on `scores` that minimises the log loss, between 1e-3 and 1e3 over their typical spread."""
    spread = float(scores.std(axis=1).mean()) or 1.0
    rows = np.arange(len(targets))

    def loss(log_factor: float) -> float:
        return -float(log_softmax(np.exp(log_factor) / spread * scores, axis=1)[rows, targets].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-6.9, 6.9), method="bounded").x) / spread)


class Average(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The mean of several heads' probabilities.

    Source: Kittler et al., "On combining classifiers", IEEE PAMI 20, 1998 (the sum rule).

    Args:
        estimators: heads that all have `predict_proba`.
    """

    def __init__(self, estimators: Sequence[Any]) -> None:
        self.estimators = estimators

    def fit(self, X: np.ndarray, y: np.ndarray) -> Average:
        """Fit every head on the same rows."""
        self.classes_ = np.unique(y)
        self.estimators_ = [clone(each).fit(X, y) for each in self.estimators]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, classes) mean over the heads."""
        mean = np.mean([each.predict_proba(X) for each in self.estimators_], axis=0, dtype=np.float64)
        probabilities: np.ndarray = mean / mean.sum(axis=1, keepdims=True)  # some heads answer in single precision
        return probabilities

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) most probable class."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen


class ShrunkLDA(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear discriminant analysis: Gaussian classes with one covariance, shrunk towards a multiple of the identity.

    Each class's covariance is shrunk by itself, and the one they share is their mean; a class of a single clip adds
    nothing to it. (Shrinking the shared one, of many more clips, shrinks too little: 7 points less on ESC-50.)

    Source: Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
    Multivariate Analysis 88, 2004.

    Args:
        shrinkage: a share from 0 to 1, or "auto" for Ledoit and Wolf's.
        priors: "equal" classes, or as "frequent" as in training.
    """

    def __init__(self, shrinkage: float | str = "auto", priors: str = "equal") -> None:
        self.shrinkage = shrinkage
        self.priors = priors

    def fit(self, X: np.ndarray, y: np.ndarray) -> ShrunkLDA:
        """Estimate; `coef_` is (classes, dim), or (1, dim) for the second of two classes."""
        X = np.asarray(X, dtype=np.float64)
        self.classes_, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        means = np.stack([X[codes == code].mean(axis=0) for code in range(len(counts))])
        covariance = np.zeros((X.shape[1], X.shape[1]))
        for code in np.flatnonzero(counts > 1):
            covariance += counts[code] / len(X) * self._covariance(X[codes == code] - means[code])
        covariance[np.diag_indices_from(covariance)] += 1e-9 + 1e-6 * covariance.trace() / len(covariance)
        coef = np.linalg.solve(covariance, means.T).T
        prior = np.log(counts / len(X)) if self.priors == "frequent" else np.zeros(len(counts))
        intercept = prior - 0.5 * (means * coef).sum(axis=1)
        two = len(counts) == 2
        self.coef_ = coef[1:] - coef[:1] if two else coef
        self.intercept_ = intercept[1:] - intercept[:1] if two else intercept
        return self

    def _covariance(self, centred: np.ndarray) -> np.ndarray:
        if self.shrinkage == "auto":
            shrunk: np.ndarray = ledoit_wolf(centred, assume_centered=True)[0]
            return shrunk
        scatter, share = centred.T @ centred / len(centred), float(self.shrinkage)
        mixed: np.ndarray = (1 - share) * scatter + share * scatter.trace() / len(scatter) * np.eye(len(scatter))
        return mixed

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, classes), rows summing to one."""
        scores = np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1) if len(self.classes_) == 2 else scores
        probabilities: np.ndarray = softmax(scores, axis=1)
        return probabilities

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) most probable class."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen


class Boosting(HistGradientBoostingClassifier):  # type: ignore[misc]
    """scikit-learn's gradient boosting, with thresholds half-way between training values.

    It puts them exactly on values of training clips, so that the last bit of a vector decides there, and the same clip
    fares differently where the vector was computed by another library. No training clip changes sides.
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> Boosting:
        """Fit, then move the thresholds."""
        super().fit(X, y)
        columns = _columns(X)
        for predictor in (each for iteration in self._predictors for each in iteration):
            nodes = predictor.nodes
            inner = nodes["is_leaf"] == 0
            nodes["num_threshold"][inner] = _half_way(
                columns, nodes["feature_idx"][inner], nodes["num_threshold"][inner]
            )
        return self


class ExtraTrees(ExtraTreesClassifier):  # type: ignore[misc]
    """scikit-learn's extremely randomised trees, with thresholds half-way between training values.

    Thresholds drawn at random may come to lie as close to a training clip's value as the last bit; see `Boosting`.
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> ExtraTrees:
        """Fit, then move the thresholds."""
        super().fit(X, y)
        columns = _columns(X)
        for each in self.estimators_:
            tree = each.tree_
            inner = tree.children_left >= 0
            tree.threshold[inner] = _half_way(columns, tree.feature[inner], tree.threshold[inner])
        return self


def _columns(X: np.ndarray) -> list[np.ndarray]:
    """The different values of every feature, ascending."""
    return [np.unique(column) for column in np.asarray(X, dtype=np.float64).T]


def _half_way(columns: list[np.ndarray], features: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Thresholds in the middle between the training values to both sides of them."""
    moved = thresholds.copy()
    for i, (feature, threshold) in enumerate(zip(features, thresholds, strict=True)):
        values = columns[feature]
        above = int(np.searchsorted(values, threshold, side="right"))
        if 0 < above < len(values):
            moved[i] = (values[above - 1] + values[above]) / 2
    return moved


class Neighbours(KNeighborsClassifier):  # type: ignore[misc]
    """scikit-learn's k-NN, where fewer training clips than k are all neighbours instead of an error.

    `vectors_` (n, dim) and `targets_` (n,) keep the training clips, of which a graph can be made.
    """

    n_neighbors: int

    def fit(self, X: np.ndarray, y: np.ndarray) -> Neighbours:
        """Keep the training clips."""
        self.n_neighbors = min(self.n_neighbors, len(X))
        super().fit(X, y)
        self.vectors_, self.targets_ = np.asarray(X), np.searchsorted(self.classes_, y)
        return self


class FixedMLP(MLPClassifier):  # type: ignore[misc]
    """scikit-learn's multi-layer perceptron, trained for `max_iter` steps (not epochs), rounded up to whole epochs.

    Stopping early needs a validation set, which scikit-learn draws without regard to groups, and stopping on the
    training loss says nothing about new clips. A fixed length is plain and repeatable, and counting steps gives small
    tasks as much training as large ones.
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> FixedMLP:
        """Train from the start."""
        settings = self.get_params()
        batch = min(self.batch_size, len(X))
        epochs = max(3, math.ceil(self.max_iter / math.ceil(len(X) / batch)))
        # With a tolerance no loss can beat, every epoch but the first counts as one without improvement, so training
        # ends by itself after `epochs` of them instead of with a warning that it has not converged.
        self.set_params(batch_size=batch, tol=1e30, n_iter_no_change=epochs - 2, max_iter=epochs + 1)
        try:
            super().fit(X, y)
        finally:
            self.set_params(**settings)
        return self
