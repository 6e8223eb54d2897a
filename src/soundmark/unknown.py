"""Sounds of no class that was learnt: how well they are told from known ones, measured on classes left out.

A classifier divides its certainty among the classes it knows, whatever it hears. Whether a low score gives strangers
away is measured by leaving classes out of the training and testing on them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soundmark import ahead, detection, heads
from soundmark.detection import ACCEPTED
from soundmark.errors import SpecError, TaskError
from soundmark.intervals import RESAMPLES, bounds, cluster_weights, interval_of, number
from soundmark.learners import Probe
from soundmark.splits import INNER_FOLDS, inner_splits
from soundmark.tasks.base import Clip, Task, check_groups
from soundmark.trained import Trained

PARTS = 5
SCORES = ("probability", "nearness")


@dataclass(frozen=True)
class _Tested:
    """The test side of one round, by a learner that lacked the classes of one part."""

    rows: list[int]
    known: np.ndarray
    right: np.ndarray
    scores: dict[str, np.ndarray]
    thresholds: dict[str, float]


def measure(
    task: Task,
    learner: Probe | Trained,
    *,
    parts: int = PARTS,
    accepted: float = ACCEPTED,
    seed: int = 0,
    inner_folds: int = INNER_FOLDS,
    resamples: int = RESAMPLES,
    progress: bool = True,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Divide the classes into parts; for each part and round, train without its classes, and test on all of them.

    Two scores, the higher the better known, are held against each other. `probability` is the highest of the head's
    (Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017).
    `nearness` is minus the squared distance from the scaled vector, at length 1, to the nearest mean of a known class,
    whatever the head. A clip is accepted as known at or above a threshold, which is taken from scores that known
    training clips got out of fold.

    Args:
        task: clips and rounds, of three classes or more.
        learner: encoder, pooling and head; or a network, which takes long to train: then each part is left out in one
            round only, another one for each, and a network learns from what is left of a training side when an inner
            fold is held out for the threshold.
        parts: disjoint sets of classes, drawn by the seed, that together are all; each is left out once.
        accepted: share of known clips that shall be accepted.
        seed: of the parts, the head and the inner splits.
        inner_folds: folds of the inner split.
        resamples: of the groups, for the intervals.
        progress: show bars on a terminal.
        folder: where trainings of networks keep what they need to go on after a stop.

    Returns:
        `task`, `protocol`, `learner`, `seed`, `accepted`, `parts` (classes left out of each), `accuracy` of the known
        clips and `accuracy_accepted` of the accepted ones (each part's learner on its known classes), `notes`,
        `bad_clips`, and `scores`, by name:

        - `auroc` {value, low, high}: the chance that a known clip scores above an unknown one; the interval resamples
          groups. `auroc_by_part` lists that of each part;
        - `realised` {known {value, low, high}, unknown {value, low, high}}: shares that were accepted.

    Raises:
        TaskError: for a task of fewer than three classes, or a round without clips on one side.
        SpecError: for parts or a share out of range.
        SoundmarkError: where no clips can be held out inside a training side.
        LeakError: if a group stands on both sides of a round.
    """
    if parts < 2 or not 0 < accepted < 1:
        raise SpecError("parts is a number from 2 up, and accepted a share between 0 and 1")
    if seed < 0:
        raise SpecError(f"seed should be 0 or more, not {seed}")
    if len(task.classes) < 3:
        raise TaskError(f"{task.full_name}: leaving a class out takes three classes or more")
    bad: dict[Clip, str] = learner.prepare(task, progress=progress)
    task = task.drop(bad)
    for each in task.rounds:
        check_groups(task, each)
    left_out = _parts(len(task.classes), parts, seed)
    rounds = range(len(task.rounds))
    if isinstance(learner, Trained):
        jobs = [(part, part % len(rounds)) for part in range(len(left_out))]
    else:
        jobs = [(part, place) for part in range(len(left_out)) for place in rounds]

    def work(job: tuple[int, int]) -> _Tested:
        place = folder / f"part{job[0] + 1}" if folder else None
        return _tested(task, learner, left_out[job[0]], job[1], accepted, seed, inner_folds, place)

    with ThreadPoolExecutor((os.cpu_count() or 1) if learner.threads == 1 else 1) as threads:
        done = dict(zip(jobs, ahead.in_order(threads, work, jobs), strict=True))
    known = np.concatenate([each.known for each in done.values()])
    right = np.concatenate([each.right for each in done.values()])
    groups = [task.clips[i].group or task.clips[i].key for each in done.values() for i in each.rows]
    scores = {name: np.concatenate([t.scores[name] for t in done.values()]) for name in SCORES}
    flagged = {name: np.concatenate([t.scores[name] >= t.thresholds[name] for t in done.values()]) for name in SCORES}
    part_of = np.concatenate([np.full(len(each.rows), part) for (part, _), each in done.items()])
    return {
        "task": task.full_name,
        "protocol": task.protocol,
        "learner": dict(learner.describe()),
        "seed": seed,
        "accepted": accepted,
        "parts": [[task.classes[c] for c in part] for part in left_out],
        "accuracy": float(right[known].mean()),
        "accuracy_accepted": {name: number(_mean(right[known & flagged[name]])) for name in SCORES},
        "scores": {name: _summary(scores[name], known, flagged[name], groups, part_of, resamples) for name in SCORES},
        "notes": list(task.notes),
        "bad_clips": [{"clip": clip.key, "error": text} for clip, text in bad.items()],
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _parts(classes: int, parts: int, seed: int) -> list[list[int]]:
    """Disjoint sets of classes of nearly equal size; two classes at least stay in."""
    order = np.random.default_rng(seed).permutation(classes)
    count = min(parts, classes)
    if classes - math.ceil(classes / count) < 2:
        count = classes
    return [sorted(int(c) for c in part) for part in np.array_split(order, count)]


def _tested(
    task: Task, learner: Probe | Trained, left_out: Sequence[int], place: int, accepted: float, seed: int,
    inner_folds: int, kept: Path | None,
) -> _Tested:  # fmt: skip
    targets = np.asarray(task.targets())
    each = task.rounds[place]
    train = task.subset(i for i in each.train if targets[i] not in left_out)
    test = task.subset(each.test)
    if not (train.clips and test.clips):
        raise TaskError(f"{task.full_name}: fold {each.name} has no readable clips on one side")
    splits = inner_splits(train.targets(), [clip.group for clip in train.clips], inner_folds, seed)
    if isinstance(learner, Trained):
        some, others = splits[0]
        (known, _), (scores, said) = _scores(learner, train.subset(some), [train.subset(others), test], seed, kept)
        held = [known]
    else:
        held = [_scores(learner, train.subset(a), [train.subset(b)], seed)[0][0] for a, b in splits]
        ((scores, said),) = _scores(learner, train, [test], seed)
    thresholds = {
        name: detection.accepting_threshold(np.concatenate([each[name] for each in held]), accepted) for name in SCORES
    }
    rows = list(each.test)
    return _Tested(rows, ~np.isin(targets[rows], left_out), said == targets[rows], scores, thresholds)


def _scores(
    learner: Probe | Trained, train: Task, tests: Sequence[Task], seed: int, kept: Path | None = None
) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Both scores of the clips of each test, and the classes predicted."""
    fitted = learner.fresh()
    fitted.fit(train, seed, kept)
    with heads.one_thread():
        scaler, prototypes = heads.build("prototype").fit(fitted.vectors(train), np.asarray(train.targets()))
    found = []
    for test in tests:
        probabilities = fitted.predict_proba(test)
        with heads.one_thread():
            nearness = -prototypes.distances(scaler.transform(fitted.vectors(test))).min(axis=1)
        found.append(({"probability": probabilities.max(axis=1), "nearness": nearness}, probabilities.argmax(axis=1)))
    return found


def _summary(
    scores: np.ndarray, known: np.ndarray, flagged: np.ndarray, groups: Sequence[str], part_of: np.ndarray,
    resamples: int,
) -> dict[str, Any]:  # fmt: skip
    value = float(detection.roc_auc(known, scores))
    draws = [detection.roc_auc(known, scores, weights) for weights in cluster_weights(groups, n=resamples)]
    low, high = bounds(np.concatenate(draws))
    realised = detection.alarm(flagged, known, groups, n=resamples)
    by_part = [float(detection.roc_auc(known[part_of == p], scores[part_of == p])) for p in np.unique(part_of)]
    return {
        "auroc": {"value": number(value), **interval_of(value, low, high, None)},
        "auroc_by_part": [number(each) for each in by_part],
        "realised": {
            "known": {"value": realised["recall"], "low": realised["low"], "high": realised["high"]},
            "unknown": {
                "value": realised["realised"],
                "low": realised["realised_low"],
                "high": realised["realised_high"],
            },
        },
    }
