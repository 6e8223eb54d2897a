"""Heads that scikit-learn lacks for frozen encoders: small networks trained with Adam, and nearest class means.

Like `soundmark.estimators` they follow scikit-learn's contract, and pass its `check_estimator`. The networks also learn
from vectors that stay on disk (`soundmark.rows`), a part at a time: the same steps on the same numbers in the same
order, behind a scaler whose mean and variance are gathered block by block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from soundmark.rows import Rows

AUTO = "auto"
MOST_EPOCHS = 100  # tried where the number of epochs is to be chosen
READ_ROWS = 4096  # of vectors on disk, read and scaled at a time
APART = 10.0  # nats between a clip at its class's prototype and the other classes, before any calibration


class AdamClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear layers with ReLU between them, trained with Adam on the cross-entropy in small batches.

    Weights begin as in PyTorch's linear layer, uniform in ±1/sqrt(inputs); the last batch of an epoch may be smaller.
    It runs on the GPU where there is one, otherwise on one core. Equal seeds give equal weights on one machine.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.

    Args:
        hidden: sizes of the layers between input and output; none makes a linear classifier.
        batch: clips per step.
        rate: learning rate.
        epochs: how often every clip is seen. "auto" is for `ChosenEpochs` to replace; by itself it means 100.
        class_weight: None, "balanced", or a weight by class.
        random_state: of the first weights and the order of the clips.

    Attributes:
        coefs_: weights of every layer, (inputs, outputs).
        intercepts_: biases of every layer, (outputs,).
        n_outputs_: how many classes.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (),
        batch: int = 8,
        rate: float = 1e-3,
        epochs: int | str = MOST_EPOCHS,
        class_weight: str | dict[Any, float] | None = None,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.batch = batch
        self.rate = rate
        self.epochs = epochs
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: np.ndarray | Rows, y: np.ndarray) -> AdamClassifier:
        """Train from the start. `X` may be `Rows`, of which a few thousand at a time are in memory then."""
        for _ in self._train(X, y):
            pass
        return self

    def stages(self, X: np.ndarray | Rows, y: np.ndarray, new: np.ndarray | Rows) -> Iterator[np.ndarray]:
        """Train, and give the probabilities of `new` (n, dim) after every epoch: (n, classes) each time."""
        for _ in self._train(X, y):
            yield said_of(self, new)

    def _train(self, X: np.ndarray | Rows, y: np.ndarray) -> Iterator[None]:
        if isinstance(X, Rows):
            self.n_features_in_, y = X.shape[1], np.asarray(y)
        else:
            X, y = validate_data(self, X, y, dtype=np.float32, order="C")
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.n_outputs_ = len(self.classes_)
        if self.n_outputs_ < 2:
            raise ValueError("this classifier needs clips of at least two classes; the data has one class")
        by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        by_target = np.eye(self.n_outputs_, dtype=np.float32)
        random = check_random_state(self.random_state)
        sizes = [X.shape[1], *self.hidden, self.n_outputs_]
        weights = by_class[codes][:, None].astype(np.float32)
        with _on_one_core():
            network = _Network(sizes, self.rate, random)
            data = () if isinstance(X, Rows) else network.placed(X, by_target[codes], weights)
            step = max(1, READ_ROWS // self.batch) * self.batch  # whole batches, so that none differs
            for _ in range(MOST_EPOCHS if self.epochs == AUTO else int(self.epochs)):
                order = random.permutation(len(X))
                if isinstance(X, Rows):
                    for low in range(0, len(order), step):
                        some = order[low : low + step]
                        part = network.placed(X[some], by_target[codes[some]], weights[some])
                        network.epoch(part, self.batch, np.arange(len(some)))
                else:
                    network.epoch(data, self.batch, order)
                self.coefs_, self.intercepts_ = network.weights()
                if not all(np.isfinite(layer).all() for layer in self.coefs_):
                    raise ValueError("the weights grew beyond all bounds: choose a lower learning rate")
                yield

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, classes), rows summing to one."""
        check_is_fitted(self, "coefs_")
        said = validate_data(self, X, reset=False, dtype=np.float64)  # a row says the same in any company
        for i, (weights, bias) in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
            said = (np.maximum(said, 0.0) if i else said) @ weights + bias
        probabilities: np.ndarray = softmax(said, axis=1)
        return probabilities

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) most probable class."""
        probabilities = self.predict_proba(X)
        chosen: np.ndarray = self.classes_[probabilities.argmax(axis=1)]
        return chosen


class _Network:
    """The layers' weights as one flat tensor, which Adam updates in a single pass over memory.

    Gradients of layers this simple are written out: recording them step by step, as automatic differentiation does,
    takes longer than computing them.
    """

    def __init__(self, sizes: Sequence[int], rate: float, random: np.random.RandomState) -> None:
        import torch

        self.torch = torch
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        first = []
        for inputs, outputs in itertools.pairwise(sizes):
            bound = 1.0 / math.sqrt(max(1, inputs))
            first.append(random.uniform(-bound, bound, (inputs + 1) * outputs).astype(np.float32))
        self.flat = torch.from_numpy(np.concatenate(first)).to(self.device)
        self.flat.grad = torch.zeros_like(self.flat)
        self.layers = self._layers(self.flat, sizes)
        self.gradients = self._layers(self.flat.grad, sizes)
        self.adam = torch.optim.Adam([self.flat], lr=rate, fused=True)

    @staticmethod
    def _layers(flat: Any, sizes: Sequence[int]) -> list[tuple[Any, Any]]:
        """Views of (inputs, outputs) weights and (outputs,) biases."""
        found, start = [], 0
        for inputs, outputs in itertools.pairwise(sizes):
            end = start + inputs * outputs
            found.append((flat[start:end].view(inputs, outputs), flat[end : end + outputs]))
            start = end + outputs
        return found

    def placed(self, *arrays: np.ndarray) -> list[Any]:
        return [self.torch.tensor(array, device=self.device) for array in arrays]  # copies: theirs may be read-only

    def epoch(self, data: Sequence[Any], batch: int, order: np.ndarray) -> None:
        place = self.torch.from_numpy(order).to(self.device)
        with self.torch.no_grad():
            parts = (array[place].split(batch) for array in data)
            for x, target, weight in zip(*parts, strict=True):
                self._step(x, target, weight)

    def _step(self, x: Any, target: Any, weight: Any) -> None:
        heard = [x]
        for i, (matrix, bias) in enumerate(self.layers):
            x = self.torch.addmm(bias, x, matrix)
            if i + 1 < len(self.layers):
                heard.append(x.relu_())
        slope = x.softmax(1).sub_(target).mul_(weight).div_(len(x))
        for i in range(len(self.layers) - 1, -1, -1):
            for_matrix, for_bias = self.gradients[i]
            self.torch.mm(heard[i].t(), slope, out=for_matrix)
            self.torch.sum(slope, 0, out=for_bias)
            if i:
                slope = slope.mm(self.layers[i][0].t()).mul_(heard[i] > 0)
        self.adam.step()

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Copies of every layer's weights and biases."""
        copies = [(matrix.cpu().numpy().copy(), bias.cpu().numpy().copy()) for matrix, bias in self.layers]
        return [matrix for matrix, _ in copies], [bias for _, bias in copies]


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Matrices of eight rows are too small to share; and averages of dead units, which fade out, are soon denormal."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


