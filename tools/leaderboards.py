"""Probes of several tasks side by side, from the cells of one folder; for `tables.py`."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from markup import interval, machine, ordered, paragraphs, table

import networks

Json = dict[str, Any]
Learner = tuple[str, str, str]
"""Encoder, pooling, head."""


def over_seeds(cells: Iterable[Json]) -> list[Json]:
    """Cells of one task and learner become one: the mean of their scores, its spread, and the widest interval."""
    seeds: dict[tuple[str, ...], list[Json]] = defaultdict(list)
    for cell in cells:
        names = cell["learner"]
        seeds[cell["task"], names["encoder"], names["pooling"], names["head"]].append(cell)
    found = []
    for (_, encoder, pooling, head), some in seeds.items():
        scores = [cell["headline"] for cell in some]
        values = [score["value"] for score in scores]
        together = {
            "metric": scores[0]["metric"],
            "value": fmean(values),
            "std": stdev(values) if len(values) > 1 else None,
            "low": min(score["low"] for score in scores),
            "high": max(score["high"] for score in scores),
        }
        names = {"encoder": encoder, "pooling": pooling, "head": head, "seeds": len(some), "headline": together}
        found.append(some[0] | names)
    return found


def side_by_side(cells: Sequence[Json]) -> str:
    """Tasks down, as whole and as samples; encoders and heads across; the best of each task is bold."""
    learners: dict[Learner, None] = {}
    by_task: dict[str, dict[Learner, Json]] = defaultdict(dict)
    for cell in over_seeds(cells):
        names = cell["encoder"], cell["pooling"], cell["head"]
        learners[names] = None
        by_task[cell["task"]][names] = cell
    columns = sorted(learners, key=lambda names: (ordered(each[0] for each in learners).index(names[0]), names[2]))
    some = {task: next(iter(of.values())) for task, of in by_task.items()}
    best = {task: max(each["headline"]["value"] for each in of.values()) for task, of in by_task.items()}
    rows = [
        [
            networks.task(some[task]),
            str(some[task]["clips"]),
            str(some[task]["headline"]["metric"]).replace("_", " "),
            *(_cell(by_task[task].get(names), best[task]) for names in columns),
        ]
        for task in sorted(by_task, key=lambda task: (networks.part(some[task]), task))
    ]
    seeds = max(cell["seeds"] for of in by_task.values() for cell in of.values())
    said = (
        f"In per cent: the mean over {seeds} seeds, its standard deviation, and the widest of their 95 % intervals. A "
        "sample is the part of a data set that was at hand, in folds of its own: its scores show that a task runs from "
        "end to end, and compare with no published ones."
    )
    titles = ["task", "clips", "score", *(f"`{encoder}` {head}" for encoder, _, head in columns)]
    return paragraphs(
        table(titles, rows, numbers=(1,)), said, machine(*cells), _commands(list(learners), seeds, by_task)
    )


def _cell(cell: Json | None, top: float) -> str:
    if cell is None:
        return ""
    score = cell["headline"]
    value = f"{100 * score['value']:.1f}"
    spread = "" if score["std"] is None else f" ± {100 * score['std']:.1f}"
    lines = f"{f'**{value}**' if score['value'] == top else value}{spread}", interval(score)
    return "<br>".join(line.replace(" ", "\u00a0") for line in lines)  # narrow columns must not break within a number


def _commands(learners: Sequence[Learner], seeds: int, tasks: Iterable[str]) -> str:
    """A command for every pooling: a grid has each encoder with each pooling."""
    lines = []
    for pooling in ordered(pooling for _, pooling, _ in learners):
        some = [names for names in learners if names[1] == pooling]
        lines.append(command(sorted(tasks), some, seeds, "--allow-partial", "--out", "results/leaderboard"))
    return "```sh\n" + "\n".join([*lines, "soundmark leaderboard results/leaderboard -o results"]) + "\n```"


def command(tasks: Iterable[str], learners: Sequence[Learner], seeds: int, *more: str) -> str:
    """The command that measures a grid which holds all of these learners."""
    words = ["soundmark", "benchmark", "--tasks", *tasks]
    for place, option in enumerate(("--encoders", "--poolings", "--heads")):
        words += [option, *ordered(names[place] for names in learners)]
    words += ["--seeds", str(seeds)] if seeds > 1 else []
    return shlex.join([*words, *more])


FOLDERS = {
    "leaderboard": ("leaderboard", side_by_side, "soundmark benchmark --preset audiosep --out results/leaderboard"),
}
"""By the table's name: its folder of results, what writes it, and the command that measures it."""
