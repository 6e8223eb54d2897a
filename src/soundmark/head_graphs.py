"""Fitted heads as ONNX graphs, made by hand from a few standard operators.

A graph takes vectors (batch, dim) float32 and gives probabilities (batch, classes) float32. Nothing but the standard
ai.onnx operators is used, without loops: trees are walked level by level through flat tables, which loads ten times
faster than the tree operators of ai.onnx.ml and cannot send a reader in circles. A new kind of head is a function here
and a line in `PROBABILITIES` (or `SCORES`, where it has no probabilities of its own).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from soundmark.errors import NotExportable
from soundmark.estimators import (
    STEEPNESS,
    Average,
    Boosting,
    Calibrated,
    ExtraTrees,
    FixedMLP,
    KernelSVM,
    LinearSVM,
    Neighbours,
    ShrunkLDA,
    vote_matrix,
)
from soundmark.probe_heads import AdamClassifier, ChosenEpochs, Prototypes

NEAREST = 1e-12  # distances below count as this, so that a clip that is in the training set has a finite weight


@dataclass
class Graph:
    """Nodes and constants of a graph that grows.

    Attributes:
        prefix: of every name in it, so that it can be joined to another graph.
        nodes, constants: what it holds so far, in order.
    """

    prefix: str = "head."
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node; the name of what it gives."""
        name = output or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Append a constant; its name."""
        name = f"{self.prefix}c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name))
        return name


def head_graph(estimator: Any, classes: int, vector: str = "embedding", output: str = "probabilities") -> Graph:
    """The graph of a fitted head.

    Args:
        estimator: fitted on positions of classes; it may lack some of them.
        classes: how many there are in all, and so how many columns come out.
        vector: name of the (batch, dim) vectors that it takes.
        output: name of the (batch, classes) probabilities that it gives.

    Raises:
        NotExportable: if there is no graph for a part of it.
    """
    graph = Graph()
    said = _probabilities(graph, estimator, vector)
    present = np.asarray(estimator.classes_)
    if len(present) != classes:
        said = graph.add("MatMul", said, graph.constant(np.eye(classes)[present]))
    graph.add("Identity", said, output=output)
    return graph


def is_smooth(estimator: Any) -> bool:
    """Whether a small change of the vector makes a small change of the probabilities: no trees and no neighbours."""
    if isinstance(estimator, Pipeline):
        return all(is_smooth(step) for _, step in estimator.steps)
    if isinstance(estimator, Average):
        return all(is_smooth(each) for each in estimator.estimators_)
    if isinstance(estimator, Calibrated | ChosenEpochs):
        return is_smooth(estimator.estimator_)
    steps = (RandomForestClassifier, ExtraTrees, Boosting, Neighbours)
    return not isinstance(estimator, steps)


def has_graph(estimator: Any) -> bool:
    """Whether `head_graph` knows every part of an estimator, which need not be fitted yet."""
    if isinstance(estimator, Pipeline):
        return all(has_graph(step) for _, step in estimator.steps)
    if isinstance(estimator, Average):
        return all(has_graph(each) for each in estimator.estimators)
    if isinstance(estimator, Calibrated | ChosenEpochs):
        return has_graph(estimator.estimator)
    return type(estimator) in {StandardScaler, *PROBABILITIES, *SCORES}


def _probabilities(graph: Graph, estimator: Any, vector: str) -> str:
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps[:-1]:
            vector = _scaled(graph, step, vector)
        estimator = estimator.steps[-1][1]
    return _of(PROBABILITIES, estimator)(graph, estimator, vector)


def _scores(graph: Graph, estimator: Any, vector: str) -> str:
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps[:-1]:
            vector = _scaled(graph, step, vector)
        estimator = estimator.steps[-1][1]
    return _of(SCORES, estimator)(graph, estimator, vector)


def _of(table: dict[type, Callable[[Graph, Any, str], str]], estimator: Any) -> Callable[[Graph, Any, str], str]:
    if type(estimator) not in table:
        raise NotExportable(f"there is no graph for a {type(estimator).__name__} (yet): choose another head")
    return table[type(estimator)]


def _scaled(graph: Graph, step: Any, vector: str) -> str:
    if type(step) is not StandardScaler:
        raise NotExportable(f"there is no graph for a {type(step).__name__} in front of a head")
    centred = graph.add("Sub", vector, graph.constant(step.mean_))
    return graph.add("Div", centred, graph.constant(step.scale_))


def _linear(graph: Graph, weights: np.ndarray, bias: np.ndarray, vector: str) -> str:
    """(batch, outputs) from weights (dim, outputs)."""
    return graph.add("Add", graph.add("MatMul", vector, graph.constant(weights)), graph.constant(bias))


def _both(graph: Graph, positive: str) -> str:
    """(batch, 2) from the second class's probability (batch, 1)."""
    return graph.add("Concat", graph.add("Sub", graph.constant([[1.0]]), positive), positive, axis=1)


