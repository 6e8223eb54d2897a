"""Find the clips of a task nearest to a recording; or pairs inside a task that are too near each other."""

from __future__ import annotations

import argparse
import json
import sys

EXAMPLES = """examples:
  soundmark similar door.wav --in toy --top 5
  soundmark similar door.wav --in esc50 --encoder mn04 --pooling mean --json
  soundmark similar --in toy --duplicates --above 0.999

Similarity is the cosine between vectors that are standardised over the task's clips. `--duplicates` lists pairs that
lie in different folds or groups, or on both sides of a round: what is tested there may have been trained on. Listen
before you believe it: two clips of a steady hum are alike too. "Same file" means the same bytes.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "similar", help="find the clips of a task nearest to a recording, or too near each other",
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("files", nargs="*", metavar="FILE", help="recordings")
    options.add_argument(
        "--in", dest="task", metavar="TASK", required=True, help="task, task:view, or your own folder or manifest"
    )
    options.add_argument("--encoder", metavar="E", default="logmel", help="encoder in the grammar (default: logmel)")
    options.add_argument("--pooling", metavar="P", default="mean+std", help="statistics over time (default: mean+std)")
    options.add_argument(
        "--top", type=int, metavar="K", help="clips, or pairs, to list (default: 10 clips, 1000 pairs)"
    )
    options.add_argument("--duplicates", action="store_true", help="pairs inside the task that are nearly the same")
    options.add_argument("--above", type=float, metavar="S", help="least similarity of these (default: 0.99)")
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument("--allow-partial", action="store_true", help="search what is there of an incomplete data set")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark.errors import SpecError

    if args.duplicates and args.files:
        raise SpecError("--duplicates looks inside the task: leave the recordings out")
    if not args.duplicates and not args.files:
        raise SpecError("give recordings to compare, or --duplicates to look inside the task")
    if args.above is not None and not args.duplicates:
        raise SpecError("--above is for --duplicates; the nearest clips are as many as --top says")

    from soundmark import tasks
    from soundmark.analysis import neighbours

    task = tasks.load(args.task, allow_partial=args.allow_partial)
    if args.duplicates:
        found = neighbours.duplicates(
            task, encoder=args.encoder, pooling=args.pooling,
            above=neighbours.ABOVE if args.above is None else args.above,
            most=neighbours.LISTED if args.top is None else args.top,
        )  # fmt: skip
    else:
        found = neighbours.similar(
            task, args.files, encoder=args.encoder, pooling=args.pooling,
            top=neighbours.TOP if args.top is None else args.top,
        )  # fmt: skip
    for bad in found["left_out"]:
        print(f"soundmark: left out {bad['clip']}: {bad['error']}", file=sys.stderr)
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(neighbours.duplicates_table(found) if args.duplicates else neighbours.nearest_table(found))
    return 0
