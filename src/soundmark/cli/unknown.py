"""Measure how well sounds of no class that was learnt are told from known ones, by leaving classes out."""

from __future__ import annotations

import argparse
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from soundmark.cli.options import add_learner, machine_of

if TYPE_CHECKING:
    from soundmark.recipe import Recipe

EXAMPLES = """examples:
  soundmark unknown toy --head logreg
  soundmark unknown esc50 --encoder logmel --pooling mean+std --head svm --parts 5 -o unknown.json
  soundmark unknown --recipe small-cnn -o unknown.json          a network, trained once for each part

AUROC is the chance that a clip of a known class scores above one of a class that was left out. The threshold comes from
the training side; realised are the shares of known and of unknown test clips that were accepted at it.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "unknown", help="measure how well unknown sounds are told from known ones", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_learner(options)
    options.add_argument("--parts", type=int, default=5, metavar="N", help="sets of classes left out (default: 5)")
    options.add_argument(
        "--accepted", type=float, default=0.95, metavar="P", help="share of known clips to accept (default: 0.95)"
    )
    options.add_argument("-o", "--out", metavar="FILE", help="write everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import results, tasks, unknown
    from soundmark.cli.train import asked
    from soundmark.errors import SpecError
    from soundmark.files import write_json
    from soundmark.learners import Probe
    from soundmark.trained import Trained
    from soundmark.tuned import candidates_of

    recipe = asked(args)
    learner, *others = candidates_of(recipe, machine=machine_of(args), track=args.track)
    if others or not isinstance(learner, Probe | Trained):
        raise SpecError("unknown sounds are measured with one learner: give every setting one value")
    task = tasks.only(tasks.load(recipe.task, allow_partial=recipe.allow_partial), recipe.folds)
    kept = Path(f"{args.out}.training") if args.out else None
    found = unknown.measure(
        task, learner, parts=args.parts, accepted=args.accepted, seed=recipe.seed, inner_folds=recipe.inner_folds,
        folder=kept,
    )  # fmt: skip
    print(f"{found['task']}: {found['protocol']}, {len(found['parts'])} parts of the classes left out in turn")
    for name, each in found["scores"].items():
        auroc, known, strange = each["auroc"], each["realised"]["known"], each["realised"]["unknown"]
        print(
            f"{name:<12} AUROC {auroc['value']:.3f} ({auroc['low']:.3f} to {auroc['high']:.3f}); "
            f"accepted: known {known['value']:.1%} (wanted {args.accepted:.0%}), unknown {strange['value']:.1%}"
        )
    if args.out:
        write_json(args.out, {"command": command(args, recipe)} | found | {"environment": results.environment()})
        shutil.rmtree(f"{args.out}.training", ignore_errors=True)
        print(args.out)
    return 0


def command(args: argparse.Namespace, recipe: Recipe) -> str:
    """The command line that measures the same again."""
    words = shlex.split(recipe.command())
    words[1] = "unknown"
    return shlex.join([*words, "--parts", str(args.parts), "--accepted", str(args.accepted), "-o", args.out])
