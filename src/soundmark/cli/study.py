"""Study a learner: a frozen encoder's moments against their mean, probes over several seeds, ablations."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from soundmark.cli.options import add_learner

EXAMPLES = """examples:
  soundmark study pooling toy --encoder logmel --heads forest logreg mlp -o studies/pooling
  soundmark study heads toy --encoder logmel --heads linear three-layer --seeds 5 -o studies/heads
  soundmark study ablation toy --encoder logmel+mfcc --pooling mean+std --ablate scaler,pooling,encoder -o studies/parts
  soundmark study ablation --recipe mark1 --folds 1,2 --ablate mix,timemask+freqmask,ema,crop -o studies/mark1

`pooling` writes audio_embeddings.csv (a row per moment), merged_embeddings.csv (a row per clip), the scores as
pooling.csv and pooling.json, and confusion matrices side by side. `heads` writes heads.csv, heads.json and a figure.
`ablation` measures a learner again with one part changed at a time, each as a run of its own, and writes ablation.md
and ablation.json. Parts are names of augmentations (left out), settings of the training (at their default, or ema=0.9)
and teacher; scaler, pooling, encoder and layer of a probe; and fields with a value, such as head=svm.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "study", help="moments against their mean; probes over several seeds; ablations", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = options.add_subparsers(dest="action", metavar="ACTION", required=True)
    pooling = actions.add_parser("pooling", help="train on every moment of a clip, and on their mean; compare")
    heads = actions.add_parser("heads", help="train probes on pooled vectors with several seeds")
    for action, encoder, names in ((pooling, "cnn14", "forest logreg mlp"), (heads, "audiosep", "linear three-layer")):
        action.add_argument("task", help="task, task:view, or a folder or manifest of your own")
        action.add_argument("--encoder", metavar="E", default=encoder, help=f"encoder (default: {encoder})")
        action.add_argument(
            "--heads", metavar="H", nargs="+", default=names.split(), help=f"classifiers (default: {names})"
        )
        action.add_argument("--seed", type=int, default=42, help="seed, or the first of several (default: 42)")
        action.add_argument("--allow-partial", action="store_true", help="measure on an incomplete data set")
        action.add_argument("-o", "--out", metavar="DIR", required=True, help="folder of the tables and figures")
    heads.add_argument("--pooling", metavar="P", default="mean", help="statistics over time (default: mean)")
    heads.add_argument("--seeds", type=int, default=5, metavar="N", help="how many seeds (default: 5)")
    ablation = actions.add_parser("ablation", help="measure a learner with one part changed at a time")
    add_learner(ablation)
    ablation.add_argument("--ablate", metavar="PARTS", required=True, help="parts, separated by commas")
    ablation.add_argument("-o", "--out", metavar="DIR", required=True, help="folder of the table and the runs")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    return _ablation(args) if args.action == "ablation" else _encoders(args)


def _ablation(args: argparse.Namespace) -> int:
    from soundmark.analysis import ablation
    from soundmark.cli.options import machine_of
    from soundmark.cli.train import asked

    recipe = asked(args)
    parts = [part for part in args.ablate.split(",") if part]
    learner = recipe.command().removeprefix("soundmark train ")
    options = shlex.join(["--ablate", args.ablate, "-o", Path(args.out).as_posix()])
    command = f"soundmark study ablation {learner} {options}"
    found = ablation.run(recipe, parts, Path(args.out), machine=machine_of(args), command=command, told=_told)
    print(ablation.table(found))
    print(args.out)
    return 0


def _told(row: dict[str, Any]) -> None:
    print(f"{row['changed']}: {row['score']['value']:.2%}", flush=True)


def _encoders(args: argparse.Namespace) -> int:
    from soundmark import encoders, heads, study, tasks
    from soundmark.errors import SpecError

    encoders.load(args.encoder)  # missing weights are an error now, not after the task has been searched
    for head in args.heads:
        heads.build(head)
    if not 0 <= args.seed < 2**32:
        raise SpecError(f"--seed should be from 0 to {2**32 - 1}, not {args.seed}")
    task = tasks.load(args.task, allow_partial=args.allow_partial)
    if args.action == "pooling":
        found = study.pooling(task, args.encoder, args.heads, Path(args.out), seed=args.seed, command=command(args))
        print(f"{found['task']}: {found['protocol']}, {found['encoder']}; {task.metric.replace('_', ' ')}")
        print(f"{'head':<14}{'every moment':>16}{'by vote':>16}{'pooled':>16}")
        for head, levels in found["heads"].items():
            print(f"{head:<14}" + "".join(f"{_score(levels[name]):>16}" for name in ("moments", "votes", "pooled")))
    else:
        if args.seeds < 1:
            raise SpecError(f"--seeds should be 1 or more, not {args.seeds}")
        seeds = range(args.seed, args.seed + args.seeds)
        found = study.heads(
            task, args.encoder, args.heads, Path(args.out), pooling=args.pooling, seeds=seeds, command=command(args)
        )
        print(f"{found['task']}: {found['protocol']}, {found['encoder']}; {task.metric.replace('_', ' ')}")
        for head, each in found["heads"].items():
            spread = "" if each["std"] is None else f" ± {each['std']:.2%} over {args.seeds} seeds"
            print(f"{head:<14}{each['mean']:8.2%}{spread}")
    print(args.out)
    return 0


def command(args: argparse.Namespace) -> str:
    """The command line that measures the same again."""
    words = ["soundmark", "study", args.action, args.task, "--encoder", args.encoder, "--heads", *args.heads]
    words += ["--seed", str(args.seed)] + (["--allow-partial"] if args.allow_partial else [])
    if args.action == "heads":
        words += ["--pooling", args.pooling, "--seeds", str(args.seeds)]
    return shlex.join([*words, "-o", Path(args.out).as_posix()])


def _score(summary: dict[str, Any]) -> str:
    return f"{summary['headline']['value']:.2%}"
