"""Keep what was measured: a finished run's metrics and environment, as one JSON file under results/runs/.

    tools/keep.py runs/esc50 runs/esc50-danger

Audio, models and pages stay where they are; numbers and names of clips may be committed. The history of a trained
network is rounded, and where it would make the file larger than 200 kB, only every n-th epoch of it is kept, the last
one, and the one that the fold chose.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from soundmark.files import write_json
from soundmark.results import Run

MOST_BYTES = 200_000
KEPT = Path(__file__).resolve().parents[1] / "results" / "runs"


def main() -> None:
    """Write one file per run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    options.add_argument("--to", type=Path, default=KEPT, help="folder to write to (default: results/runs)")
    args = options.parse_args()
    for folder in args.runs:
        run = Run.read(folder)
        write_json(args.to / f"{Path(folder).name}.json", kept(run.metrics | {"environment": run.environment}))


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """What of a run's metrics is kept: everything, but of a training's history only as much as there is room for."""
    training: Sequence[Mapping[str, Any]] = found.get("training") or ()
    longest = max((len(each.get("history") or ()) for each in training), default=0)
    every, smaller = 1, found | ({"training": thinned(training, 1)} if training else {})
    while every < longest and size(smaller) > MOST_BYTES:
        every += 1
        smaller = found | {"training": thinned(training, every)}
    return smaller


def thinned(training: Sequence[Mapping[str, Any]], every: int) -> list[dict[str, Any]]:
    """Of each stage of every fold the `every`-th epochs, the last and the chosen one, in four digits."""
    return [dict(each) | {"history": _thinned(each, every)} for each in training]


def _thinned(each: Mapping[str, Any], every: int) -> list[dict[str, Any]]:
    rows = each.get("history") or []
    last = {row["stage"]: row["epoch"] for row in rows}
    return [
        {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
        if row["epoch"] % every == 0 or row["epoch"] in (last[row["stage"]], each.get("epochs"))
    ]


def size(content: Mapping[str, Any]) -> int:
    """Bytes of a file that `write_json` makes of it."""
    return len(json.dumps(content, indent=2, ensure_ascii=False).encode()) + 1


if __name__ == "__main__":
    main()
