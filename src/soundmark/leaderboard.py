"""A leaderboard: measured cells put side by side, learners down and tasks across.

What may be ranked together is held to be the same question: one task, one protocol, one number of clips, all of the
data set. Everything else (samples, incomplete data sets, single folds, another protocol of the same task) stands apart.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from soundmark.cells import Answers, Done, answers_path, load
from soundmark.errors import ResultsError
from soundmark.intervals import Floats, paired_permutation
from soundmark.report import leaderboard as page

LEVEL = 0.05  # of the tests, after Holm's correction
_COSTS = ("encode_ms", "head_ms", "encode_mb", "encoder_parameters", "head_parameters")

Json = dict[str, Any]
Question = tuple[str, str, int]
Learner = tuple[str, str, str]


def write(folders: Iterable[str | os.PathLike[str]], out: Path, *, tasks: Sequence[str] = ()) -> Path:
    """Write `leaderboard.md`, `leaderboard.csv` and `leaderboard.html` from folders of cells.

    Args:
        folders: of cells, such as several machines have measured.
        out: folder that the three are written into, each whole or not at all.
        tasks: only these; all that there are if empty.

    Returns:
        The path of the page.

    Raises:
        ResultsError: if a folder or file is not one of cells, two of them contradict each other, or a task that is
            asked for was not measured.
    """
    done = load(folders)
    if unknown := sorted(set(tasks) - {each.content["task"] for each in done}):
        there = ", ".join(sorted({each.content["task"] for each in done}))
        raise ResultsError(f"no cell is of the task {', '.join(unknown)}; measured are: {there}")
    return page.write(board([each for each in done if not tasks or each.content["task"] in tasks]), out)


def board(done: Sequence[Done]) -> Json:
    """What the leaderboard shows, as plain data.

    Args:
        done: cells, each once.

    Returns:
        `columns`, one per task: {task, protocol, metric, over, clips, learners, tested, best}, `tested` being how many
        were held against the best by a paired test. `rows`, one per learner: {encoder, pooling, head, rank, tasks,
        costs, scores {task: entry}}; `rank` is the mean over all tasks among the `ranked` learners that have them all,
        None for others; `tasks` is how many a learner has. `apart`: entries with encoder, pooling, head, task,
        protocol, clips and `why`. `notes`, the cells' own, by task.

        An entry has {metric, score, low, high, std, seeds, rank, best, close, p, costs}: the mean over seeds, the
        widest of their intervals, the standard deviation of the sample (None for one seed); its rank; whether it is the
        best of its question, or cannot be told from it (`close`: Holm-corrected p at 0.05 or above); p, corrected, or
        None where there was no test.

    Raises:
        ResultsError: if a cell's answers do not fit its score.
    """
    by_question: dict[Question, dict[Learner, list[Done]]] = defaultdict(lambda: defaultdict(list))
    for each in sorted(done, key=lambda each: (*each.question, *each.learner, each.recipe.seed)):
        by_question[each.question][each.learner].append(each)
    main = _main(by_question)
    columns, scores, apart = [], defaultdict[Learner, dict[str, Json]](dict), []
    for question, learners in by_question.items():
        task, protocol, clips = question
        entries = {learner: _entry(cells) for learner, cells in learners.items()}
        tested = _compare(entries, learners)
        if question in main:
            some = next(iter(learners.values()))[0].content["headline"]
            best = _best(entries)
            about = {"task": task, "protocol": protocol, "metric": some["metric"], "over": some.get("over", "clips")}
            columns.append(about | {"clips": clips, "learners": len(entries), "tested": tested, "best": _named(best)})
            for learner, entry in entries.items():
                scores[learner][task] = entry
        else:
            for learner, entry in sorted(entries.items(), key=lambda item: (-item[1]["score"], item[0])):
                why = learners[learner][0].part or "another protocol"
                about = {"task": task, "protocol": protocol, "clips": clips, "why": why}
                apart.append(_named(learner) | about | entry)
    ranks = mean_ranks({learner: {task: each["score"] for task, each in of.items()} for learner, of in scores.items()})
    rows = [
        _named(learner)
        | {"rank": ranks.get(learner), "tasks": len(of), "costs": _together([entry["costs"] for entry in of.values()])}
        | {"scores": of}
        for learner, of in scores.items()
    ]
    best_first = [row["scores"].get(columns[0]["task"], {}).get("score", -math.inf) for row in rows] if columns else []
    order = sorted(
        range(len(rows)),
        key=lambda i: (rows[i]["rank"] or math.inf, -rows[i]["tasks"], -best_first[i], *_named_of(rows[i])),
    )
    _rank_within([row["scores"] for row in rows])
    return {
        "columns": columns,
        "rows": [rows[i] for i in order],
        "ranked": len(ranks),
        "apart": apart,
        "notes": _notes(done),
    }


def mean_ranks(scores: Mapping[Learner, Mapping[str, float]]) -> dict[Learner, float]:
    """The mean rank, 1 being the best, of every learner that has all tasks; equals share the mean of their places.

    Ranks are taken among those learners only: a rank among others would depend on who else was measured. There are
    none where fewer than two have all tasks.

    Args:
        scores: of every learner by task, more being better.
    """
    tasks = sorted({task for of in scores.values() for task in of})
    complete = [learner for learner, of in scores.items() if len(of) == len(tasks)]
    if len(complete) < 2:
        return {}
    by_task = [ranks([scores[learner][task] for learner in complete]) for task in tasks]
    return {learner: fmean(places) for learner, *places in zip(complete, *by_task, strict=True)}


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of every value, 1 for the highest; equals share the mean of their places."""
    found = []
    for value in values:
        above = sum(other > value and not _equal(other, value) for other in values)
        alike = sum(_equal(other, value) for other in values)
        found.append(above + (alike + 1) / 2)
    return found


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down method (Scandinavian Journal of Statistics 6, 1979)."""
    found, largest = [0.0] * len(p), 0.0
    for place, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - place) * p[i]))
        found[i] = largest
    return found


# --- Questions and entries -------------------------------------------------------------------------------------------


def _main(by_question: Mapping[Question, Mapping[Learner, Sequence[Done]]]) -> set[Question]:
    """Of every task the one question that is ranked: on all of the data set, and rather official than anything else."""
    chosen: dict[str, Question] = {}
    for question, learners in by_question.items():
        task = question[0]
        if any(done.part for cells in learners.values() for done in cells):
            continue

        def order(each: Question) -> tuple[bool, int, int, str]:
            return each[1].startswith("official"), len(by_question[each]), each[2], each[1]

        if task not in chosen or order(question) > order(chosen[task]):
            chosen[task] = question
    return set(chosen.values())


def _entry(cells: Sequence[Done]) -> Json:
    heads = [each.content["headline"] for each in cells]
    values = [head["value"] for head in heads]
    return {
        "metric": heads[0]["metric"],
        "score": fmean(values),
        "low": min(head["low"] for head in heads),
        "high": max(head["high"] for head in heads),
        "std": stdev(values) if len(values) > 1 else None,
        "seeds": len(values),
        "rank": None,
        "best": False,
        "close": False,
        "p": None,
        "costs": _together([each.content.get("costs", {}) for each in cells]),
    }


def _together(costs: Sequence[Mapping[str, Any]]) -> Json:
    """Costs over seeds or tasks: means of times and memory, and the most parameters, since heads grow with classes."""
    found: Json = {}
    for name in _COSTS:
        values = [each[name] for each in costs if each.get(name) is not None]
        found[name] = None if not values else max(values) if name.endswith("parameters") else fmean(values)
    return found


def _rank_within(rows: Sequence[dict[str, Json]]) -> None:
    for task in {task for scores in rows for task in scores}:
        having = [scores[task] for scores in rows if task in scores]
        for entry, rank in zip(having, ranks([each["score"] for each in having]), strict=True):
            entry["rank"] = rank


def _notes(done: Sequence[Done]) -> dict[str, list[str]]:
    """The cells' notes by task, and how many clips could not be read."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for each in done:
        bad = len(each.content.get("bad_clips", []))
        said = [f"{bad} of its clips could not be read and were left out."] if bad else []
        found[each.content["task"]].update(dict.fromkeys([*each.content.get("notes", []), *said]))
    return {task: list(notes) for task, notes in sorted(found.items()) if notes}


