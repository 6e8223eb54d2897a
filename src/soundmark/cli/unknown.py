"""Measure how well sounds of no class that was learnt are told from known ones, by leaving classes out."""

from __future__ import annotations

import argparse
import shlex

EXAMPLES = """examples:
  soundmark unknown toy --head logreg
  soundmark unknown esc50 --encoder logmel --pooling mean+std --head svm --parts 5 -o unknown.json

AUROC is the chance that a clip of a known class scores above one of a class that was left out. The threshold comes from
the training side; realised are the shares of known and of unknown test clips that were accepted at it.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "unknown", help="measure how well unknown sounds are told from known ones", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("task", help="task, task:view, or a folder or manifest of your own")
    options.add_argument("--encoder", metavar="E", default="logmel", help="encoder in the grammar (default: logmel)")
    options.add_argument("--pooling", metavar="P", default="mean+std", help="statistics over time (default: mean+std)")
    options.add_argument("--head", metavar="H", default="svm", help="classifier on the vectors (default: svm)")
    options.add_argument("--parts", type=int, default=5, metavar="N", help="sets of classes left out (default: 5)")
    options.add_argument(
        "--accepted", type=float, default=0.95, metavar="P", help="share of known clips to accept (default: 0.95)"
    )
    options.add_argument("--seed", type=int, default=0, help="seed of parts, head and inner splits (default: 0)")
    options.add_argument("--allow-partial", action="store_true", help="measure on an incomplete data set")
    options.add_argument("-o", "--out", metavar="FILE", help="write everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import results, tasks, unknown
    from soundmark.errors import SpecError
    from soundmark.files import write_json
    from soundmark.learners import probes

    learners = probes(args.encoder, args.pooling, args.head)
    if len(learners) > 1:
        raise SpecError("unknown sounds are measured with one learner: give every setting one value")
    task = tasks.load(args.task, allow_partial=args.allow_partial)
    found = unknown.measure(task, learners[0], parts=args.parts, accepted=args.accepted, seed=args.seed)
    print(f"{found['task']}: {found['protocol']}, {len(found['parts'])} parts of the classes left out in turn")
    for name, each in found["scores"].items():
        auroc, known, strange = each["auroc"], each["realised"]["known"], each["realised"]["unknown"]
        print(
            f"{name:<12} AUROC {auroc['value']:.3f} ({auroc['low']:.3f} to {auroc['high']:.3f}); "
            f"accepted: known {known['value']:.1%} (wanted {args.accepted:.0%}), unknown {strange['value']:.1%}"
        )
    if args.out:
        write_json(args.out, {"command": command(args)} | found | {"environment": results.environment()})
        print(args.out)
    return 0


def command(args: argparse.Namespace) -> str:
    """The command line that measures the same again."""
    words = ["soundmark", "unknown", args.task, "--encoder", args.encoder, "--pooling", args.pooling]
    words += ["--head", args.head, "--parts", str(args.parts), "--accepted", str(args.accepted)]
    words += ["--seed", str(args.seed)] + (["--allow-partial"] if args.allow_partial else [])
    return shlex.join([*words, "-o", args.out])