def _softmax(graph: Graph, scores: str, columns: int) -> str:
    """Softmax of several scores, or the logistic function of the second class's."""
    if columns == 1:
        return _both(graph, graph.add("Sigmoid", scores))
    return graph.add("Softmax", scores, axis=1)


def _linear_model(graph: Graph, head: Any, vector: str) -> str:
    return _softmax(graph, _linear(graph, head.coef_.T, head.intercept_, vector), len(head.coef_))


def _mlp(graph: Graph, head: FixedMLP | AdamClassifier, vector: str) -> str:
    for i, (weights, bias) in enumerate(zip(head.coefs_, head.intercepts_, strict=True)):
        vector = graph.add("Relu", vector) if i else vector
        vector = _linear(graph, weights, bias, vector)
    return _softmax(graph, vector, head.n_outputs_)


def _neighbours(graph: Graph, head: Neighbours, vector: str) -> str:
    """Distances in double precision: single loses those of near neighbours to cancellation."""
    known = head.vectors_.astype(np.float64)
    x = graph.add("Cast", vector, to=TensorProto.DOUBLE)
    axis = graph.constant([1], np.int64)
    if head.metric == "cosine":
        lengths = np.linalg.norm(known, axis=1, keepdims=True)
        known = known / np.where(lengths == 0, 1.0, lengths)
        length = graph.add("Max", graph.add("ReduceL2", x, axis), graph.constant(1e-300, np.float64))
        products = graph.add("MatMul", graph.add("Div", x, length), _double(graph, known.T))
        distances = graph.add("Sub", graph.constant(1.0, np.float64), products)
    else:
        products = graph.add("MatMul", x, _double(graph, -2.0 * known.T))
        squares = graph.add("Add", products, graph.add("ReduceSumSquare", x, axis))
        squares = graph.add("Add", squares, graph.constant((known**2).sum(1), np.float64))
        distances = graph.add("Sqrt", graph.add("Max", squares, graph.constant(0.0, np.float64)))
    nearest, which = f"{graph.prefix}nearest", f"{graph.prefix}which"
    k = graph.constant([head.n_neighbors], np.int64)
    graph.nodes.append(helper.make_node("TopK", [distances, k], [nearest, which], axis=1, largest=0, sorted=1))
    votes = graph.add("Gather", graph.constant(np.eye(len(head.classes_))[head.targets_]), which, axis=0)
    if head.weights == "distance":
        least = graph.constant(NEAREST, np.float64)
        weights = graph.add("Reciprocal", graph.add("Max", nearest, least))
        weights = graph.add("Div", weights, graph.add("ReduceSum", weights, axis))
        weights = graph.add(
            "Unsqueeze", graph.add("Cast", weights, to=TensorProto.FLOAT), graph.constant([2], np.int64)
        )
        return graph.add("ReduceSum", graph.add("Mul", votes, weights), axis, keepdims=0)
    return graph.add("ReduceMean", votes, axis, keepdims=0)


def _double(graph: Graph, values: np.ndarray) -> str:
    """A constant kept in single precision, which halves the file, and used in double."""
    return graph.add("Cast", graph.constant(values), to=TensorProto.DOUBLE)


