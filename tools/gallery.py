"""Put the scores of `results/frontends/` into the package, where `soundmark data show --gallery` reads them.

tools/gallery.py            write src/soundmark/analysis/gallery.json
tools/gallery.py --check    change nothing; exit with 1 if it is stale
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from soundmark.analysis import gallery_scores
from soundmark.files import write_json

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "results" / "frontends"
PACKAGED = ROOT / "src" / "soundmark" / "analysis" / "gallery.json"


def main() -> int:
    """Write the file, or say whether it is stale."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the file is stale")
    args = options.parse_args()
    scores = gallery_scores.collect(str(MEASURED))
    if args.check:
        return int(gallery_scores.read(str(PACKAGED)) != scores)
    write_json(PACKAGED, {"scores": [asdict(score) for score in scores]})
    print(f"{len(scores)} scores in {PACKAGED.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
