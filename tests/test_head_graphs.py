"""Heads as graphs: each says what its estimator says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from soundmark import head_graphs, heads
from soundmark.errors import NotExportable

SMALL = {
    "boosting": "boosting?iterations=10&features=0.5",
    "extra-trees": "extra-trees?trees=20",
    "forest": "forest?trees=20&leaf=2",
    "linear": "linear?epochs=3",
    "mlp": "mlp?hidden=16x8&steps=50",
    "three-layer": "three-layer?hidden=16&epochs=3",
}
NAMES = [SMALL.get(name, name) for name in heads.HEADS]
NAMES += ["knn?metric=cosine", "knn?weights=uniform&k=3", "svm+logreg+forest?trees=5", "svm?gamma=0.5"]
NAMES += ["prototype?metric=euclidean", "linear?epochs=auto&batch=64", "logreg?scale=false"]


def clips(classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    y = np.arange(16 * classes) % classes
    return (rng.normal(size=(len(y), 8)) + 0.7 * y[:, None] * np.arange(8)).astype(np.float32), y


def fitted(name: str, X: np.ndarray, y: np.ndarray) -> Any:
    estimator = heads.build(name, 0)
    if heads.needs_calibration(estimator):
        half = np.arange(len(y)) < len(y) // 2
        splits = [(np.flatnonzero(half), np.flatnonzero(~half)), (np.flatnonzero(~half), np.flatnonzero(half))]
        estimator = heads.calibrated(estimator, splits)
    with heads.one_thread():
        return estimator.fit(X, y)


def run(graph: head_graphs.Graph, X: np.ndarray, classes: int) -> np.ndarray:
    made = helper.make_graph(
        graph.nodes,
        "head",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", X.shape[1]])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"embedding": X})[0]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_graph_says_what_its_estimator_says(name: str, classes: int) -> None:
    X, y = clips(classes)
    estimator = fitted(name, X, y)
    graph = head_graphs.head_graph(estimator, classes)
    new = np.concatenate([X, clips(classes)[0][::-1] * 1.1 + 0.3, 1e3 * X[:5], np.zeros((1, 8))]).astype(np.float32)
    np.testing.assert_allclose(run(graph, new, classes), estimator.predict_proba(new), atol=1e-5)
    np.testing.assert_allclose(run(graph, new[:1], classes), estimator.predict_proba(new[:1]), atol=1e-5)
    assert {node.domain for node in graph.nodes} == {""}


@pytest.mark.parametrize("name", NAMES)
def test_classes_without_clips_get_zero(name: str) -> None:
    X, y = clips(3)
    estimator = fitted(name, X, 2 * y)
    said = run(head_graphs.head_graph(estimator, 6), X, 6)
    assert not said[:, [1, 3, 5]].any()
    np.testing.assert_allclose(said[:, [0, 2, 4]], estimator.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("name", ["forest", "extra-trees", "boosting"])
def test_trees_decide_alike_at_their_thresholds(name: str) -> None:
    """Thresholds are kept in single precision; rounded down, they part single-precision vectors as the doubles do."""
    rng = np.random.default_rng(0)
    X = (rng.integers(0, 6, size=(120, 4)) / 3).astype(np.float32)
    y = rng.integers(0, 3, size=120)
    estimator = fitted(SMALL[name], X, y)
    near = np.concatenate([X, np.nextafter(X, np.float32(9)), np.nextafter(X, np.float32(-9))])
    np.testing.assert_allclose(
        run(head_graphs.head_graph(estimator, 3), near, 3), estimator.predict_proba(near), atol=1e-6
    )


@pytest.mark.parametrize("name", ["extra-trees", "boosting"])
def test_no_threshold_stands_on_a_training_value(name: str) -> None:
    X, y = clips(4)
    estimator = fitted(SMALL[name], X, y)
    apart = np.float32(1e-6) * np.abs(X).max()
    said = estimator.predict_proba(X)
    np.testing.assert_array_equal(estimator.predict_proba(X + apart), said)
    np.testing.assert_array_equal(estimator.predict_proba(X - apart), said)


def test_equal_heads_make_equal_graphs() -> None:
    X, y = clips(3)
    made = [head_graphs.head_graph(fitted("forest?trees=5", X, y), 3) for _ in range(2)]
    assert made[0].nodes == made[1].nodes
    assert made[0].constants == made[1].constants


def test_which_heads_are_smooth() -> None:
    X, y = clips(2)
    smooth = {name for name in NAMES if head_graphs.is_smooth(fitted(name, X, y))}
    named = ("lda", "linear", "linear-svm", "logreg", "mlp", "prototype", "svm", "three-layer")
    assert smooth == {SMALL.get(name, name) for name in named} | {
        "svm?gamma=0.5",
        "prototype?metric=euclidean",
        "linear?epochs=auto&batch=64",
        "logreg?scale=false",
    }


def test_every_head_has_a_graph_before_it_is_fitted() -> None:
    assert all(head_graphs.has_graph(heads.build(name)) for name in NAMES)
    assert head_graphs.has_graph(heads.calibrated(heads.build("svm+lda"), []))
    assert not head_graphs.has_graph(make_pipeline(GaussianNB()))


@pytest.mark.parametrize("estimator", [GaussianNB(), make_pipeline(MinMaxScaler(), GaussianNB())])
def test_what_has_no_graph_says_so(estimator: Any) -> None:
    with pytest.raises(NotExportable, match="there is no graph for a"):
        head_graphs.head_graph(estimator.fit(*clips(2)), 2)