def _kernel_svm(graph: Graph, head: KernelSVM, vector: str) -> str:
    """exp(-gamma |x - s|²) by the binomial formula, in double precision since large terms cancel, then the weights."""
    support = head.support_vectors_.astype(np.float64)
    x = graph.add("Cast", vector, to=TensorProto.DOUBLE)
    squares = graph.add("ReduceSumSquare", x, graph.constant([1], np.int64))
    products = graph.add("MatMul", x, _double(graph, -2.0 * support.T))
    distances = graph.add("Add", graph.add("Add", products, squares), graph.constant((support**2).sum(1), np.float64))
    distances = graph.add("Max", distances, graph.constant(0.0, np.float64))
    kernel = graph.add("Exp", graph.add("Mul", distances, graph.constant(-head.gamma_, np.float64)))
    scores = graph.add("MatMul", kernel, graph.constant(head.dual_coef_, np.float64))
    scores = graph.add("Add", scores, graph.constant(head.intercept_, np.float64))
    return graph.add("Cast", scores, to=TensorProto.FLOAT)


def _linear_svm(graph: Graph, head: LinearSVM, vector: str) -> str:
    if len(head.classes_) == 2:
        return _linear(graph, head.coef_.T, head.intercept_, vector)
    decisions = _linear(graph, STEEPNESS * head.coef_.T, STEEPNESS * head.intercept_, vector)
    votes = vote_matrix(head.pairs_, len(head.classes_))
    return graph.add("MatMul", graph.add("Tanh", decisions), graph.constant(votes))


def _calibrated(graph: Graph, head: Calibrated, vector: str) -> str:
    scores = _scores(graph, head.estimator_, vector)
    sharpened = graph.add("Mul", scores, graph.constant(head.sharpness_))
    return _softmax(graph, sharpened, 1 if len(head.classes_) == 2 else len(head.classes_))


def _chosen_epochs(graph: Graph, head: ChosenEpochs, vector: str) -> str:
    return _probabilities(graph, head.estimator_, vector)


def _prototypes(graph: Graph, head: Prototypes, vector: str) -> str:
    """Minus the squared distances by the binomial formula, in double precision since large terms cancel."""
    known, axis = head.prototypes_, graph.constant([1], np.int64)
    x = graph.add("Cast", vector, to=TensorProto.DOUBLE)
    if head.metric == "cosine":
        length = graph.add("Max", graph.add("ReduceL2", x, axis), graph.constant(1e-300, np.float64))
        x = graph.add("Div", x, length)
    squares = graph.add("ReduceSumSquare", x, axis)
    products = graph.add("MatMul", x, graph.constant(-2.0 * known.T, np.float64))
    distances = graph.add("Add", graph.add("Add", products, squares), graph.constant((known**2).sum(1), np.float64))
    scores = graph.add("Mul", distances, graph.constant(-head.scale_, np.float64))
    if len(head.classes_) == 2:
        scores = graph.add("MatMul", scores, graph.constant([[-1.0], [1.0]], np.float64))
    return graph.add("Cast", scores, to=TensorProto.FLOAT)


def _average(graph: Graph, head: Average, vector: str) -> str:
    parts = [_probabilities(graph, each, vector) for each in head.estimators_]
    return graph.add("Mean", *parts)


@dataclass
class _Table:
    """Trees as flat tables: node `i` goes on to `left[i]`, or to the next one after it if x[feature] > threshold.

    A leaf goes on to itself, so that all trees may be walked as deep as the deepest.
    """

    feature: list[np.ndarray] = field(default_factory=list)
    threshold: list[np.ndarray] = field(default_factory=list)
    left: list[np.ndarray] = field(default_factory=list)
    order: list[np.ndarray] = field(default_factory=list)  # the nodes' numbers in their own tree
    roots: list[int] = field(default_factory=list)
    nodes: int = 0
    depth: int = 0

    def add(self, feature: np.ndarray, threshold: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        """Append a tree; its leaves have a negative `left`."""
        levels = [np.zeros(1, dtype=np.int64)]
        while True:
            inner = levels[-1][left[levels[-1]] >= 0]
            if not len(inner):
                break
            levels.append(np.stack([left[inner], right[inner]], axis=1).ravel())
        order = np.concatenate(levels)
        place = np.empty(len(left), dtype=np.int64)
        place[order] = np.arange(len(order)) + self.nodes
        leaf = left[order] < 0
        self.feature.append(np.where(leaf, 0, feature[order]))
        self.threshold.append(np.where(leaf, np.inf, _rounded_down(threshold[order])))
        self.left.append(np.where(leaf, place[order], place[np.where(leaf, 0, left[order])]))
        self.order.append(order)
        self.roots.append(self.nodes)
        self.nodes += len(order)
        self.depth = max(self.depth, len(levels) - 1)

    def walk(self, graph: Graph, vector: str) -> str:
        """(batch, trees) int32: the leaf that each vector reaches in each tree."""
        feature = graph.constant(np.concatenate(self.feature), np.int32)
        threshold = graph.constant(np.concatenate(self.threshold))
        left = graph.constant(np.concatenate(self.left), np.int32)
        batch = graph.add("Shape", vector, start=0, end=1)
        shape = graph.add("Concat", batch, graph.constant([len(self.roots)], np.int64), axis=0)
        node = graph.add("Expand", graph.constant([self.roots], np.int32), shape)
        for _ in range(self.depth):
            value = graph.add("GatherElements", vector, graph.add("Gather", feature, node), axis=1)
            right = graph.add("Greater", value, graph.add("Gather", threshold, node))
            node = graph.add("Add", graph.add("Gather", left, node), graph.add("Cast", right, to=TensorProto.INT32))
        return node


def _rounded_down(threshold: np.ndarray) -> np.ndarray:
    """In single precision, so that x <= threshold is as true of every single-precision x as it was in double."""
    single = threshold.astype(np.float32)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single)


