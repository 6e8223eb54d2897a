"""Heads: every name builds, learns, repeats itself, and gives probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from soundmark import heads
from soundmark.errors import SpecError

SMALL = {
    "boosting": "boosting?iterations=20&features=0.5",
    "extra-trees": "extra-trees?trees=20",
    "forest": "forest?trees=20",
    "linear": "linear?epochs=20&rate=0.01",
    "mlp": "mlp?hidden=32x16&steps=200",
    "three-layer": "three-layer?hidden=32&epochs=10&rate=0.003",
}
NAMES = [SMALL.get(name, name) for name in heads.HEADS]
NAMES += ["svm+logreg", "prototype?metric=euclidean", "linear?epochs=auto&rate=0.01&batch=32"]


def blobs(classes: int, per_class: int = 16, dim: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes on very different scales and offsets, which only a scaler makes comparable."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim)) * 3
    y = np.repeat(np.arange(classes), per_class)
    X = (centres[y] + rng.normal(size=(len(y), dim))) * np.geomspace(0.01, 100, dim) + 5
    return X.astype(np.float32), y


def halves(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    even, odd = np.arange(0, n, 2), np.arange(1, n, 2)
    return [(even, odd), (odd, even)]


def fitted(name: str, X: np.ndarray, y: np.ndarray, seed: int = 0):
    estimator = heads.build(name, seed)
    if heads.needs_calibration(estimator):
        estimator = heads.calibrated(estimator, halves(len(y)))
    with heads.one_thread():
        return estimator.fit(X, y)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_every_head_learns_and_gives_probabilities(name, classes):
    X, y = blobs(classes)
    estimator = fitted(name, X, y)
    fresh, truth = blobs(classes, seed=1)
    probabilities = estimator.predict_proba(fresh)
    assert probabilities.shape == (len(truth), classes)
    assert np.all(probabilities >= 0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.85
    np.testing.assert_array_equal(estimator.predict(fresh), probabilities.argmax(axis=1))
    assert list(estimator.classes_) == list(range(classes))


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_probabilities(name):
    X, y = blobs(4)
    first, second = (fitted(name, X, y, seed=3).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_seed_gives_another_forest():
    X, y = blobs(4)
    assert not np.array_equal(*(fitted("forest?trees=5", X, y, seed).predict_proba(X) for seed in (0, 1)))


def test_a_scaler_can_be_left_out():
    X, y = blobs(3)
    X[:, 0] *= 1e4
    far, near = (fitted(name, X, y).predict_proba(X) for name in ("logreg?scale=false", "logreg"))
    assert not np.array_equal(far, near)
    np.testing.assert_array_equal(fitted("logreg?scale=true", X, y).predict_proba(X), near)
    assert [name for name, _ in heads.build("logreg?C=2&scale=false").steps] == ["head"]
    for name in ("forest?scale=false", "logreg?scale=maybe"):
        with pytest.raises(SpecError, match="scale"):
            heads.build(name)


@pytest.mark.parametrize("name", ["svm", "linear-svm"])
def test_machines_without_probabilities_say_so(name):
    estimator = heads.build(name, 0)
    assert heads.needs_calibration(estimator)
    assert not heads.needs_calibration(heads.calibrated(estimator, []))
    assert not heads.needs_calibration(heads.build("logreg", 0))


def test_in_an_average_only_what_needs_it_is_calibrated():
    average = heads.build("logreg+svm", 0)
    assert heads.needs_calibration(average)
    ready = heads.calibrated(average, halves(8))
    assert isinstance(ready.estimators[0], Pipeline)
    assert not heads.needs_calibration(ready)


def test_an_average_is_the_mean_of_its_parts():
    X, y = blobs(3)
    mean = (fitted("logreg", X, y).predict_proba(X) + fitted("lda", X, y).predict_proba(X)) / 2
    np.testing.assert_allclose(fitted("logreg+lda", X, y).predict_proba(X), mean, atol=1e-6)


@pytest.mark.parametrize("name", ["svm", "linear-svm"])
@pytest.mark.parametrize("classes", [2, 5])
def test_calibration_changes_no_decision(name, classes):
    X, y = blobs(classes)
    machine = heads.build(name, 0).fit(X, y)
    np.testing.assert_array_equal(fitted(name, X, y).predict(X), machine.predict(X))


def test_calibration_makes_noise_unsure():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 5)).astype(np.float32), np.arange(60) // 2 % 2
    assert fitted("svm", X, y).predict_proba(X).max() < 0.7, "labels at random deserve no confidence"


def test_calibration_stands_a_class_that_a_split_has_not_seen():
    X, y = blobs(3)
    splits = [(np.flatnonzero(y != 2), np.flatnonzero(y == 2)), *halves(len(y))]
    probabilities = heads.calibrated(heads.build("svm", 0), splits).fit(X, y).predict_proba(X)
    assert np.isfinite(probabilities).all()
    assert probabilities.shape == (len(y), 3)


def test_kernel_machine_is_the_same_with_and_without_the_shared_kernel(monkeypatch):
    X, y = blobs(3)
    shared = heads.KernelSVM().fit(X, y).decision_function(X)
    monkeypatch.setattr("soundmark.estimators.PRECOMPUTED_CLIPS", 0)
    np.testing.assert_allclose(heads.KernelSVM().fit(X, y).decision_function(X), shared, atol=2e-2)


def test_linear_machine_votes_like_the_plain_pairwise_one():
    from sklearn.svm import SVC

    X, y = blobs(5)
    X = (X - X.mean(0)) / X.std(0)
    plain = SVC(kernel="linear", C=1.0).fit(X, y).predict(X)
    assert (heads.LinearSVM(C=1.0).fit(X, y).predict(X) == plain).mean() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_clones_are_unfitted_and_equal(name):
    estimator = heads.build(name, 0)
    assert repr(clone(estimator)) == repr(estimator)


def test_balance_can_be_switched_off():
    assert heads.build("svm?balanced=false", 0)[-1].class_weight is None
    assert heads.build("forest", 0)[-1].class_weight == "balanced"


@pytest.mark.parametrize("name", heads.HEADS)
def test_vectors_that_are_all_equal_break_nothing(name):
    X, y = np.ones((12, 4), dtype=np.float32), np.arange(12) % 3
    assert np.isfinite(fitted(SMALL.get(name, name), X, y).predict_proba(X)).all()


def test_one_thread_holds_until_the_last_has_left():
    from threadpoolctl import threadpool_info

    def blas():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = blas()
    first, second = heads.one_thread(), heads.one_thread()
    first.__enter__()
    second.__enter__()
    assert set(blas()) <= {1}
    first.__exit__(None, None, None)
    assert set(blas()) <= {1}
    second.__exit__(None, None, None)
    assert blas() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nope", "there is no head called 'nope'"),
        ("logreg?gamma=1", "no setting 'gamma'"),
        ("svm?C=-1", "positive number"),
        ("svm?C=nan", "positive number"),
        ("svm?gamma=wide", "should be a number"),
        ("knn?metric=chess", "one of: euclidean, cosine"),
        ("knn?weights=heavy", "one of: distance, uniform"),
        ("knn?k=0", "positive number"),
        ("mlp?hidden=big", "sizes of layers"),
        ("boosting?leaves=1", "leaves are at least 2"),
        ("boosting?features=2", "share in"),
        ("forest?features=1.5", "share in"),
        ("forest?features=many", "should be a number"),
        ("lda?shrinkage=2", "share in"),
        ("linear?epochs=0", "a number from 1 up, or `auto`"),
        ("three-layer?epochs=many", "a number from 1 up, or `auto`"),
        ("three-layer?hidden=0", "positive number"),
        ("prototype?metric=chess", "one of: cosine, euclidean"),
        ("logreg@layer", "no view and no layer"),
    ],
)
def test_what_cannot_be_built_is_explained(text, says):
    with pytest.raises(SpecError, match=says):
        heads.build(text, 0)
