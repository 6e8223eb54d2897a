"""How far a few clips per class carry: the score by number of training clips, over many draws."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from soundmark import ahead, metrics, protocol
from soundmark.errors import SpecError, TaskError
from soundmark.learners import Learner, describe
from soundmark.tasks.base import Clip, Round, Task, check_groups

SHOTS = (1, 2, 5, 10, 20)
REPEATS = 5


def curve(
    task: Task,
    candidates: Sequence[Learner],
    *,
    shots: Sequence[int] = SHOTS,
    repeats: int = REPEATS,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Train on k clips of every class, test on the whole test side; for every k, every round and several draws.

    The draws of a repeat are nested: its two clips of a class are its one clip and another. Clips are drawn from
    different groups as long as there are any.

    Args:
        task: clips and rounds.
        candidates: one learner, or several among which every draw chooses inside its own few clips.
        shots: numbers of clips per class.
        repeats: draws per round.
        seed: of the draws and the heads.
        progress: show bars on a terminal.

    Returns:
        `task`, `protocol`, `learner`, `metric`, `seed`, `repeats`, `notes`, `bad_clips`, and `curve`, by shots:

        - `mean`, `std`, `min`, `max` of the metric over all draws (rounds x repeats), `low` and `high`, between which
          95 % of the draws fell: what to expect of clips that somebody else picks;
        - `clips_per_class` {min, max}, fewer than `shots` where a class has no more;
        - `draws` [{fold, repeat, value}].

    Raises:
        SpecError: for shots or repeats below 1.
        TaskError: if a round has no clips on one side.
        LeakError: if a group stands on both sides of a round.
    """
    wanted = sorted(set(shots))
    if not wanted or wanted[0] < 1 or repeats < 1 or not candidates:
        raise SpecError("shots and repeats are numbers from 1 up, and there is at least one learner")
    if seed < 0:
        raise SpecError(f"seed should be 0 or more, not {seed}")
    bad: dict[Clip, str] = {}
    for learner in candidates:
        bad |= learner.prepare(task, progress=progress)
    task = task.drop(bad)
    for each in task.rounds:
        check_groups(task, each)
        if not (each.train and each.test):
            raise TaskError(f"{task.full_name}: fold {each.name} has no readable clips on one side")
    jobs = [(k, place, repeat) for k in wanted for place in range(len(task.rounds)) for repeat in range(repeats)]

    def work(job: tuple[int, int, int]) -> tuple[float, tuple[int, int]]:
        k, place, repeat = job
        each = task.rounds[place]
        few = draw(task, each, k, np.random.default_rng([seed, repeat, place]))
        train, test = task.subset(few), task.subset(each.test)
        chosen, _ = protocol.choose(train, candidates, seed=seed)
        fitted = candidates[chosen].fresh()
        fitted.fit(train, seed)
        counts = np.unique(train.targets(), return_counts=True)[1]
        value = metrics.score(task.metric, np.asarray(test.targets()), fitted.predict_proba(test))
        return value, (int(counts.min()), int(counts.max()))

    side_by_side = (os.cpu_count() or 1) if all(learner.threads == 1 for learner in candidates) else 1
    with ThreadPoolExecutor(side_by_side) as threads:
        done = dict(zip(jobs, ahead.in_order(threads, work, jobs), strict=True))
    return {
        "task": task.full_name,
        "protocol": task.protocol,
        "learner": dict(candidates[0].describe()) if len(candidates) == 1 else {
            "candidates": [describe(learner) for learner in candidates], "chosen": "inside the few clips of every draw"
        },
        "metric": task.metric,
        "seed": seed,
        "repeats": repeats,
        "curve": [_row(task, k, {job: said for job, said in done.items() if job[0] == k}) for k in wanted],
        "notes": list(task.notes),
        "bad_clips": [{"clip": clip.key, "error": text} for clip, text in bad.items()],
    }  # fmt: skip


def draw(task: Task, each: Round, shots: int, random: np.random.Generator) -> list[int]:
    """Positions of `shots` training clips of every class, or all where there are no more, in the task's order.

    Equal generators give nested draws: those of fewer shots are among those of more.
    """
    by_class: dict[str, list[int]] = defaultdict(list)
    for i in each.train:
        by_class[task.clips[i].label].append(i)
    drawn: list[int] = []
    for label in sorted(by_class):
        seen: dict[str, int] = defaultdict(int)
        order: list[tuple[int, int, int]] = []
        for i in random.permutation(by_class[label]):
            group = task.clips[i].group or f"\0{i}"
            order.append((seen[group], len(order), int(i)))  # the first clip of every group before the second of any
            seen[group] += 1
        drawn += [i for _, _, i in sorted(order)[:shots]]
    return sorted(drawn)


def _row(task: Task, shots: int, done: dict[tuple[int, int, int], tuple[float, tuple[int, int]]]) -> dict[str, Any]:
    values = np.array([value for value, _ in done.values()])
    low, high = np.percentile(values, [2.5, 97.5])
    return {
        "shots": shots,
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else None,
        "min": float(values.min()),
        "max": float(values.max()),
        "low": float(low),
        "high": float(high),
        "clips_per_class": {
            "min": min(few for _, (few, _) in done.values()),
            "max": max(k for _, (_, k) in done.values()),
        },
        "draws": [
            {"fold": task.rounds[place].name, "repeat": repeat, "value": value}
            for (_, place, repeat), (value, _) in done.items()
        ],
    }
