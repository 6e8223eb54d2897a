"""Draw a run's page and figures again, from what its folder holds."""

from __future__ import annotations

import argparse


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser("report", help="draw a run's page again", description=__doc__)
    options.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    options.add_argument(
        "--no-audio",
        action="store_true",
        help="leave recordings out of the page, as their licence may ask before you publish it",
    )


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import report

    for folder in args.runs:
        print(report.write(folder, sounds=not args.no_audio))
    return 0