class ChosenEpochs(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An `AdamClassifier` behind its scaler, trained for as many epochs as served clips that it had not learnt from.

    Every split's training side is trained on once, and its test side scored after each epoch. The number of epochs with
    the least log loss over all test sides is taken (the first of equals), and everything refitted for so long.

    Args:
        estimator: a pipeline that ends in an `AdamClassifier`.
        splits: (train, test) positions into the rows of X given to `fit`; they keep groups whole. Without any, the most
            epochs are taken.

    Attributes:
        epochs_: the number chosen.
        losses_: (epochs,) log loss after each epoch; empty without splits.
        estimator_: the fitted pipeline.
    """

    def __init__(self, estimator: Any, splits: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.estimator = estimator
        self.splits = splits

    def fit(self, X: np.ndarray | Rows, y: np.ndarray) -> ChosenEpochs:
        """Score every split's test side, choose, refit on all rows."""
        X, y = X if isinstance(X, Rows) else np.asarray(X), np.asarray(y)
        self.classes_ = np.unique(y)
        losses = [self._losses(_part(X, train), y[train], _part(X, test), y[test]) for train, test in self.splits]
        self.losses_ = np.concatenate(losses, axis=1).mean(axis=1) if losses else np.empty(0)
        self.epochs_ = int(self.losses_.argmin()) + 1 if losses else MOST_EPOCHS
        final = clone(self.estimator)
        final.steps[-1][1].set_params(epochs=self.epochs_)
        self.estimator_ = fitted(final, X, y)
        return self

    def _losses(self, X: np.ndarray | Rows, y: np.ndarray, new: np.ndarray | Rows, truth: np.ndarray) -> np.ndarray:
        """(epochs, clips) log loss of the clips whose classes this split has seen."""
        pipeline = clone(self.estimator)
        X, new = _scaled(pipeline, X, new)
        head = pipeline[-1]
        known = np.flatnonzero(np.isin(truth, y))
        column = np.searchsorted(np.unique(y), truth[known])
        rows = np.arange(len(column))
        said = (stage[rows, column] for stage in head.stages(X, y, _part(new, known)))
        return -np.log(np.maximum(list(said), np.finfo(np.float64).eps))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, classes), rows summing to one."""
        probabilities: np.ndarray = self.estimator_.predict_proba(X)
        return probabilities

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) most probable class."""
        chosen: np.ndarray = self.estimator_.predict(X)
        return chosen


