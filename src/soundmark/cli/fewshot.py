"""Measure how far a few clips per class carry, by the task's own protocol and over many draws."""

from __future__ import annotations

import argparse
import shlex

EXAMPLES = """examples:
  soundmark fewshot toy --shots 1 2 5 -o fewshot.json
  soundmark fewshot esc50 --encoder logmel --pooling mean+std --head prototype -o fewshot.json

The score of k clips per class is the mean over all folds and draws; 95 % of the draws fell into the range behind it.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "fewshot", help="measure how far a few clips per class carry", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("task", help="task, task:view, or a folder or manifest of your own")
    options.add_argument("--encoder", metavar="E", default="logmel", help="encoder in the grammar (default: logmel)")
    options.add_argument("--pooling", metavar="P", default="mean+std", help="statistics over time (default: mean+std)")
    options.add_argument("--head", metavar="H", default="prototype", help="classifier (default: prototype)")
    options.add_argument(
        "--shots", type=int, nargs="+", default=[1, 2, 5, 10, 20], metavar="K",
        help="clips per class (default: 1 2 5 10 20)",
    )  # fmt: skip
    options.add_argument("--repeats", type=int, default=5, metavar="N", help="draws in every fold (default: 5)")
    options.add_argument("--seed", type=int, default=0, help="seed of draws and heads (default: 0)")
    options.add_argument("--allow-partial", action="store_true", help="measure on an incomplete data set")
    options.add_argument("-o", "--out", metavar="FILE", help="write everything as JSON, every draw included")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import fewshot, results, tasks
    from soundmark.files import write_json
    from soundmark.learners import probes

    task = tasks.load(args.task, allow_partial=args.allow_partial)
    candidates = probes(args.encoder, args.pooling, args.head)
    found = fewshot.curve(task, candidates, shots=args.shots, repeats=args.repeats, seed=args.seed)
    print(f"{found['task']}: {found['metric'].replace('_', ' ')} by clips per class, {len(task.rounds)} folds x "
          f"{args.repeats} draws")  # fmt: skip
    for row in found["curve"]:
        few = row["clips_per_class"]["min"]
        short = f"  (a class has {few} only)" if few < row["shots"] else ""
        print(f"{row['shots']:4d}  {row['mean']:7.2%}  ({row['low']:.2%} to {row['high']:.2%}){short}")
    if args.out:
        write_json(args.out, {"command": command(args)} | found | {"environment": results.environment()})
        print(args.out)
    return 0


def command(args: argparse.Namespace) -> str:
    """The command line that measures the same again."""
    words = ["soundmark", "fewshot", args.task, "--encoder", args.encoder, "--pooling", args.pooling]
    words += ["--head", args.head, "--shots", *map(str, args.shots), "--repeats", str(args.repeats)]
    words += ["--seed", str(args.seed)] + (["--allow-partial"] if args.allow_partial else [])
    return shlex.join([*words, "-o", args.out])
