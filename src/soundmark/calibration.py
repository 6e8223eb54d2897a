"""Whether probabilities mean what they say: log loss, calibration error, reliability.

A clip's probabilities need not sum to one; here they are divided by their sum, since these scores are about
distributions. A clip whose probabilities are all 0 counts as undecided.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundmark.intervals import Floats, number, ratio

Ints = NDArray[np.integer]
Score = Any  # one float; with weights (k, n), an array (k,)

BINS = 15


def _distribution(probabilities: Floats) -> Floats:
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), 0.0, None)
    total = clipped.sum(axis=1, keepdims=True)
    return np.where(total > 0, clipped / np.where(total > 0, total, 1.0), 1.0 / clipped.shape[1])


def _mean_clip(values: Floats, weights: Floats | None) -> Score:
    return values.mean() if weights is None else weights @ values / weights.sum(axis=1)


def log_loss(targets: Ints, probabilities: Floats, weights: Floats | None = None) -> Score:
    """Mean of -ln p(true class), in nats; no p counts as less than 2.2e-16, so one zero does not make it infinite."""
    p = _distribution(probabilities)[np.arange(len(targets)), targets]
    return _mean_clip(-np.log(np.maximum(p, np.finfo(np.float64).eps)), weights)


def _bins(probabilities: Floats, bins: int) -> tuple[Floats, Ints]:
    confidence = _distribution(probabilities).max(axis=1)
    return confidence, np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def binned(targets: Ints, probabilities: Floats, weights: Floats | None, bins: int) -> tuple[Floats, Floats, Floats]:
    """Sums over each bin, (k, bins), of: clips, confidence, clips predicted rightly."""
    weights = np.ones((1, len(targets))) if weights is None else weights
    confidence, place = _bins(probabilities, bins)
    right = (np.argmax(probabilities, axis=1) == targets).astype(np.float64)
    member = (place[:, None] == np.arange(bins)).astype(np.float64)
    return weights @ member, weights @ (member * confidence[:, None]), weights @ (member * right[:, None])


def calibration_error(
    targets: Ints, probabilities: Floats, weights: Floats | None = None, *, bins: int = BINS
) -> Score:
    """Expected calibration error of the predicted class (Naeini et al. 2015; Guo et al. 2017), equal-width bins.

    The mean over clips of how far apart the confidence and the share predicted rightly are in the clip's bin.
    """
    clips, confidence, right = binned(targets, probabilities, weights, bins)
    error = np.abs(confidence - right).sum(axis=1) / clips.sum(axis=1)
    return error[0] if weights is None else error


def reliability(targets: Ints, probabilities: Floats, *, bins: int = BINS) -> list[dict[str, Any]]:
    """For each equal-width bin (low, high] of confidence: `low`, `high`, `clips`, mean `confidence`, `accuracy`.

    The last two are None in an empty bin.
    """
    clips, confidence, right = (sums[0] for sums in binned(targets, probabilities, None, bins))
    return [
        {
            "low": b / bins,
            "high": (b + 1) / bins,
            "clips": int(clips[b]),
            "confidence": number(ratio(confidence[b], clips[b])),
            "accuracy": number(ratio(right[b], clips[b])),
        }
        for b in range(bins)
    ]