def _best(entries: Mapping[Learner, Json]) -> Learner:
    return max(entries, key=lambda learner: entries[learner]["score"])


def _named(learner: Learner) -> Json:
    return dict(zip(("encoder", "pooling", "head"), learner, strict=True))


def _named_of(row: Json) -> Learner:
    return row["encoder"], row["pooling"], row["head"]


def _equal(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=0, abs_tol=1e-9)


# --- Paired comparisons ----------------------------------------------------------------------------------------------


def _compare(entries: Mapping[Learner, Json], learners: Mapping[Learner, Sequence[Done]]) -> int:
    """Mark the best entry of a question and those that a paired test cannot tell from it; how many were tested.

    Whole groups are swapped. With several seeds a clip counts by the share of them that get it right.
    """
    best = _best(entries)
    if len(entries) < 2:  # the best of one says nothing
        return 0
    entries[best]["best"] = True
    top = _rights(learners[best])
    if top is None:
        return 0
    tested, p = [], []
    for learner in entries:
        other = _rights(learners[learner]) if learner != best else None
        if other is None or other[0].keys() != top[0].keys():
            continue
        answers, worth = top[1], top[2]
        mine, theirs = (np.array([right[clip] for clip in answers.clips]) for right in (top[0], other[0]))
        tested.append(learner)
        p.append(paired_permutation(mine, theirs, answers.groups, weights=worth))
    for learner, corrected in zip(tested, holm(p), strict=True):
        entries[learner] |= {"p": corrected, "close": corrected >= LEVEL}
    return len(tested)


