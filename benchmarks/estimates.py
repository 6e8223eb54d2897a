"""What embedding large collections would take, worked out from measured costs: nothing here was run at that size.

    python benchmarks/estimates.py      # reads the cost*.json that benchmarks/cost.py has written

Time is taken to grow with the seconds of sound, and to fall with the cores, Ray's start apart: `cost.py` finds a line
over 250 to 20,000 clips, and a clip is encoded by one thread whatever the number of machines. Reading is as measured,
from a local disk; on many machines the disk or the network has to keep up, so the bytes it must give are stated. Other
formats decode at other speeds (the collections below are WAV or compressed; the measured ones Ogg Vorbis, the slower).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundmark.environment import environment
from soundmark.files import write_json
from soundmark.pace import words

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"


@dataclass(frozen=True)
class Collection:
    """Recordings, and the machines that are to embed them."""

    name: str
    clips: int
    seconds: float
    megabytes_per_clip: float
    cores: int


# NSynth: 305,979 notes of 4 s, 16-bit at 16 kHz (Engel et al. 2017). AudioSet: 2,084,320 segments of 10 s (Gemmeke et
# al. 2017), as compressed sound of 128 kbit/s.
COLLECTIONS = (
    Collection("NSynth", 305_979, 4.0, 0.128, 2),
    Collection("NSynth", 305_979, 4.0, 0.128, 16),
    Collection("AudioSet", 2_084_320, 10.0, 0.16, 2),
    Collection("AudioSet", 2_084_320, 10.0, 0.16, 100),
)


def core_seconds(cost: dict[str, Any], engine: str) -> float:
    """Seconds that one core takes for one second of sound."""
    per_clip: float = cost["lines"][engine]["ms_per_clip"] / 1000 * cost["workers"]
    return per_clip / float(cost["clip_seconds"])


def estimate(cost: dict[str, Any], collection: Collection, engine: str) -> dict[str, float]:
    """Seconds, and what the disks must give meanwhile."""
    work = collection.clips * collection.seconds * core_seconds(cost, engine) / collection.cores
    seconds = cost["lines"][engine]["start_seconds"] + work
    return {"seconds": seconds, "megabytes_per_second": collection.clips * collection.megabytes_per_clip / seconds}


def main() -> None:
    """Work out and write results/benchmarks/estimates.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("costs", type=Path, nargs="*", help="files of benchmarks/cost.py (default: all in results/)")
    options.add_argument("--out", type=Path, default=RESULTS / "estimates.json")
    args = options.parse_args()
    paths = args.costs or sorted(RESULTS.glob("cost*.json"))
    if not paths:
        raise SystemExit("nothing was measured yet: run python benchmarks/cost.py first")
    costs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    rows, numbers = [], []
    for cost in costs:
        for collection in COLLECTIONS:
            engine = "ray" if "ray" in cost["lines"] and collection.cores > cost["workers"] else "local"
            found = estimate(cost, collection, engine)
            numbers.append({"encoder": cost["encoder"], "engine": engine, "of": vars(collection), **found})
            what = f"{collection.name}, {collection.clips:,} clips of {collection.seconds:g} s"
            time, rate = words(found["seconds"]), f"{found['megabytes_per_second']:.1f} MB/s"
            rows.append([what, f"`{cost['encoder']}`", f"{collection.cores} cores, {engine}", time, rate])
    each = "; ".join(f"`{c['encoder']}` {1000 * core_seconds(c, 'local'):.2f} ms" for c in costs)
    write_json(
        args.out,
        {
            "title": "What large collections would take (an estimate)",
            "command": "python benchmarks/estimates.py",
            "columns": ["collection", "encoder", "on", "time", "to be read"],
            "rows": rows,
            "notes": [
                "Worked out from the costs of 250 to 20,000 clips above, not run: time grows with the seconds of sound "
                "and falls with the cores, and the disks keep up with what is to be read.",
                f"One core takes for a second of sound, files to vector: {each}.",
            ],
            "numbers": numbers,
            "environment": environment(),
        },
    )
    print(args.out)


if __name__ == "__main__":
    main()
