"""Two runs on the same clips, paired: what they differ by as a whole, and in every class.

`soundmark.results.compare` takes folders too; this is its arithmetic, on runs that have been read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from soundmark.errors import ResultsError
from soundmark.intervals import (
    RESAMPLES,
    Floats,
    bounds,
    cluster_weights,
    count_groups,
    group_index,
    holm,
    interval_of,
    mcnemar,
    paired_permutation,
    ratio,
    unseen,
)
from soundmark.metrics import METRICS, over_folds

if TYPE_CHECKING:
    from soundmark.results import Run


def compare(a: Run, b: Run, *, seed: int = 0, n: int = RESAMPLES, per_class: bool = False) -> dict[str, Any]:
    """What `soundmark.results.compare` says of two runs.

    Raises:
        ResultsError: if the runs do not hold the same clips, labels and classes; the message says how they differ.
    """
    order = match(a, b)
    p, q = a.predictions, b.predictions
    targets, groups = p.targets, p.groups
    sides = [(p.folds, p.probabilities), ([q.folds[i] for i in order], q.probabilities[order])]
    head = a.metrics["headline"]
    metric, folded = head["metric"], head.get("over") == "folds"

    def measured(weights: Floats) -> list[Floats]:
        if folded:
            return [over_folds(metric, folds, targets, said, weights) for folds, said in sides]
        return [np.asarray(METRICS[metric](targets, said, weights)) for _, said in sides]

    values = [float(value[0]) for value in measured(np.ones((1, len(targets))))]
    draws = []
    for weights in cluster_weights(groups, n=n, seed=seed):
        of_a, of_b = measured(weights)
        draws.append(of_b - of_a)
    difference = values[1] - values[0]
    right_a, right_b = (np.argmax(said, axis=1) == targets for _, said in sides)
    test = mcnemar(right_a, right_b)
    found: dict[str, Any] = {
        "a": {"name": a.name, "value": values[0]},
        "b": {"name": b.name, "value": values[1]},
        "metric": metric,
        **({"over": "folds"} if folded else {}),
        "clips": len(targets),
        "groups": group_index(groups)[1],
        "difference": difference,
        **interval_of(difference, *bounds(np.concatenate(draws)), None),
        "both_right": int(np.sum(right_a & right_b)),
        "only_a": test["only_a"],
        "only_b": test["only_b"],
        "both_wrong": int(np.sum(~right_a & ~right_b)),
        "mcnemar": {"p": test["mid_p"], "exact": test["exact"]},
        "permutation": {"p": paired_permutation(right_a, right_b, groups, seed=seed)},
        "notes": _notes(a, b, order),
    }
    return found | ({"per_class": by_class(a, b, seed=seed, n=n)} if per_class else {})


def by_class(a: Run, b: Run, *, seed: int = 0, n: int = RESAMPLES) -> list[dict[str, Any]]:
    """What two runs differ by in every class, in the order of the classes.

    Returns:
        For each class its `label`; `clips` and `groups`, how many; `a`, `b`, the recall of each run; `difference`
        (b - a) with `low` and `high`, its 95 % interval, whole groups resampled; `only_a`, `only_b`, how many clips one
        run alone gets right, and `lost`, `won`, their keys; `p`, of the permutation test over groups within the class,
        and `p_holm`, the same after Holm's correction for the number of classes. A class without clips has None for
        all that is undefined, and does not count for the correction.

    Raises:
        ResultsError: if the runs do not hold the same clips, labels and classes; the message says how they differ.
    """
    order = match(a, b)
    p, q = a.predictions, b.predictions
    right_a, right_b = p.predicted() == p.targets, q.predicted()[order] == p.targets
    members = np.eye(len(p.classes))[p.targets]  # (clips, classes)
    gains = (right_b.astype(float) - right_a)[:, None] * members
    draws = [ratio(w @ gains, w @ members) for w in cluster_weights(p.groups, n=n, seed=seed)]
    low, high = bounds(np.concatenate(draws))
    rows: list[dict[str, Any]] = []
    for c, label in enumerate(p.classes):
        here = np.flatnonzero(p.targets == c)
        row: dict[str, Any] = {"label": label, "clips": len(here), "groups": count_groups(p.groups, p.targets == c)}
        flips = _flips(p.clips, here, right_a, right_b)
        if len(here):
            of_a, of_b = float(right_a[here].mean()), float(right_b[here].mean())
            ends = low[c], high[c]
            least, most = unseen(of_b - of_a, row["groups"]) if ends[0] == ends[1] else ends
            chance = paired_permutation(right_a[here], right_b[here], [p.groups[int(i)] for i in here], seed=seed)
            row |= {"a": of_a, "b": of_b, "difference": of_b - of_a, **interval_of(of_b - of_a, least, most, None)}
            rows.append(row | flips | {"p": chance})
        else:
            rows.append(row | dict.fromkeys(("a", "b", "difference", "low", "high")) | flips | {"p": None})
    known = [row["p"] for row in rows if row["p"] is not None]
    adjusted = iter(holm(known))
    return [row | {"p_holm": None if row["p"] is None else next(adjusted)} for row in rows]


def _flips(
    clips: Sequence[str], here: NDArray[np.intp], right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]
) -> dict[str, Any]:
    lost = [clips[int(i)] for i in here if right_a[i] and not right_b[i]]
    won = [clips[int(i)] for i in here if right_b[i] and not right_a[i]]
    return {"only_a": len(lost), "only_b": len(won), "lost": lost, "won": won}


def match(a: Run, b: Run) -> list[int]:
    """For each clip of `a`, its position in `b`.

    Raises:
        ResultsError: if the runs do not hold the same clips, labels and classes; the message says how they differ.
    """
    p, q = a.predictions, b.predictions
    if p.classes != q.classes:
        only = sorted(set(p.classes) ^ set(q.classes))
        how = f"only one of them has {_some(only)}" if only else "they stand in another order"
        raise ResultsError(f"{a.name} and {b.name} cannot be compared: their classes differ ({how})")
    place = {clip: i for i, clip in enumerate(q.clips)}
    here, there = set(p.clips), set(place)
    if here != there:
        sides = [(a, sorted(here - there)), (b, sorted(there - here))]
        how = "; ".join(f"{len(only)} only in {run.name}: {_some(only)}" for run, only in sides if only)
        raise ResultsError(f"{a.name} and {b.name} cannot be compared: they tested different clips ({how})")
    order = [place[clip] for clip in p.clips]
    if len(changed := [clip for clip, i, j in zip(p.clips, p.targets, q.targets[order], strict=True) if i != j]):
        raise ResultsError(
            f"{a.name} and {b.name} cannot be compared: {len(changed)} clips have other labels: {_some(changed)}"
        )
    return order


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _notes(a: Run, b: Run, order: list[int]) -> list[str]:
    notes = []
    if list(a.predictions.folds) != [b.predictions.folds[i] for i in order]:
        notes.append("The folds differ, so the two were trained on different clips.")
    if list(a.predictions.groups) != [b.predictions.groups[i] for i in order]:
        notes.append("The groups differ; those of the first run are used.")
    heads = [run.metrics["headline"] for run in (a, b)]
    metrics = [head["metric"] for head in heads]
    if metrics[0] != metrics[1]:
        notes.append(f"The runs' headlines differ ({metrics[0]}, {metrics[1]}); {metrics[0]} is compared.")
    elif heads[0].get("over") != heads[1].get("over"):
        how = "as a mean over folds" if heads[0].get("over") == "folds" else "over all clips"
        notes.append(f"Only one of the runs' headlines is a mean over folds; both are compared {how}.")
    if metrics[0] != "accuracy":
        notes.append("The p-values are about the clips predicted rightly, whatever the metric.")
    return notes