def _part(X: np.ndarray | Rows, positions: np.ndarray) -> np.ndarray | Rows:
    return X.subset(positions) if isinstance(X, Rows) else X[positions]


def _scaled(pipeline: Pipeline, X: np.ndarray | Rows, *more: Any) -> list[Any]:
    """`X` and more of its kind, behind all but the last step of a pipeline, which is fitted to `X` first."""
    scaler = pipeline[:-1]
    if not isinstance(X, Rows):
        scaler.fit(X)
        return [scaler.transform(each) for each in (X, *more)]
    for _, step in scaler.steps:
        for block in X.blocks():
            step.partial_fit(block)
    return [each.changed(scaler.transform) if scaler.steps else each for each in (X, *more)]


def streams(estimator: Any) -> bool:
    """Whether an unfitted head can learn from vectors that stay on disk: a network, behind a scaler or nothing."""
    pipeline = estimator.estimator if isinstance(estimator, ChosenEpochs) else estimator
    if not (isinstance(pipeline, Pipeline) and isinstance(pipeline.steps[-1][1], AdamClassifier)):
        return False
    return all(isinstance(step, StandardScaler) for _, step in pipeline.steps[:-1]) and len(pipeline.steps) <= 2


def fitted(estimator: Any, X: np.ndarray | Rows, y: np.ndarray) -> Any:
    """Fit a head to vectors in memory or, where it `streams`, on disk.

    With the same scaler both give the same weights, bit for bit. Gathered block by block, the scaler's mean and
    variance differ from those of all rows at once in the last digits of float64.

    Returns:
        The fitted estimator.
    """
    if isinstance(X, Rows) and isinstance(estimator, Pipeline):
        (scaled,) = _scaled(estimator, X)
        estimator.steps[-1][1].fit(scaled, y)
        return estimator
    return estimator.fit(X, y)


def said_of(estimator: Any, X: np.ndarray | Rows) -> np.ndarray:
    """(n, classes) probabilities by any fitted head, of vectors in memory or on disk."""
    if isinstance(X, Rows):
        return np.concatenate([estimator.predict_proba(block) for block in X.blocks()])
    said: np.ndarray = estimator.predict_proba(X)
    return said


def chooses_epochs(estimator: Any) -> bool:
    """Whether an unfitted head leaves its number of epochs to be chosen."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    return isinstance(last, AdamClassifier) and last.epochs == AUTO


class Prototypes(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The class whose mean vector is nearest: the head for a handful of clips per class.

    A class's score is minus the squared distance to its mean, in units of the mean squared distance between the
    classes' means, times a constant. `Calibrated` makes probabilities of the scores where clips can be held out.

    Sources: Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017; Wang et al.,
    "SimpleShot: revisiting nearest-neighbor classification for few-shot learning", 2019 (vectors centred, then of
    length 1: our scaler with "cosine").

    Args:
        metric: "cosine", of vectors brought to length 1 before means are taken, and means again; or "euclidean".

    Attributes:
        prototypes_: (classes, dim) float64.
        scale_: factor on squared distances.
    """

    def __init__(self, metric: str = "cosine") -> None:
        self.metric = metric

    def fit(self, X: np.ndarray, y: np.ndarray) -> Prototypes:
        """Take the means."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("this classifier needs clips of at least two classes; the data has one class")
        X = self._normal(X)
        self.prototypes_ = self._normal(np.stack([X[codes == code].mean(axis=0) for code in range(len(self.classes_))]))
        between = self.distances(self.prototypes_).sum() / (len(self.classes_) * (len(self.classes_) - 1))
        self.scale_ = APART / between if between > 0 else 1.0
        return self

    def _normal(self, X: np.ndarray) -> np.ndarray:
        if self.metric == "euclidean":
            return X
        lengths = np.linalg.norm(X, axis=1, keepdims=True)
        return X / np.where(lengths > 0, lengths, 1.0)

    def distances(self, X: np.ndarray) -> np.ndarray:
        """(n, classes) squared distances to the prototypes, of vectors brought to length 1 where they are."""
        X = self._normal(np.asarray(X, dtype=np.float64))
        products = X @ self.prototypes_.T
        squares = (X * X).sum(1)[:, None] + (self.prototypes_**2).sum(1)[None] - 2.0 * products
        nearer: np.ndarray = np.maximum(squares, 0.0)
        return nearer

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """(n, classes) scores; (n,) the second class's above the first's where there are two."""
        check_is_fitted(self, "prototypes_")
        X = validate_data(self, X, reset=False, dtype=np.float64)
        scores: np.ndarray = -self.scale_ * self.distances(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) class with the highest score."""
        scores = self.decision_function(X)
        chosen: np.ndarray = self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]
        return chosen
