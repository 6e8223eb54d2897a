"""Small networks and prototypes as scikit-learn estimators: its contract, PyTorch's arithmetic, honest epochs."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from soundmark import heads, probe_heads, rows
from soundmark.probe_heads import MOST_EPOCHS, AdamClassifier, ChosenEpochs, Prototypes
from soundmark.rows import Rows

ESTIMATORS = [
    AdamClassifier(epochs=60, rate=0.03),
    AdamClassifier((16, 16), epochs=20, rate=0.01),
    Prototypes(),
    Prototypes("euclidean"),
]


def clouds(classes: int = 3, per_class: int = 20, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(classes * per_class) % classes
    centres = np.random.default_rng(5).normal(size=(classes, 6)) * 2
    X = centres[y] + noise * np.random.default_rng(seed).normal(size=(len(y), 6))
    return X.astype(np.float32), y


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learns_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("hidden", [(), (7, 5)])
def test_it_is_what_pytorch_would_have_trained(hidden):
    """Written-out gradients and the flat update, against automatic differentiation from the same start."""
    X, y = clouds(per_class=7)  # 21 clips: the last batch has five
    weights = {0: 1.0, 1: 2.0, 2: 0.5}
    random = np.random.RandomState(3)
    sizes = [6, *hidden, 3]
    layers = [torch.nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)]
    for layer in layers:
        inputs, outputs = layer.in_features, layer.out_features
        first = random.uniform(-1 / np.sqrt(inputs), 1 / np.sqrt(inputs), (inputs + 1) * outputs).astype(np.float32)
        layer.weight.data = torch.from_numpy(first[: inputs * outputs].reshape(inputs, outputs).T.copy())
        layer.bias.data = torch.from_numpy(first[inputs * outputs :].copy())
    parts = [part for layer in layers for part in (layer, torch.nn.ReLU())][:-1]
    network = torch.nn.Sequential(*parts)
    adam = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        order = random.permutation(len(X))
        for i in range(0, len(X), 8):
            some = order[i : i + 8]
            loss = torch.nn.functional.cross_entropy(
                network(torch.from_numpy(X[some])), torch.from_numpy(y[some]), reduction="none"
            )
            adam.zero_grad()
            (loss * torch.tensor([weights[int(label)] for label in y[some]])).mean().backward()
            adam.step()
    ours = AdamClassifier(hidden, rate=1e-2, epochs=3, class_weight=weights, random_state=3).fit(X, y)
    with torch.no_grad():
        expected = network(torch.from_numpy(X)).softmax(1).numpy()
    np.testing.assert_allclose(ours.predict_proba(X), expected, atol=2e-5)


def test_stages_are_the_fit_looked_at_after_every_epoch():
    X, y = clouds()
    head = AdamClassifier(epochs=4, random_state=0)
    said = list(head.stages(X, y, X))
    assert len(said) == 4
    for epochs in (1, 4):
        again = AdamClassifier(epochs=epochs, random_state=0).fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(said[epochs - 1], again)


def test_seeds_count_and_settings_of_pytorch_are_given_back():
    X, y = clouds()
    threads = torch.get_num_threads()
    first, other = (AdamClassifier(epochs=2, random_state=seed).fit(X, y).predict_proba(X) for seed in (0, 1))
    assert not np.array_equal(first, other)
    assert torch.get_num_threads() == threads
    assert float(torch.tensor([1e-30]) * torch.tensor([1e-10])) > 0, "denormal numbers are flushed for good"


def test_fewer_epochs_are_chosen_where_more_would_learn_the_noise_by_heart():
    """Labels at random: every epoch more makes the clips held out less probable."""
    X, y = clouds(classes=2, per_class=30, noise=20.0)
    half = np.arange(len(y)) < len(y) // 2
    splits = [(np.flatnonzero(half), np.flatnonzero(~half)), (np.flatnonzero(~half), np.flatnonzero(half))]
    noise = heads.calibrated(heads.build("three-layer?epochs=auto&hidden=32"), splits).fit(X, y)
    assert noise.losses_.shape == (MOST_EPOCHS,)
    assert noise.epochs_ == noise.losses_.argmin() + 1 < 20
    assert noise.estimator_[-1].epochs == noise.epochs_
    clear = heads.calibrated(heads.build("linear?epochs=auto"), splits).fit(*clouds(classes=2, per_class=30))
    assert clear.epochs_ > 20


def test_epochs_without_splits_are_the_most_there_are():
    X, y = clouds(per_class=2)
    head = heads.calibrated(heads.build("linear?epochs=auto"), []).fit(X, y)
    assert isinstance(head, ChosenEpochs)
    assert head.epochs_ == MOST_EPOCHS
    np.testing.assert_array_equal(head.predict(X), heads.build("linear").fit(X, y).predict(X))
    assert clone(head).estimator[-1].epochs == "auto"


def test_a_class_that_a_split_has_not_seen_is_left_out_of_its_loss():
    X, y = clouds()
    splits = [(np.flatnonzero(y != 2), np.arange(6)), (np.arange(6, 60), np.arange(6))]
    assert np.isfinite(heads.calibrated(heads.build("linear?epochs=auto"), splits).fit(X, y).losses_).all()


def test_a_rate_that_runs_away_is_an_error():
    X, y = clouds()
    with pytest.raises(ValueError, match="grew beyond all bounds"):
        AdamClassifier(rate=1e38, epochs=5).fit(1e3 * X, y)


def test_prototypes_by_cosine_ignore_loudness():
    X, y = clouds()
    head = Prototypes().fit(X, y)
    np.testing.assert_allclose(head.decision_function(3 * X), head.decision_function(X), atol=1e-5)
    assert not np.allclose(Prototypes("euclidean").fit(X, y).decision_function(3 * X), head.decision_function(X))


def test_prototypes_learn_from_one_clip_per_class():
    X, y = clouds(classes=5, per_class=1, noise=0.2)
    head = heads.calibrated(heads.build("prototype"), []).fit(X, y)
    new, truth = clouds(classes=5, per_class=10, noise=0.2, seed=1)
    said = head.predict_proba(new)
    assert (said.argmax(1) == truth).mean() > 0.95
    assert 0.5 < said.max(1).mean() < 1, "sure of what is near, without having been calibrated"


@pytest.mark.slow
def test_the_study_s_training_is_quick():
    X, y = np.random.default_rng(0).normal(size=(1600, 384)).astype(np.float32), np.arange(1600) % 50
    started = time.perf_counter()
    heads.build("three-layer?epochs=2").fit(X, y)
    assert time.perf_counter() - started < 5, "100 epochs would take minutes"


# --- Vectors on disk -------------------------------------------------------------------------------------------------


def on_disk(X: np.ndarray) -> Rows:
    return Rows.of([X[i : i + 13] for i in range(0, len(X), 13)], X.shape[1])


@pytest.mark.parametrize("hidden", [(), (8, 8)])
def test_from_disk_the_same_weights_are_learnt_bit_for_bit(hidden, monkeypatch):
    monkeypatch.setattr(probe_heads, "READ_ROWS", 20)  # of 150 clips
    X, y = clouds(per_class=50)
    in_memory = AdamClassifier(hidden, epochs=3, class_weight="balanced", random_state=0).fit(X, y)
    from_disk = AdamClassifier(hidden, epochs=3, class_weight="balanced", random_state=0).fit(on_disk(X), y)
    weights = [learnt.coefs_ + learnt.intercepts_ for learnt in (in_memory, from_disk)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(from_disk.predict_proba(on_disk(X)), in_memory.predict_proba(X))
    assert from_disk.n_features_in_ == 6


@pytest.mark.parametrize("head", ["linear?epochs=5", "three-layer?epochs=5&hidden=16", "linear?epochs=5&scale=false"])
def test_behind_a_scaler_from_disk_the_same_is_said(head, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_BYTES", 4 * 6 * 32)
    X, y = clouds(per_class=50)
    X = 1000 + 3 * X  # a mean that one pass over squares would drown in
    in_memory = heads.fitted(heads.build(head, 0), X, y)
    estimator = heads.build(head, 0)
    assert heads.streams(estimator)
    from_disk = heads.fitted(estimator, on_disk(X), y)
    np.testing.assert_allclose(heads.said_of(from_disk, on_disk(X)), in_memory.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(heads.said_of(from_disk, on_disk(X)), from_disk.predict_proba(X))


def test_epochs_are_chosen_from_disk_as_in_memory():
    X, y = clouds(noise=4.0)
    splits = [(np.arange(0, 40), np.arange(40, 60)), (np.arange(20, 60), np.arange(0, 20))]
    estimator = heads.build("linear?epochs=auto&rate=0.01", 0)
    in_memory = heads.calibrated(estimator, splits).fit(X, y)
    asked = heads.calibrated(heads.build("linear?epochs=auto&rate=0.01", 0), splits)
    assert heads.streams(asked)
    from_disk = heads.fitted(asked, on_disk(X), y)
    assert from_disk.epochs_ == in_memory.epochs_
    np.testing.assert_allclose(from_disk.losses_, in_memory.losses_, rtol=1e-4)
    np.testing.assert_allclose(heads.said_of(from_disk, on_disk(X)), in_memory.predict_proba(X), atol=1e-5)


def test_other_heads_do_not_stream():
    assert not any(heads.streams(heads.build(head)) for head in ("svm", "logreg", "prototype", "linear+svm", "forest"))
