"""Draw a run's page and figures again, from what its folder holds; or see it through a view."""

from __future__ import annotations

import argparse
from pathlib import Path

from soundmark.errors import SpecError


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser("report", help="draw a run's page again", description=__doc__)
    options.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    options.add_argument("--view", metavar="V", help="measure the run on the classes of a view, as a run of its own")
    options.add_argument("--out", metavar="DIR", help="folder of that (default: RUN-VIEW)")
    options.add_argument(
        "--no-audio",
        action="store_true",
        help="leave recordings out of the page, as their licence may ask before you publish it",
    )


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import report

    if args.out and (not args.view or len(args.runs) > 1):
        raise SpecError("--out is the folder of one run seen through a view: give one run, and --view")
    for folder in args.runs:
        print(report.write(_seen(folder, args) if args.view else folder, sounds=not args.no_audio))
    return 0


def _seen(folder: str, args: argparse.Namespace) -> Path:
    """The run through the view, written beside it; its scores are printed."""
    from soundmark.cli.train import summary
    from soundmark.results import Run
    from soundmark.viewed import through

    run = Run.read(folder)
    named = run.folder if run.folder.name not in ("", "..") else run.folder.resolve()  # as given, but for `.`
    done = through(run, args.view, args.out or f"{named}-{Path(args.view).stem}")
    print(summary(done.metrics))
    return done.folder
