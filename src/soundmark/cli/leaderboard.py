"""Put measured cells side by side: a leaderboard as Markdown, CSV and one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """examples:
  soundmark leaderboard results/audiosep -o results/audiosep
  soundmark leaderboard results/here results/there -o results/both --tasks esc50 urbansound8k

Learners are ranked on tasks that all who are ranked have been measured on, by the whole protocol; cells on a sample or
a part of a data set stand in a table of their own.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "leaderboard", help="put measured cells side by side, with paired tests", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("folders", nargs="+", metavar="DIR", help="folders that soundmark benchmark wrote")
    options.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="only these (default: all there are)")
    options.add_argument("-o", "--out", required=True, metavar="OUT", help="folder of leaderboard.md, .csv and .html")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import leaderboard

    print(leaderboard.write(args.folders, Path(args.out), tasks=args.tasks))
    return 0
