"""Two classes, one of them looked for: ROC and precision-recall, thresholds, and recall at a rate of false alarms.

Functions take the scores (n,) of the class looked for and `is_positive` (n,), whether a clip is of it. An alarm is
raised where the score is at or above a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundmark.errors import ResultsError
from soundmark.intervals import RESAMPLES, Floats, bounds, cluster_weights, count_groups, interval_of, number, ratio

Bools = NDArray[np.bool_]
Score = Any  # one float; with weights (k, n), an array (k,)
CURVE_POINTS = 200
FALSE_ALARM_RATES = (0.05, 0.01)  # at which recall is stated
ACCEPTED = 0.95  # of known sounds that shall score at or above the threshold below which a sound is unknown


def _steps(is_positive: Bools, scores: Floats, weights: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Weights of positives and of negatives at or above each distinct score, falling: (k, steps), and the scores."""
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order], is_positive[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    w = np.ones((1, len(scores))) if weights is None else weights[:, order]
    hits = np.cumsum(np.where(positive, w, 0.0), axis=1)[:, last]
    alarms = np.cumsum(np.where(positive, 0.0, w), axis=1)[:, last]
    return hits, alarms, ranked[last]


def roc_auc(is_positive: Bools, scores: Floats, weights: Floats | None = None) -> Score:
    """Area under the ROC curve: the chance that a positive clip scores above a negative one, ties counting half.

    Args:
        is_positive: (n,) whether the clip is of the class looked for.
        scores: (n,) its probability.
        weights: (k, n) for k resamples.

    Returns:
        A value in [0, 1], NaN where one of the classes has no clip.
    """
    hits, alarms, _ = _steps(is_positive, scores, weights)
    recall = np.pad(ratio(hits, hits[:, -1:]), ((0, 0), (1, 0)))
    false = np.pad(ratio(alarms, alarms[:, -1:]), ((0, 0), (1, 0)))
    area = (np.diff(false, axis=1) * (recall[:, 1:] + recall[:, :-1]) / 2).sum(axis=1)
    return area[0] if weights is None else area


def average_precision(is_positive: Bools, scores: Floats, weights: Floats | None = None) -> Score:
    """Mean precision over the steps of recall, without interpolation; NaN where no clip is positive."""
    hits, alarms, _ = _steps(is_positive, scores, weights)
    gained = np.diff(np.pad(ratio(hits, hits[:, -1:]), ((0, 0), (1, 0))), axis=1)
    area = (gained * ratio(hits, hits + alarms, empty=0.0)).sum(axis=1)
    return area[0] if weights is None else area


def curves(is_positive: Bools, scores: Floats, *, points: int = CURVE_POINTS) -> dict[str, list[float]]:
    """Points of the ROC and the precision-recall curve: `threshold`, `recall`, `false_alarm`, `precision`.

    Thresholds fall from the highest score; at most `points` are kept, evenly over the curve, both ends included.
    """
    hits, alarms, thresholds = _steps(is_positive, scores, None)
    keep = np.unique(np.linspace(0, len(thresholds) - 1, min(points, len(thresholds))).round().astype(int))
    h, a = hits[0, keep], alarms[0, keep]
    return {
        "threshold": thresholds[keep].tolist(),
        "recall": ratio(h, hits[0, -1], empty=0.0).tolist(),
        "false_alarm": ratio(a, alarms[0, -1], empty=0.0).tolist(),
        "precision": ratio(h, h + a, empty=0.0).tolist(),
    }


def choose_threshold(scores: Floats, is_positive: Bools, max_false_alarm: float) -> float:
    """The lowest threshold at which at most this share of the negative clips score at or above it.

    Give it scores of the training side that are out of fold; the test side has no part in a threshold. It lies half-way
    to the next higher score seen, which decides all these clips alike and leaves room for rounding.

    Args:
        scores: (n,) probability of the positive class.
        is_positive: (n,) whether the clip is of it.
        max_false_alarm: largest share of negative clips that may raise an alarm, 0 to 1.

    Raises:
        ResultsError: if there is no negative clip, or a score is not a number.
    """
    negatives = np.sort(scores[~is_positive])[::-1]
    if not len(negatives) or not np.isfinite(scores).all():
        raise ResultsError("a threshold needs finite scores and at least one clip that is not of the positive class")
    allowed = math.floor(max_false_alarm * len(negatives) + 1e-9)
    if allowed >= len(negatives):
        return float(scores.min())
    blocked = float(negatives[allowed])
    above = scores[scores > blocked]
    threshold = (blocked + float(above.min())) / 2 if len(above) else blocked
    return threshold if threshold > blocked else float(np.nextafter(blocked, np.inf))


def accepting_threshold(scores: Floats, accepted: float = ACCEPTED) -> float:
    """The highest threshold at or above which this share of the scores lies, all of them where they are few.

    Give it scores of known clips that are out of fold. It lies half-way to the next lower score seen, or a thousandth
    below the lowest, which decides all these clips alike and leaves room for rounding.

    Args:
        scores: (n,) of known clips.
        accepted: the share, 0 to 1.

    Raises:
        ResultsError: if there are no scores, or one is not a number.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise ResultsError("a threshold needs finite scores, and at least one")
    ordered = np.unique(scores)
    allowed = math.floor((1 - accepted) * len(scores) + 1e-9)
    lowest = np.sort(scores)[min(allowed, len(scores) - 1)]
    below = ordered[ordered < lowest]
    return float((below[-1] + lowest) / 2) if len(below) else float(lowest - 1e-3 * abs(lowest))


def balancing_threshold(scores: Floats, is_positive: Bools) -> float:
    """The threshold at or above which the F1 score is highest; of several, the highest.

    Give it scores that are out of fold. It lies half-way to the next lower score seen, or to 0, which decides all these
    clips alike and leaves room for rounding.

    Args:
        scores: (n,) probability of a class.
        is_positive: (n,) whether the clip is of it.

    Raises:
        ResultsError: if no clip is of the class, or a score is not a number.
    """
    if not is_positive.any() or not np.isfinite(scores).all():
        raise ResultsError("a threshold needs finite scores and at least one clip of the class")
    hits, alarms, ranked = _steps(is_positive, scores, None)
    f1 = 2.0 * hits[0] / (hits[0] + alarms[0] + is_positive.sum())
    best = int(np.argmax(f1))
    lowest = float(ranked[best])
    below = float(ranked[best + 1]) if best + 1 < len(ranked) else min(0.0, lowest)
    threshold = (lowest + below) / 2
    return threshold if threshold > below else lowest


def alarm(
    flagged: Bools, is_positive: Bools, groups: Sequence[str], *, seed: int = 0, n: int = RESAMPLES
) -> dict[str, float | None]:
    """How many positive clips raised an alarm, and how many negative ones did.

    Args:
        flagged: (n,) whether the clip raised an alarm.
        is_positive: (n,) whether it should have.
        groups: (n,) what is resampled for the intervals.
        seed: of the resampling.
        n: number of resamples.

    Returns:
        `recall`, `low`, `high`; and the rate of false alarms that came about: `realised`, `realised_low`,
        `realised_high`. None where a side has no clip.
    """
    found: dict[str, float | None] = {}
    for name, prefix, side in (("recall", "", is_positive), ("realised", "realised_", ~is_positive)):
        member = side.astype(np.float64)
        hit = member * flagged
        value = ratio(hit.sum(), member.sum())
        draws = [ratio(w @ hit, w @ member) for w in cluster_weights(groups, n=n, seed=seed)]
        low, high = bounds(np.concatenate(draws))
        found |= {name: number(value), **interval_of(value, low, high, count_groups(groups, side), prefix)}
    return found


def recall_at(
    threshold: float | Floats,
    scores: Floats,
    is_positive: Bools,
    groups: Sequence[str],
    *,
    seed: int = 0,
    n: int = RESAMPLES,
) -> dict[str, float | None]:
    """`alarm` of the clips that score at or above a threshold: one for all, or (n,) each clip's own (its fold's)."""
    return alarm(scores >= threshold, is_positive, groups, seed=seed, n=n)
