"""Heads: estimators on vectors, as scikit-learn pipelines with the scaler inside.

A head is named in the grammar (`svm?C=10`), and several joined with `+` average their probabilities (`svm+logreg`).
Adding one is a function here and a line in `HEADS`. Heads know arrays only: no clips, no groups, no files.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from soundmark.errors import SpecError
from soundmark.estimators import (
    Average,
    Boosting,
    Calibrated,
    ExtraTrees,
    FixedMLP,
    KernelSVM,
    LinearSVM,
    Neighbours,
    ShrunkLDA,
)
from soundmark.probe_heads import (
    AUTO,
    AdamClassifier,
    ChosenEpochs,
    Prototypes,
    chooses_epochs,
    fitted,
    said_of,
    streams,
)
from soundmark.spec import Spec, lookup, parse_joined, take

SCALE = "scale"  # a setting of every head


def build(text: str, seed: int = 0) -> Any:
    """The unfitted estimator that a name stands for.

    Args:
        text: name in the grammar, one value per setting: `logreg`, `knn?k=3&metric=cosine`, `svm+forest`. With
            `scale=false` those that have a scaler do without.
        seed: of whatever the estimator draws at random.

    Returns:
        A pipeline, or an `Average` of pipelines. It is fitted on X (n, dim) float32 and y (n,) integers, and has
        `predict_proba` unless `needs_calibration` says otherwise.

    Raises:
        SpecError: for an unknown head or setting, or a value out of range.
    """
    parts = [_one(spec, seed) for spec in parse_joined(text)]
    return parts[0] if len(parts) == 1 else Average(parts)


def _one(spec: Spec, seed: int) -> Pipeline:
    if spec.view or spec.layer:
        raise SpecError(f"a head has no view and no layer: write {spec.name!r} instead of {str(spec)!r}")
    settings = dict(spec.settings)
    scale = settings.pop(SCALE, "true")
    pipeline: Pipeline = lookup("head", spec.name, HEADS)(replace(spec, settings=settings), seed)
    if scale == "true":
        return pipeline
    if scale != "false" or pipeline.steps[0][0] != "scaler":
        raise SpecError(f"{str(spec)!r}: {SCALE} is true or false, and trees scale nothing in any case")
    return Pipeline(pipeline.steps[1:])


def needs_calibration(estimator: Any) -> bool:
    """Whether the estimator, or a part of an average, asks for out-of-fold scores before it is fitted.

    It does where it gives scores instead of probabilities, and where its number of epochs is yet to be chosen.
    """
    if isinstance(estimator, Average):
        return any(needs_calibration(each) for each in estimator.estimators)
    if isinstance(estimator, Calibrated | ChosenEpochs):
        return False
    return chooses_epochs(estimator) or not hasattr(estimator, "predict_proba")


def calibrated(estimator: Any, splits: Sequence[tuple[np.ndarray, np.ndarray]]) -> Any:
    """The estimator with probabilities, calibrated on out-of-fold scores of the rows it will be fitted on.

    Args:
        estimator: what `build` gave.
        splits: (train, test) positions among those rows. They should keep groups whole; heads cannot know. Without
            any, scores are taken as they are, and epochs as many as may be.

    Returns:
        An unfitted estimator with `predict_proba`. In an average only the parts that need it are calibrated.
    """
    if isinstance(estimator, Average):
        return Average([calibrated(each, splits) for each in estimator.estimators])
    if not needs_calibration(estimator):
        return clone(estimator)
    return ChosenEpochs(estimator, splits) if chooses_epochs(estimator) else Calibrated(estimator, splits)


# Of one clip per class there are as many classes as clips. Set once: other filters are not safe among threads.
MANY_CLASSES = "The number of unique classes is greater than 50%"
warnings.filterwarnings("ignore", MANY_CLASSES, UserWarning)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep linear algebra and OpenMP to the calling thread while heads are fitted inside.

    Their own threads only wait for each other over matrices as small as ours: on two cores a logistic regression of
    ESC-50 takes 2.5 s with one thread, 10 s with two, and minutes where several are fitted side by side. May be
    entered by several threads at once.
    """
    with _COUNTING:
        if not _INSIDE:
            _LIMIT.append(threadpool_limits(1, user_api="blas"))
        _INSIDE.append(True)
    try:
        with threadpool_limits(1, user_api="openmp"):  # OpenMP counts for every thread apart
            yield
    finally:
        with _COUNTING:
            _INSIDE.pop()
            if not _INSIDE:
                _LIMIT.pop().restore_original_limits()


