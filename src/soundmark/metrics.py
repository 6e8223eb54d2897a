"""Scores of predictions, each with its uncertainty.

Every metric is called as `metric(targets, probabilities, weights=None)`: targets (n,) class numbers, probabilities
(n, classes), and, for resampling, weights (k, n), which give k values instead of one. The class predicted is that of
highest probability, the first of equals.

Probabilities of a clip need not sum to one; log loss and calibration, which are about distributions, divide by the sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from soundmark.calibration import BINS, Ints, Score, binned, calibration_error, log_loss, reliability
from soundmark.detection import (
    CURVE_POINTS,
    FALSE_ALARM_RATES,
    alarm,
    average_precision,
    choose_threshold,
    curves,
    recall_at,
    roc_auc,
)
from soundmark.errors import ResultsError
from soundmark.intervals import (
    LEVEL,
    RESAMPLES,
    Floats,
    bounds,
    cluster_weights,
    count_groups,
    group_index,
    interval,
    interval_of,
    mcnemar,
    number,
    paired_permutation,
    ratio,
)
from soundmark.spec import lookup

if TYPE_CHECKING:
    from soundmark.results import Predictions


PAIRS = 20
_HEADLINE = "headline"  # among what is measured, where it is none of the metrics over all clips


# --- From a confusion matrix -------------------------------------------------------------------------------------


def confusion(targets: Ints, predictions: Ints, n: int, weights: Floats | None = None) -> Floats:
    """Count clips by true class (rows) and predicted class (columns).

    Args:
        targets: (clips,) true classes, 0 to n - 1.
        predictions: (clips,) predicted classes.
        n: number of classes.
        weights: (k, clips), or None for each clip once.

    Returns:
        (n, n), or (k, n, n) with weights.
    """
    cells = np.asarray(targets, dtype=np.int64) * n + predictions
    if weights is None:
        return np.bincount(cells, minlength=n * n).reshape(n, n).astype(np.float64)
    k = len(weights)
    rows = (cells + n * n * np.arange(k)[:, None]).ravel()
    counts = np.bincount(rows, weights=weights.ravel(), minlength=k * n * n)
    return counts.astype(np.float64).reshape(k, n, n)


def predicted(probabilities: Floats) -> Ints:
    """The class of highest probability of each clip, the first of equals: (n, classes) to (n,)."""
    return np.asarray(np.argmax(probabilities, axis=1))


def _by_class(counts: Floats) -> dict[str, Floats]:
    """Precision, recall and F1 of each class, (..., classes); NaN where the class has no clip."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, called = counts.sum(-1), counts.sum(-2)
    here = np.where(true > 0, 1.0, np.nan)
    return {
        "precision": ratio(right, called, empty=0.0) * here,
        "recall": ratio(right, true),
        "f1": ratio(2 * right, true + called) * here,
    }


def _mean_present(values: Floats) -> Score:
    present = ~np.isnan(values)
    return ratio(np.where(present, values, 0.0).sum(-1), present.sum(-1))


def _from_counts(counts: Floats) -> dict[str, Score]:
    by_class = _by_class(counts)
    recall = _mean_present(by_class["recall"])
    return {
        "accuracy": ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1))),
        "balanced_accuracy": recall,
        "macro_precision": _mean_present(by_class["precision"]),
        "macro_recall": recall,
        "macro_f1": _mean_present(by_class["f1"]),
    }


def _counted(name: str, targets: Ints, probabilities: Floats, weights: Floats | None) -> Score:
    return _from_counts(confusion(targets, predicted(probabilities), probabilities.shape[1], weights))[name]


def accuracy(targets: Ints, probabilities: Floats, weights: Floats | None = None) -> Score:
    """Share of clips whose predicted class is the true one."""
    return _counted("accuracy", targets, probabilities, weights)


def balanced_accuracy(targets: Ints, probabilities: Floats, weights: Floats | None = None) -> Score:
    """Mean of the classes' recalls (equal to macro recall); classes without a clip are left out."""
    return _counted("balanced_accuracy", targets, probabilities, weights)


def macro_precision(targets: Ints, probabilities: Floats, weights: Floats | None = None) -> Score:
    """Mean of the classes' precisions; a class never predicted counts 0, a class without a clip is left out."""
    return _counted("macro_precision", targets, probabilities, weights)


