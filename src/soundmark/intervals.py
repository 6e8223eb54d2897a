"""How sure a score is: bootstrap intervals clustered over groups, and paired tests between two systems.

Clips cut from one recording (or of one patient, one speaker) resemble each other, so they are not independent
evidence. Everything here therefore resamples whole groups. A resample is a row of weights, one per clip, saying how
often the clip's group was drawn; a metric that takes weights is thus resampled without copying a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Weighted = Callable[[Floats], Any]  # weights (k, n) -> one value per resample, (k,) or (k, ...)

LEVEL = 0.95
RESAMPLES = 1000
_NOTHING = 1e-12  # what shares that should cancel out leave in floating point
_CHUNK_CELLS = 1_000_000  # weights held at once; bounds the memory for tasks of any size


def group_index(groups: Sequence[str]) -> tuple[NDArray[np.intp], int]:
    """Number every clip's group from 0, an empty name being a group of its own; and how many groups there are."""
    names = [("group", group) if group else ("clip", i) for i, group in enumerate(groups)]
    place = {name: i for i, name in enumerate(sorted(set(names)))}  # sorted: the clips' order does not change a draw
    return np.array([place[name] for name in names], dtype=np.intp), len(place)


def cluster_weights(groups: Sequence[str], *, n: int = RESAMPLES, seed: int = 0) -> Iterator[Floats]:
    """Draw `n` resamples of the groups, with replacement; each is how often every clip is drawn.

    Yields:
        (k, clips) float64, the k's summing to `n`. The draws do not depend on how they are divided.
    """
    index, count = group_index(groups)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // max(1, len(index)))
    for start in range(0, n, chunk):
        k = min(chunk, n - start)
        drawn = rng.integers(count, size=(k, count)) + count * np.arange(k)[:, None]
        times = np.bincount(drawn.ravel(), minlength=k * count).reshape(k, count)
        yield times[:, index].astype(np.float64)


def bounds(values: Floats, *, level: float = LEVEL) -> tuple[Any, Any]:
    """The percentile interval of resampled values (n, ...), along the first axis; undefined resamples are left out."""
    tail = 50 * (1 - level)
    undefined = np.isnan(values).all(axis=0)
    low, high = np.nanpercentile(np.where(undefined, 0.0, values), [tail, 100 - tail], axis=0)
    return np.where(undefined, np.nan, low)[()], np.where(undefined, np.nan, high)[()]


def interval(
    metric: Callable[..., Any],
    targets: NDArray[np.integer],
    probabilities: Floats,
    groups: Sequence[str],
    *,
    n: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Confidence interval of a metric: percentile bootstrap over groups (Efron & Tibshirani 1993; Field & Welsh 2007).

    It always contains the metric's own value: where the resampling is biased (calibration error, which grows when clips
    repeat), the interval is widened to it. One group alone shows no spread, so its interval is a point.

    Args:
        metric: called as `metric(targets, probabilities, weights)` with weights (k, n), gives (k,).
        targets: (n,) class of each clip.
        probabilities: (n, classes).
        groups: (n,) what is resampled.
        n: number of resamples.
        seed: of the draws.
        level: of confidence.
    """
    resampled = [metric(targets, probabilities, weights) for weights in cluster_weights(groups, n=n, seed=seed)]
    low, high = bounds(np.concatenate(resampled), level=level)
    value = float(metric(targets, probabilities, np.ones((1, len(targets))))[0])
    return min(float(low), value), max(float(high), value)


def all_alike(value: float, groups: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval (Clopper & Pearson 1934) of a share that is 0 or 1 in all of `groups` groups.

    Resampling sees no spread there and would claim certainty; nine recordings all named rightly do not show it.
    """
    if groups < 1:
        return 0.0, 1.0
    rest = ((1 - level) / 2) ** (1 / groups)
    return (rest, 1.0) if value > 0.5 else (0.0, 1 - rest)


