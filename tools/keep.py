"""Keep what was measured: a finished run's metrics and environment, as one JSON file under results/runs/.

    tools/keep.py runs/esc50 runs/esc50-danger

Audio, models and pages stay where they are; numbers and names of clips may be committed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from soundmark.files import write_json
from soundmark.results import Run

KEPT = Path(__file__).resolve().parents[1] / "results" / "runs"


def main() -> None:
    """Write one file per run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    options.add_argument("--to", type=Path, default=KEPT, help="folder to write to (default: results/runs)")
    args = options.parse_args()
    for folder in args.runs:
        run = Run.read(folder)
        write_json(args.to / f"{Path(folder).name}.json", run.metrics | {"environment": run.environment})


if __name__ == "__main__":
    main()