def _forest(graph: Graph, head: Any, vector: str) -> str:
    table, leaves = _Table(), []
    for each in head.estimators_:
        tree = each.tree_
        table.add(tree.feature, tree.threshold, tree.children_left, tree.children_right)
        shares = tree.value[:, 0, :][table.order[-1]]
        leaves.append((shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))
    is_leaf = np.concatenate(table.left) == np.arange(table.nodes)
    shares = np.concatenate(leaves)
    shares[~is_leaf] = np.eye(shares.shape[1])[0]  # never asked for
    distinct, row = _distinct_rows(shares)
    node = table.walk(graph, vector)
    said = graph.add("Gather", graph.constant(distinct), graph.add("Gather", graph.constant(row, np.int32), node))
    return graph.add("ReduceMean", said, graph.constant([1], np.int64), keepdims=0)


def _distinct_rows(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of (rows, classes) shares, and which of them each row is. Most leaves hold one class."""
    which, mixed = shares.argmax(axis=1), np.flatnonzero(shares.max(axis=1) < 1.0)
    distinct, inverse = np.unique(shares[mixed], axis=0, return_inverse=True)
    which[mixed] = shares.shape[1] + inverse.ravel()
    return np.concatenate([np.eye(shares.shape[1], dtype=shares.dtype), distinct]), which


def _boosting(graph: Graph, head: Any, vector: str) -> str:
    table, values = _Table(), []
    for iteration in head._predictors:
        for predictor in iteration:
            nodes = predictor.nodes
            left = np.where(nodes["is_leaf"] == 1, -1, nodes["left"].astype(np.int64))
            table.add(nodes["feature_idx"], nodes["num_threshold"], left, nodes["right"].astype(np.int64))
            values.append(nodes["value"][table.order[-1]])
    columns = len(head._predictors[0])
    said = graph.add("Gather", graph.constant(np.concatenate(values)), table.walk(graph, vector))
    said = graph.add("Reshape", said, graph.constant([0, len(head._predictors), columns], np.int64))
    said = graph.add("ReduceSum", said, graph.constant([1], np.int64), keepdims=0)
    return _softmax(graph, graph.add("Add", said, graph.constant(head._baseline_prediction.ravel())), columns)


SCORES: dict[type, Callable[[Graph, Any, str], str]] = {
    KernelSVM: _kernel_svm,
    LinearSVM: _linear_svm,
    Prototypes: _prototypes,
}
"""Scores (batch, classes), or (batch, 1) for two classes, by type of estimator."""

PROBABILITIES: dict[type, Callable[[Graph, Any, str], str]] = {
    AdamClassifier: _mlp,
    Average: _average,
    Boosting: _boosting,
    Calibrated: _calibrated,
    ChosenEpochs: _chosen_epochs,
    ExtraTrees: _forest,
    FixedMLP: _mlp,
    LogisticRegression: _linear_model,
    Neighbours: _neighbours,
    RandomForestClassifier: _forest,
    ShrunkLDA: _linear_model,
}
"""Probabilities (batch, classes) by type of estimator."""