def _rights(cells: Sequence[Done]) -> tuple[dict[str, float], Answers, Floats] | None:
    """By clip, in what share of the seeds it was right; the answers of the first seed; and what every clip counts."""
    found: dict[str, list[float]] = defaultdict(list)
    first: tuple[Answers, Floats] | None = None
    for done in cells:
        answers = done.answers()
        if answers is None:
            return None
        worth = _fitting(done, answers)
        first = first or (answers, worth)
        for clip, right in zip(answers.clips, (answers.targets == answers.predicted).tolist(), strict=True):
            found[clip].append(float(right))
    assert first is not None
    whole = all(len(each) == len(cells) for each in found.values()) and len(found) == len(first[0].clips)
    return ({clip: fmean(each) for clip, each in found.items()}, *first) if whole else None


def _fitting(done: Done, answers: Answers) -> Floats:
    """What every clip counts in the cell's score; an error if its answers do not add up to that."""
    head = done.content["headline"]
    worth = worths(head["metric"], answers, head.get("over", "clips"))
    said = head["value"]
    if worth is None:  # no sum over clips; then clips are counted, and accuracy is what can be held against them
        worth = np.full(len(answers.clips), 1 / max(1, len(answers.clips)))
        said = done.content.get("metrics", {}).get("accuracy", {}).get("value")
    given = float(worth[answers.targets == answers.predicted].sum())
    if said is not None and abs(said - given) > 1e-6:
        raise ResultsError(
            f"{answers_path(done.path)} does not belong to {done.path.name}: its answers score {given:.4f}, and that "
            f"says {said:.4f}; delete both and measure the cell again"
        )
    return worth


def worths(metric: str, answers: Answers, over: str = "clips") -> Floats | None:
    """What every clip adds to a score when it is answered rightly; None for metrics that are no such sum.

    Args:
        metric: a name in `soundmark.metrics.METRICS`. Accuracy, balanced accuracy (which is macro recall) and the ICBHI
            score are sums.
        answers: the clips.
        over: "folds" for the mean of the folds' scores.

    Returns:
        (n,), which sum to 1.
    """
    if over == "folds":
        found = np.zeros(len(answers.clips))
        names = np.asarray(answers.folds)
        folds = sorted(set(answers.folds))
        for fold in folds:
            here = names == fold
            part = _worths(metric, answers.targets[here])
            if part is None:
                return None
            found[here] = part / len(folds)
        return found
    return _worths(metric, answers.targets)


def _worths(metric: str, targets: np.ndarray) -> Floats | None:
    if metric == "accuracy":
        parts = np.zeros_like(targets)
    elif metric in ("balanced_accuracy", "macro_recall"):
        parts = targets
    elif metric == "icbhi_score":
        parts = np.minimum(targets, 1)  # the first class is the normal one, and all others are taken together
    else:
        return None
    _, index, counts = np.unique(parts, return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(counts) * counts[index]), dtype=np.float64)
