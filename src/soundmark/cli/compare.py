"""Compare runs on the same clips: difference, interval, and paired tests, each against the first."""

from __future__ import annotations

import argparse


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser("compare", help="compare runs on the same clips", description=__doc__)
    options.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders of two or more runs; the first is the reference"
    )
    options.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    import json

    from soundmark import results
    from soundmark.errors import SpecError

    if len(args.runs) < 2:
        raise SpecError("name at least two runs to compare")
    first, *others = [results.Run.read(folder) for folder in args.runs]
    rows = [results.compare(first, other) for other in others]
    if args.json:
        print(json.dumps([{"run": name, **row} for name, row in zip(args.runs[1:], rows, strict=True)], indent=2))
        return 0
    head = first.metrics["headline"]
    print(f"reference {args.runs[0]}: {head['metric'].replace('_', ' ')} {head['value']:.2%}")
    for name, row in zip(args.runs[1:], rows, strict=True):
        print(
            f"{name}: {row['b']['value']:.2%}, difference {row['difference']:+.2%}"
            f" ({row['low']:+.2%} to {row['high']:+.2%}), McNemar p = {row['mcnemar']['p']:.3g},"
            f" permutation over groups p = {row['permutation']['p']:.3g}"
        )
        for note in row["notes"]:
            print(f"  note: {note}")
    return 0