_COUNTING = threading.Lock()
_INSIDE: list[bool] = []
_LIMIT: list[Any] = []


def logreg(spec: Spec, seed: int) -> Pipeline:
    """Multinomial logistic regression with an L2 penalty of 1 / C."""
    given = _settings(spec, C=1.0, balanced=True)
    return _scaled(LogisticRegression(C=given["C"], class_weight=_weight(given), max_iter=10_000, random_state=seed))


def linear_svm(spec: Spec, seed: int) -> Pipeline:
    """Linear support vector machine, pair by pair."""
    given = _settings(spec, C=1.0, balanced=True)
    return _scaled(LinearSVM(C=given["C"], class_weight=_weight(given)))


def svm(spec: Spec, seed: int) -> Pipeline:
    """Support vector machine with a radial kernel; gamma `scale` is 1 / dim on scaled vectors."""
    given = _settings(spec, C=10.0, gamma="scale", balanced=True)
    gamma = given["gamma"]
    return _scaled(
        KernelSVM(
            C=given["C"],
            gamma=gamma if gamma == "scale" else _number(spec, "gamma", gamma),
            class_weight=_weight(given),
        )
    )


def forest(spec: Spec, seed: int) -> Pipeline:
    """Random forest; `features` is the share of features tried at a split, or `sqrt`."""
    return Pipeline([("head", RandomForestClassifier(**_trees(spec), random_state=seed))])


def extra_trees(spec: Spec, seed: int) -> Pipeline:
    """Extremely randomised trees: like a forest, with thresholds drawn at random."""
    return Pipeline([("head", ExtraTrees(**_trees(spec), random_state=seed))])


def knn(spec: Spec, seed: int) -> Pipeline:
    """The k nearest training clips vote, with weights `distance` or `uniform`; metric `euclidean` or `cosine`."""
    given = _settings(spec, k=5, weights="distance", metric="euclidean")
    _choice(spec, given, "weights", ("distance", "uniform"))
    _choice(spec, given, "metric", ("euclidean", "cosine"))
    return _scaled(Neighbours(given["k"], weights=given["weights"], metric=given["metric"], algorithm="brute"))


def mlp(spec: Spec, seed: int) -> Pipeline:
    """Multi-layer perceptron with ReLU and Adam; `hidden` is the layers' sizes, such as `512` or `256x128`."""
    given = _settings(spec, hidden="512", alpha=1.0, steps=500, batch=200, rate=1e-3)
    sizes = given["hidden"].split("x")
    if not all(size.isdigit() and 0 < int(size) <= 65536 for size in sizes):
        raise SpecError(f"{str(spec)!r}: hidden is sizes of layers such as 512 or 256x128")
    return _scaled(
        FixedMLP(
            tuple(map(int, sizes)),
            alpha=given["alpha"],
            batch_size=given["batch"],
            learning_rate_init=given["rate"],
            max_iter=given["steps"],
            random_state=seed,
        )
    )


def boosting(spec: Spec, seed: int) -> Pipeline:
    """Gradient boosting on histograms: many small trees, each tried on a tenth of the features.

    Small trees and coarse bins make 50 classes affordable (a tree per class and iteration) and score higher than the
    usual 31 leaves on some dozens of clips per class.
    """
    given = _settings(spec, iterations=100, rate=0.1, leaves=4, features=0.1, bins=31, l2=1.0, balanced=True)
    if given["leaves"] < 2 or not 2 <= given["bins"] <= 255 or not 0 < given["features"] <= 1:
        raise SpecError(f"{str(spec)!r}: leaves are at least 2, bins from 2 to 255, features a share in (0, 1]")
    booster = Boosting(
        learning_rate=given["rate"],
        max_iter=given["iterations"],
        max_leaf_nodes=given["leaves"],
        min_samples_leaf=10,
        max_features=given["features"],
        max_bins=given["bins"],
        l2_regularization=given["l2"],
        class_weight=_weight(given),
        early_stopping=False,
        random_state=seed,
    )
    return Pipeline([("head", booster)])