def mcnemar(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> dict[str, float]:
    """McNemar's exact and mid-p test that two systems err equally often on the same clips (Fagerland et al. 2013).

    It takes clips as independent; `paired_permutation` does not.

    Args:
        correct_a: (n,) whether the first system is right.
        correct_b: (n,) whether the second is.

    Returns:
        `only_a` and `only_b`, clips that one alone gets right, and the two-sided p-values `exact` and `mid_p`.
    """
    only_a = int(np.sum(correct_a & ~correct_b))
    only_b = int(np.sum(~correct_a & correct_b))
    fewer, both = min(only_a, only_b), only_a + only_b
    tail = 2 * float(stats.binom.cdf(fewer, both, 0.5))
    mid = tail - float(stats.binom.pmf(fewer, both, 0.5))
    return {"only_a": only_a, "only_b": only_b, "exact": min(1.0, tail), "mid_p": min(1.0, mid)}


def paired_permutation(
    correct_a: NDArray[Any],
    correct_b: NDArray[Any],
    groups: Sequence[str],
    *,
    weights: Floats | None = None,
    n: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value that two systems are equally accurate: the systems are swapped group by group.

    With few groups in which they differ, every swap is tried and the p-value is exact; otherwise `n` are drawn, and the
    observed one counts among them, so the p-value is never 0.

    Args:
        correct_a: (n,) whether the first system is right; or in what share of several trainings it is.
        correct_b: (n,) the same of the second.
        groups: (n,) clips swapped together.
        weights: (n,) what a clip counts; all alike by default. With 1 / (classes x clips of its class), say, it is the
            balanced accuracies that are compared.
        n: swaps drawn.
        seed: of the draws.
    """
    index, count = group_index(groups)
    apart = correct_a.astype(float) - correct_b.astype(float)
    gains = np.bincount(index, weights=apart if weights is None else apart * weights, minlength=count)
    gains = gains[np.abs(gains) > _NOTHING]
    observed = abs(gains.sum()) - 1e-9
    if 2 ** min(len(gains), 40) <= n:
        swaps = np.arange(2 ** len(gains))[:, None] >> np.arange(len(gains)) & 1
        return float(np.mean(np.abs((1 - 2 * swaps) @ gains) >= observed))
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // len(gains))
    as_large = 0
    for start in range(0, n, chunk):
        swaps = rng.integers(2, size=(min(chunk, n - start), len(gains)))
        as_large += int(np.sum(np.abs((1 - 2 * swaps) @ gains) >= observed))
    return (1 + as_large) / (1 + n)


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p-values of several questions for their number, after Holm (1979), in the order given.

    Calling significant what is below 0.05 afterwards errs in one question or more with a probability of at most 0.05,
    however the questions depend on each other.
    """
    order = np.argsort(values, kind="stable")
    raised = np.asarray(values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(p) for p in adjusted]


def unseen(difference: float, groups: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a mean difference, within -1 and 1, that is the same in all of `groups` groups.

    Resampling sees no spread there and would claim certainty. As many groups of another kind may exist as `all_alike`
    allows for, and in those the difference may be anything.
    """
    others = all_alike(0.0, groups, level=level)[1]
    return difference * (1 - others) - others, difference * (1 - others) + others


def interval_of(value: Any, low: Any, high: Any, groups: int | None, prefix: str = "") -> dict[str, float | None]:
    """Write an interval as `low` and `high` for JSON: containing `value`, never a point at 0 or 1, None if undefined.

    Args:
        value: the score itself.
        low: lower end of the resampled values.
        high: upper end.
        groups: for a share of clips, in how many groups; None for anything else.
        prefix: of the two names.
    """
    if not np.isfinite(value):
        return {f"{prefix}low": None, f"{prefix}high": None}
    if groups is not None and low == high and value in (0.0, 1.0):
        low, high = all_alike(value, groups)
    return {f"{prefix}low": float(np.fmin(low, value)), f"{prefix}high": float(np.fmax(high, value))}


def ratio(top: Any, bottom: Any, empty: float = np.nan) -> Any:
    """`top / bottom`, and `empty` where `bottom` is not positive."""
    bottom = np.asarray(bottom, dtype=np.float64)
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), empty)[()]


def number(value: Any) -> float | None:
    """A plain float for JSON, or None where the value is undefined."""
    return float(value) if np.isfinite(value) else None


def count_groups(groups: Sequence[str], member: NDArray[np.bool_]) -> int:
    """How many groups have a member clip."""
    return group_index([group for group, inside in zip(groups, member, strict=True) if inside])[1]
