"""Find settings by trials inside every training side, and measure what was found by the task's own protocol."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from soundmark.cli import train

TRIALS = 30
EXAMPLES = """examples:
  soundmark tune esc50 --network cnn --training "adamw?rate=0.0003..0.01&epochs=60"
  soundmark tune --recipe small-cnn --training "adamw?rate=0.0003..0.01&epochs=60"      the rest from a recipe
  soundmark tune esc50 --network "cnn?width=8..32" --augment "gain?db=0..12+shift" --trials 50
  soundmark tune esc50 --encoder logmel --head "logreg?C=0.001..10"                      settings of a head

A setting is a range (low..high) or a list of choices (1,2,4). Ranges between two whole numbers hold whole numbers only.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "tune", help="find settings inside every training side, and measure what was found", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    train.declare(options)
    options.add_argument("--trials", type=int, metavar="N", help=f"settings to try in every fold (default: {TRIALS})")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from dataclasses import replace

    from soundmark.errors import SpecError

    if train.listed(args):
        return 0
    if args.trials is not None and args.trials < 1:
        raise SpecError(f"--trials should be 1 or more, not {args.trials}")
    recipe = train.asked(args)
    folder, done = train.measured(args, replace(recipe, trials=recipe.trials or TRIALS))
    print(train.summary(done.metrics))
    print("\n".join([*winners(done.metrics), *train.files(folder)]))
    return 0


def winners(metrics: Mapping[str, Any]) -> Iterator[str]:
    """For every fold a line that tells what its search found."""
    for each in metrics["tuned"]:
        found = ", ".join(f"{name} = {value}" for name, value in each["best"].items())
        if not each["trials"]:
            yield f"fold {each['fold']}: {found} (nothing could be held out to choose by)"
            continue
        lost = [
            f"{each[state]} {word}"
            for state, word in (("pruned", "given up early"), ("failed", "failed"))
            if each[state]
        ]
        yield (
            f"fold {each['fold']}: {found} ({each['score']:.2%} on {each['held_out']} clips held out; "
            f"{', '.join([str(each['trials']) + ' trials', *lost])})"
        )