def macro_recall(targets: Ints, probabilities: Floats, weights: Floats | None = None) -> Score:
    """Mean of the classes' recalls; classes without a clip are left out."""
    return _counted("macro_recall", targets, probabilities, weights)


def macro_f1(targets: Ints, probabilities: Floats, weights: Floats | None = None) -> Score:
    """Mean of the classes' F1 scores; classes without a clip are left out."""
    return _counted("macro_f1", targets, probabilities, weights)


def icbhi_score(targets: Ints, probabilities: Floats, weights: Floats | None = None) -> Score:
    """Mean of specificity and sensitivity, as in the ICBHI 2017 challenge; class 0 is the normal one.

    Specificity is the share of normal clips that are called normal; sensitivity the share of all others, taken
    together, that are called by their own class. With two classes it is the balanced accuracy.

    Source: B. M. Rocha et al., Physiological Measurement 40, 2019.
    """
    counts = confusion(targets, predicted(probabilities), probabilities.shape[1], weights)
    right, true = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1)
    specificity = ratio(right[..., 0], true[..., 0])
    return (specificity + ratio(right[..., 1:].sum(-1), true[..., 1:].sum(-1))) / 2


def per_class(targets: Ints, probabilities: Floats, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each class its `label`, number of `clips`, how often it was `predicted`, `precision`, `recall`, `f1`."""
    counts = confusion(targets, predicted(probabilities), len(classes))
    by_class = _by_class(counts)
    return [
        {
            "label": label,
            "clips": int(counts[c].sum()),
            "predicted": int(counts[:, c].sum()),
            **{name: number(values[c]) for name, values in by_class.items()},
        }
        for c, label in enumerate(classes)
    ]


# --- All of it ---------------------------------------------------------------------------------------------------

METRICS = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_precision": macro_precision,
    "macro_recall": macro_recall,
    "macro_f1": macro_f1,
    "icbhi_score": icbhi_score,
    "log_loss": log_loss,
    "calibration_error": calibration_error,
}


def score(name: str, targets: Ints, probabilities: Floats) -> float:
    """The value of the metric called `name`, one of `METRICS`.

    Raises:
        SpecError: if there is none of that name.
    """
    return float(lookup("metric", name, METRICS)(targets, probabilities))


def over_folds(metric: str, folds: Sequence[str], targets: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """Mean of a metric over the folds for each row of weights, without folds where it is undefined.

    Args:
        metric: one of `METRICS`.
        folds: (clips,) the round in which each clip was tested.
        targets: (clips,) true classes.
        probabilities: (clips, classes).
        weights: (k, clips).

    Returns:
        (k,).
    """
    names = np.asarray(folds, dtype=str)
    values = [
        METRICS[metric](targets[here], probabilities[here], weights[:, here])
        for here in (np.flatnonzero(names == fold) for fold in sorted(set(folds)))
    ]
    return np.asarray(_mean_present(np.stack(values, axis=-1)))


def _measure(
    targets: Ints, probabilities: Floats, weights: Floats, positive: int | None, metric: str
) -> dict[str, Floats]:
    """Every metric for each row of weights (k, n): (k,), or (k, classes) and (k, bins) for the two tables.

    Those that suit any task, and the headline's.
    """
    counts = confusion(targets, predicted(probabilities), probabilities.shape[1], weights)
    clips, _, right = binned(targets, probabilities, weights, BINS)
    found = _from_counts(counts) | {
        "log_loss": log_loss(targets, probabilities, weights),
        "calibration_error": calibration_error(targets, probabilities, weights),
        "class_recall": _by_class(counts)["recall"],
        "class_f1": _by_class(counts)["f1"],
        "bin_accuracy": ratio(right, clips),
    }
    if positive is not None:
        found["roc_auc"] = roc_auc(targets == positive, probabilities[:, positive], weights)
        found["average_precision"] = average_precision(targets == positive, probabilities[:, positive], weights)
    if metric not in found:
        found[metric] = np.asarray(METRICS[metric](targets, probabilities, weights))
    return found


def summary(
    predictions: Predictions,
    *,
    metric: str,
    positive: str = "",
    over: Literal["clips", "folds"] = "clips",
    seed: int = 0,
    n: int = RESAMPLES,
) -> dict[str, Any]:
    """Everything that `metrics.json` says about predictions. All values are plain and JSON-clean; None is "undefined".

    Args:
        predictions: of the test side of every fold.
        metric: the headline's, one of `METRICS`.
        positive: in a two-class task, the class looked for; empty means the second class.
        over: the headline is measured over all clips at once, or in every fold and then averaged, as some data sets do.
        seed: of the resampling.
        n: number of resamples.

    Returns:
        A dict with

        - `format` 1; `classes`; `clips` and `groups`, how many;
        - `headline` {metric, value, low, high, chance}: chance is the metric of always saying the commonest class; with
          `over` "folds" where it is a mean over folds;
        - `metrics` {name: {value, low, high}}, over all clips at once, with 95 % intervals;
        - `folds` [{fold, clips, groups, metrics: {name: value}}];
        - `over_folds` {name: {mean, std, min, max}}, std being that of a sample, None for one fold;
        - `per_class` [{label, clips, groups, predicted, precision, recall, recall_low, recall_high, f1, f1_low,
          f1_high}], predicted being how often the class was;
        - `confusion`, counts, rows the truth;
        - `confused_pairs` [{truth, predicted, clips, share}], the commonest first; share is of the true class's clips;
        - `calibration` {ece, bins: [{low, high, clips, confidence, accuracy, accuracy_low, accuracy_high}]};
        - with two classes, `two_class` {positive, negative, prevalence, roc_auc and average_precision {value, low,
          high}, curves {threshold, recall, false_alarm, precision}};
        - `intervals` {level, method, resamples, seed}.

    Raises:
        SpecError: for an unknown metric.
        ResultsError: if there is nothing to measure, or `positive` is not a class.
    """
    lookup("metric", metric, METRICS)
    classes, targets, p = predictions.classes, predictions.targets, predictions.probabilities
    if not len(targets):
        raise ResultsError("there are no predictions to measure: no clip of the test side could be read")
    if positive and positive not in classes:
        raise ResultsError(f"the positive class {positive!r} is not among the classes: {', '.join(classes)}")
    groups = predictions.groups
    place = None if len(classes) != 2 else classes.index(positive) if positive else 1

    def at(weights: Floats) -> dict[str, Floats]:
        found = _measure(targets, p, weights, place, metric)
        return found | (
            {_HEADLINE: over_folds(metric, predictions.folds, targets, p, weights)} if over == "folds" else {}
        )

    each_once = np.ones((1, len(targets)))
    point = {name: v[0] for name, v in at(each_once).items()}
    draws = [at(weights) for weights in cluster_weights(groups, n=n, seed=seed)]
    limits = {name: bounds(np.concatenate([draw[name] for draw in draws])) for name in point}

    scalars = {name: value for name, value in point.items() if np.ndim(value) == 0}
    in_class = [count_groups(groups, targets == c) for c in range(len(classes))]
    evidence = {
        "log_loss": None,
        "calibration_error": None,
        "roc_auc": min(in_class),
        "average_precision": min(in_class),
    }
    measured = {
        name: {"value": number(value), **interval_of(value, *limits[name], evidence.get(name, group_index(groups)[1]))}
        for name, value in scalars.items()
    }
    head = measured.pop(_HEADLINE, measured[metric])
    counts = confusion(targets, predicted(p), len(classes))
    folds = _folds(predictions, place, metric, list(measured))
    common = np.eye(len(classes))[np.full(len(targets), np.argmax(counts.sum(axis=1)))]
    chance = number(METRICS[metric](targets, common))
    if over == "folds":
        chance = number(over_folds(metric, predictions.folds, targets, common, each_once)[0])
    found: dict[str, Any] = {
        "format": 1,
        "classes": list(classes),
        "clips": len(targets),
        "groups": group_index(groups)[1],
        "headline": {"metric": metric, **head, "chance": chance, **({"over": over} if over != "clips" else {})},
        "metrics": measured,
        "folds": folds,
        "over_folds": {name: _spread([fold["metrics"][name] for fold in folds]) for name in measured},
        "per_class": _class_table(predictions, in_class, point, limits),
        "confusion": counts.astype(int).tolist(),
        "confused_pairs": _confused_pairs(counts, classes),
        "calibration": {"ece": number(point["calibration_error"]), "bins": _bin_table(predictions, limits)},
        "intervals": {
            "level": LEVEL,
            "method": "percentile bootstrap, whole groups resampled",
            "resamples": n,
            "seed": seed,
        },
    }
    if place is not None:
        found["two_class"] = {
            "positive": classes[place],
            "negative": classes[1 - place],
            "prevalence": float(np.mean(targets == place)),
            "roc_auc": measured["roc_auc"],
            "average_precision": measured["average_precision"],
            "curves": curves(targets == place, p[:, place]),
        }
    return found


def alarm_rows(
    predictions: Predictions, positive: str, thresholds: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """What alarms would do at each stated rate of false alarms, every fold at a threshold of its own.

    Args:
        predictions: of the test side of every fold.
        positive: the class looked for.
        thresholds: by fold, and in each by rate, as text.

    Returns:
        For every rate `max_false_alarm`, the `thresholds` by fold, and what `soundmark.detection.alarm` gives.
    """
    place = predictions.classes.index(positive)
    scores, is_positive = predictions.probabilities[:, place], predictions.targets == place
    rows: list[dict[str, Any]] = []
    for rate in FALSE_ALARM_RATES:
        chosen = {fold: each[str(rate)] for fold, each in thresholds.items()}
        flagged = scores >= np.array([chosen[fold] for fold in predictions.folds])
        rows.append({"max_false_alarm": rate, "thresholds": chosen} | alarm(flagged, is_positive, predictions.groups))
    return rows


def _folds(predictions: Predictions, place: int | None, metric: str, names: list[str]) -> list[dict[str, Any]]:
    folds = np.asarray(predictions.folds, dtype=str)
    found = []
    for fold in sorted(set(predictions.folds), key=lambda name: (len(name), name)):
        here = np.flatnonzero(folds == fold)
        p = predictions.probabilities[here]
        values = _measure(predictions.targets[here], p, np.ones((1, len(here))), place, metric)
        found.append(
            {
                "fold": fold,
                "clips": len(here),
                "groups": count_groups(predictions.groups, folds == fold),
                "metrics": {name: number(values[name][0]) for name in names},
            }
        )
    return found


def _spread(values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return dict.fromkeys(("mean", "std", "min", "max"))
    std = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {"mean": float(np.mean(known)), "std": std, "min": min(known), "max": max(known)}


def _class_table(
    predictions: Predictions, in_class: list[int], point: dict[str, Any], limits: dict[str, Any]
) -> list[dict[str, Any]]:
    rows = per_class(predictions.targets, predictions.probabilities, predictions.classes)
    for c, row in enumerate(rows):
        row["groups"] = in_class[c]
        for name in ("recall", "f1"):
            low, high = (end[c] for end in limits[f"class_{name}"])
            row |= interval_of(point[f"class_{name}"][c], low, high, in_class[c], f"{name}_")
    return rows


def _bin_table(predictions: Predictions, limits: dict[str, Any]) -> list[dict[str, Any]]:
    rows = reliability(predictions.targets, predictions.probabilities)
    for b, row in enumerate(rows):
        value = np.nan if row["accuracy"] is None else row["accuracy"]
        low, high = (end[b] for end in limits["bin_accuracy"])
        row |= interval_of(value, low, high, row["clips"], "accuracy_")
    return rows


def _confused_pairs(counts: Floats, classes: Sequence[str]) -> list[dict[str, Any]]:
    wrong = counts * (1 - np.eye(len(classes)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [divmod(int(i), len(classes)) for i in order]
    return [
        {
            "truth": classes[t],
            "predicted": classes[m],
            "clips": int(wrong[t, m]),
            "share": float(wrong[t, m] / counts[t].sum()),
        }
        for t, m in pairs
        if wrong[t, m] > 0
    ]


__all__ = [
    "CURVE_POINTS",
    "METRICS",
    "accuracy",
    "alarm",
    "average_precision",
    "balanced_accuracy",
    "calibration_error",
    "choose_threshold",
    "confusion",
    "curves",
    "icbhi_score",
    "interval",
    "log_loss",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "mcnemar",
    "over_folds",
    "paired_permutation",
    "per_class",
    "predicted",
    "recall_at",
    "reliability",
    "roc_auc",
    "score",
    "summary",
]
