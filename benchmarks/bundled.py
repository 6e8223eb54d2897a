"""The model in the package on one core: milliseconds for a clip, from its waveform on and from its file on.

    python benchmarks/bundled.py ESC-50/audio --clips 100

Clips go through one by one, as from a microphone; the models take turns. Beside it stands mn04, the published network
of about the same size, as a model file on the same runtime (its first use needs its weights).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import soundmark
from soundmark import audio
from soundmark.environment import environment
from soundmark.files import write_json
from soundmark.published import BUNDLED

RESULT = Path(__file__).resolve().parents[1] / "results" / "benchmarks" / "bundled.json"


def milliseconds(work: Callable[..., object], *words: object) -> float:
    """Of one call."""
    started = time.perf_counter()
    work(*words)
    return 1000 * (time.perf_counter() - started)


def processor() -> str:
    """As the system calls it."""
    file = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in file.read_text().splitlines() if line.startswith("model name")]
    return names[0] if file.exists() and names else platform.processor() or platform.machine()


def main() -> None:
    """Measure and write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, help="recordings")
    options.add_argument("--clips", type=int, default=100)
    options.add_argument("--model", help="another model file than the one in the package")
    options.add_argument("--peer", default="mn04", help="a model to measure beside it; empty for none")
    options.add_argument("--out", type=Path, default=RESULT)
    args = options.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    models = {BUNDLED: soundmark.load(args.model, threads=1)}
    if args.peer:
        models[args.peer] = soundmark.load(args.peer, threads=1)
    found = sorted(path for path in args.folder.iterdir() if path.suffix in audio.AUDIO_SUFFIXES)
    paths = found[:: max(1, len(found) // args.clips)][: args.clips]
    times: dict[str, dict[str, list[float]]] = {name: {"graph": [], "file": []} for name in models}
    lengths = []
    for path in paths:
        for name, model in models.items():
            samples, _ = audio.read(path, model.sample_rate)
            waveform = np.ascontiguousarray(samples)[None]
            model.predict_proba(waveform)  # neither shapes nor caches are new to either
            times[name]["graph"].append(milliseconds(model.predict_proba, waveform))
            times[name]["file"].append(milliseconds(model, path))
        lengths.append(len(samples) / model.sample_rate)
    seconds = statistics.median(lengths)
    medians = {
        name: {what: round(statistics.median(each), 2) for what, each in both.items()} for name, both in times.items()
    }
    result = {
        "title": "The model in the package, a clip at a time on one core",
        "command": "python benchmarks/bundled.py ESC-50/audio",
        "columns": ["model", "from the waveform", "from the file", "times as quick as it sounds"],
        "rows": [
            [f"`{name}`", f"{each['graph']:.1f} ms", f"{each['file']:.1f} ms", f"{1000 * seconds / each['graph']:.0f}"]
            for name, each in medians.items()
        ],
        "notes": [f"Medians over {len(paths)} clips of {seconds:.1f} s, on {processor()}."],
        "clips": len(paths),
        "clip_seconds": round(seconds, 2),
        "median_ms": medians[BUNDLED],
        "times_real_time": round(1000 * seconds / medians[BUNDLED]["graph"]),
        "peers": {name: each for name, each in medians.items() if name != BUNDLED},
        "learner": models[BUNDLED].metadata.get("learner"),
        "processor": processor(),
        "environment": environment(),
    }
    write_json(args.out, result)
    print(f"{medians} ms for {seconds:.1f} s, one core")


if __name__ == "__main__":
    main()
