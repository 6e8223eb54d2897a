"""Measure how alike tasks, encoders and classes are, as embeddings hear them. Nothing is trained."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  soundmark similarity tasks esc50 urbansound8k --encoder mn04 -o similar/tasks
  soundmark similarity encoders logmel mfcc mn04 --task esc50 --pooling mean+std --standardise -o similar/encoders
  soundmark similarity classes esc50 urbansound8k --encoder mn04 --top 3 -o similar/classes

`tasks` writes the Fréchet distances between tasks, and on the diagonal those between random halves of each: what is
owed to the number of clips alone. `encoders` writes their linear centred kernel alignment, plain and debiased.
`classes` writes the cosines of the classes' means, and of every class the nearest in each other task. Each fills a
folder with tables (CSV), all there is to say (JSON) and a figure (PNG, SVG).
"""
MOST_COLUMNS, MOST_LINES = 8, 20  # of what is printed; the files hold all


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "similarity", help="measure how alike tasks, encoders and classes are", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = options.add_subparsers(dest="action", metavar="ACTION", required=True)
    tasks = actions.add_parser("tasks", help="Fréchet distances between the vectors of tasks")
    encoders = actions.add_parser("encoders", help="alignment of encoders on the same clips")
    classes = actions.add_parser("classes", help="the nearest classes of another task")
    for action in (tasks, classes):
        action.add_argument(
            "tasks", nargs="+", metavar="TASK", help="two or more tasks, task:views, or your own folders"
        )
        action.add_argument("--encoder", metavar="E", default="logmel", help="encoder in the grammar (default: logmel)")
    encoders.add_argument("encoders", nargs="+", metavar="ENCODER", help="two or more encoders in the grammar")
    encoders.add_argument("--task", metavar="T", required=True, help="whose clips they hear")
    classes.add_argument("--top", type=int, default=3, metavar="K", help="how many nearest classes (default: 3)")
    for action in (tasks, encoders, classes):
        action.add_argument("--pooling", metavar="P", default="mean", help="statistics over time (default: mean)")
        if action is not classes:
            action.add_argument(
                "--standardise", action="store_true", help="bring every component to mean 0 and variance 1 first"
            )
        action.add_argument("--draws", type=int, default=20, metavar="N", help="random halves of clips (default: 20)")
        action.add_argument("--seed", type=int, default=0, help="seed of the halves (default: 0)")
        action.add_argument("--allow-partial", action="store_true", help="take what is there of an incomplete data set")
        action.add_argument("-o", "--out", metavar="DIR", required=True, help="folder of the tables and the figure")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import encoders, tasks
    from soundmark.analysis import similarity

    for name in args.encoders if args.action == "encoders" else [args.encoder]:
        encoders.load(name)  # missing weights are an error now, not after the tasks have been searched
    names = [args.task] if args.action == "encoders" else args.tasks
    loaded = [tasks.load(name, allow_partial=args.allow_partial) for name in names]
    how: dict[str, Any] = {"draws": args.draws, "seed": args.seed, "command": command(args)}
    if args.action == "tasks":
        found = similarity.between_tasks(
            loaded, args.encoder, args.pooling, Path(args.out), standardise=args.standardise, **how
        )
        lines = _tasks(found)
    elif args.action == "encoders":
        found = similarity.between_encoders(
            loaded[0], args.encoders, args.pooling, Path(args.out), standardise=args.standardise, **how
        )
        lines = _encoders(found)
    else:
        found = similarity.between_classes(loaded, args.encoder, args.pooling, Path(args.out), top=args.top, **how)
        lines = _classes(found)
    for bad in found["bad_clips"]:
        print(f"soundmark: left out {bad['clip']}: {bad['error']}", file=sys.stderr)
    print("\n".join(lines))
    for note in found["notes"]:
        print(f"note: {note}")
    print(args.out)
    return 0


def command(args: argparse.Namespace) -> str:
    """The command line that measures the same again."""
    words = ["soundmark", "similarity", args.action]
    if args.action == "encoders":
        words += [*args.encoders, "--task", args.task]
    else:
        words += [*args.tasks, "--encoder", args.encoder]
    words += ["--pooling", args.pooling]
    words += ["--top", str(args.top)] if args.action == "classes" else ["--standardise"] * args.standardise
    words += ["--draws", str(args.draws), "--seed", str(args.seed)] + ["--allow-partial"] * args.allow_partial
    return shlex.join([*words, "-o", Path(args.out).as_posix()])


def _tasks(found: dict[str, Any]) -> list[str]:
    names = [each["task"] for each in found["tasks"]]
    spread = {row["task"]: row for row in found["halves"]}
    lines = [
        f"Fréchet distance, squared; {found['encoder']}, {found['pooling']}; on the diagonal between halves of a task"
    ]
    lines += _table(names, found["distances"], ".4g")
    return lines + [
        f"{name}: {each['clips']} clips, {each['groups']} groups"
        + ("" if spread[name]["std"] is None else f", halves {spread[name]['mean']:.4g} ± {spread[name]['std']:.2g}")
        for name, each in zip(names, found["tasks"], strict=True)
    ]


def _encoders(found: dict[str, Any]) -> list[str]:
    names = [each["encoder"] for each in found["encoders"]]
    lines = [f"linear CKA, debiased; {found['task']}, {found['clips']} clips, {found['groups']} groups"]
    return lines + _table(names, found["debiased"], ".3f")


def _table(names: list[str], values: list[list[float | None]], form: str) -> list[str]:
    """A matrix with numbered columns, whose names would not fit."""
    if len(names) > MOST_COLUMNS:
        return [f"{len(names)} rows: see the files"]
    wide = max(map(len, names))
    rows = ["".join("         –" if value is None else f"{value:10{form}}" for value in row) for row in values]
    head = " " * (wide + 4) + "".join(f"{f'[{i}]':>10}" for i in range(1, len(names) + 1))
    return [head, *(f"[{i}] {name:<{wide}}{row}" for i, (name, row) in enumerate(zip(names, rows, strict=True), 1))]


def _classes(found: dict[str, Any]) -> list[str]:
    first = sorted((row for row in found["nearest"] if row["rank"] == 1), key=lambda row: -float(row["cosine"]))
    shown = first[:MOST_LINES]
    lines = [f"nearest class of another task, by the cosine of means; {found['encoder']}, {found['pooling']}"]
    wide = max((len(f"{row['task']} {row['label']}") for row in shown), default=0)
    for row in shown:
        again = "" if row["kept"] is None else f", in the first {found['top']} of {row['kept']:.0%} of halves"
        here, there = f"{row['task']} {row['label']}", f"{row['other_task']} {row['other_label']}"
        lines.append(f"{here:<{wide}}  {row['cosine']:+.3f}  {there}{again}")
    return lines + ([f"and {len(first) - len(shown)} more in nearest.csv"] if len(first) > len(shown) else [])
