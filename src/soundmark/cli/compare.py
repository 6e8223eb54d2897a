"""Compare runs on the same clips: difference, interval, and paired tests, each against the first."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = """examples:
  soundmark compare runs/esc50 runs/chosen
  soundmark compare runs/esc50 runs/chosen --per-class

`--per-class` adds the recall of every class in both runs, those that lost most first: its difference with the 95 %
interval (whole groups resampled), how many clips only one of the two gets right, and p of the permutation test within
the class, corrected after Holm for the number of classes. With `--json` the clips are listed too.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "compare", help="compare runs on the same clips", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders of two or more runs; the first is the reference"
    )
    options.add_argument("--per-class", action="store_true", help="say it of every class too")
    options.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    import json

    from soundmark import results
    from soundmark.errors import SpecError

    if len(args.runs) < 2:
        raise SpecError("name at least two runs to compare")
    first, *others = [results.Run.read(folder) for folder in args.runs]
    rows = [results.compare(first, other, per_class=args.per_class) for other in others]
    if args.json:
        print(json.dumps([{"run": name, **row} for name, row in zip(args.runs[1:], rows, strict=True)], indent=2))
        return 0
    over = ", mean over folds" if rows[0].get("over") == "folds" else ""
    print(f"reference {args.runs[0]}: {rows[0]['metric'].replace('_', ' ')}{over} {rows[0]['a']['value']:.2%}")
    for name, row in zip(args.runs[1:], rows, strict=True):
        print(
            f"{name}: {row['b']['value']:.2%}, difference {row['difference']:+.2%}"
            f" ({row['low']:+.2%} to {row['high']:+.2%}), McNemar p = {row['mcnemar']['p']:.3g},"
            f" permutation over groups p = {row['permutation']['p']:.3g}"
        )
        for note in row["notes"]:
            print(f"  note: {note}")
        if args.per_class:
            print("\n".join(_table(row["per_class"])))
    return 0


def _table(rows: list[dict[str, Any]]) -> list[str]:
    known = sorted((row for row in rows if row["clips"]), key=lambda row: float(row["difference"]))
    wide = max(len("class"), *(len(row["label"]) for row in rows))
    lines = [
        f"  {'class':<{wide}}  clips  recall   other  difference            interval  lost  won  p (Holm)",
        *(
            f"  {row['label']:<{wide}}  {row['clips']:5d}  {row['a']:6.1%}  {row['b']:6.1%}  {row['difference']:+10.1%}"
            f"  {row['low']:+8.1%} to {row['high']:+7.1%}  {row['only_a']:4d}  {row['only_b']:3d}  {row['p_holm']:8.2g}"
            for row in known
        ),
    ]
    without = [row["label"] for row in rows if not row["clips"]]
    return lines + ([f"  no clips: {', '.join(without)}"] if without else [])