def lda(spec: Spec, seed: int) -> Pipeline:
    """Linear discriminant analysis with the covariance shrunk by Ledoit and Wolf's rule, or by a share."""
    given = take(spec, {"shrinkage": "auto", "balanced": True})
    shrinkage = given["shrinkage"]
    if shrinkage != "auto":
        shrinkage = _number(spec, "shrinkage", shrinkage)
        if shrinkage > 1:
            raise SpecError(f"{str(spec)!r}: shrinkage is `auto` or a share in (0, 1]")
    return _scaled(ShrunkLDA(shrinkage, priors="equal" if given["balanced"] else "frequent"))


def linear(spec: Spec, seed: int) -> Pipeline:
    """One linear layer, trained with Adam; `epochs` is a number, or `auto` to choose it on the training side."""
    return _scaled(AdamClassifier((), **_adam(spec), random_state=seed))


def three_layer(spec: Spec, seed: int) -> Pipeline:
    """Three linear layers with ReLU between (dim, `hidden`, `hidden`, classes), trained with Adam like `linear`."""
    given = _adam(spec, hidden=256)
    size = given.pop("hidden")
    return _scaled(AdamClassifier((size, size), **given, random_state=seed))


def _adam(spec: Spec, **more: Any) -> dict[str, Any]:
    """Settings of training with Adam. Batch, rate and epochs are those of the AudioSep probing study we repeat."""
    given = _settings(spec, **more, batch=8, rate=1e-3, epochs="100", balanced=True)
    epochs = given["epochs"]
    if epochs != AUTO:
        if not (epochs.isdigit() and 0 < int(epochs) <= 100_000):
            raise SpecError(f"{str(spec)!r}: epochs is a number from 1 up, or `auto`")
        given["epochs"] = int(epochs)
    return {key: value for key, value in given.items() if key != "balanced"} | {"class_weight": _weight(given)}


def prototype(spec: Spec, seed: int) -> Pipeline:
    """The class whose mean is nearest, by `metric` `cosine` or `euclidean`; for a handful of clips per class."""
    given = _settings(spec, metric="cosine")
    _choice(spec, given, "metric", ("cosine", "euclidean"))
    return _scaled(Prototypes(given["metric"]))


HEADS: dict[str, Callable[[Spec, int], Pipeline]] = {
    "boosting": boosting,
    "extra-trees": extra_trees,
    "forest": forest,
    "knn": knn,
    "lda": lda,
    "linear": linear,
    "linear-svm": linear_svm,
    "logreg": logreg,
    "mlp": mlp,
    "prototype": prototype,
    "svm": svm,
    "three-layer": three_layer,
}


def _scaled(estimator: Any) -> Pipeline:
    """Every component to mean 0 and variance 1 of the training clips. Trees do without: they only compare."""
    return Pipeline([("scaler", StandardScaler()), ("head", estimator)])


def _trees(spec: Spec) -> dict[str, Any]:
    given = _settings(spec, trees=500, features="sqrt", leaf=1, balanced=True)
    features = given["features"]
    if features != "sqrt":
        features = _number(spec, "features", features)
        if features > 1:
            raise SpecError(f"{str(spec)!r}: features is `sqrt` or a share in (0, 1]")
    return {
        "n_estimators": given["trees"],
        "max_features": features,
        "min_samples_leaf": given["leaf"],
        "class_weight": _weight(given),
    }


def _weight(given: Mapping[str, Any]) -> str | None:
    return "balanced" if given["balanced"] else None


def _settings(spec: Spec, **defaults: Any) -> dict[str, Any]:
    """`take`, and every number must be positive and finite."""
    given = take(spec, defaults)
    for key, value in given.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            _number(spec, key, value)
    return given


def _number(spec: Spec, key: str, value: Any) -> float:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise SpecError(f"{key}={value} in {str(spec)!r} should be a number") from None
    if not (0 < number < float("inf")):
        raise SpecError(f"{key}={value} in {str(spec)!r} should be a positive number")
    return number


def _choice(spec: Spec, given: Mapping[str, Any], key: str, known: tuple[str, ...]) -> None:
    if given[key] not in known:
        raise SpecError(f"{key}={given[key]} in {str(spec)!r} should be one of: {', '.join(known)}")


__all__ = [
    "HEADS",
    "build",
    "calibrated",
    "fitted",
    "needs_calibration",
    "one_thread",
    "said_of",
    "streams",
]
