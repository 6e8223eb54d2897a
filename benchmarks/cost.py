"""The cost of embedding more and more clips, by the threads of one process and on Ray: time and peak memory.

    python benchmarks/cost.py                                 # needs ESC-50 in SOUNDMARK_DATA; a quarter of an hour
    python benchmarks/cost.py --task toy --counts 20 40 80    # a look at whether it works

Every count is a fresh process that writes a new folder of partitions, as `soundmark embed ... -o DIR/` does; so Ray is
started anew each time. Beyond the task's own number clips are repeated under new names. Time is that of the whole
process. Peak memory is that of the process and all it has started, looked at five times a second: pages that several
share count once in all (PSS, from /proc; so this runs on Linux only). Of Ray that includes its own servers.

Repeats alternate between the engines and the median counts. A line is fitted to the times:
seconds = start + each * clips.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from soundmark import audio, cluster, partitions, tasks
from soundmark.environment import environment
from soundmark.files import write_json
from soundmark.tasks.base import Clip, Task

COUNTS = (250, 500, 1000, 2000, 20_000)
ENGINES = ("local", "ray")
LOOK_SECONDS = 0.2
RESULT = "results/benchmarks/cost.json"


def collection(task: Task, count: int, folder: Path) -> None:
    """That many clips: links to the task's recordings, each under a name of its own, and a list of them."""
    folder.mkdir()
    spread = np.unique(np.linspace(0, len(task.clips) - 1, min(count, len(task.clips))).astype(int))
    with open(folder / "clips.csv", "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        for number in range(count):
            clip = task.clips[spread[number % len(spread)]]
            name = f"{number:06d}-{Path(clip.path).name}"
            (folder / name).symlink_to(Path(task.path(clip)).resolve())
            table.writerow([name, clip.label, clip.group, clip.fold])


def embed(folder: Path, out: Path, engine: str, args: argparse.Namespace) -> None:
    """What is measured."""
    with open(folder / "clips.csv", newline="", encoding="utf-8") as stream:
        clips = tuple(Clip(name, (label,), group=group, fold=fold) for name, label, group, fold in csv.reader(stream))
    task = Task("cost", folder, clips, tuple(sorted({clip.label for clip in clips})), protocol="none", rounds=())
    on = cluster.engine(workers=args.workers) if engine == "ray" else None
    partitions.write(task, args.encoder, args.pooling, out, engine=on, workers=args.workers, progress=False)


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds, and the most MiB of memory, that a command takes with all it starts."""
    started, most = time.perf_counter(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while process.poll() is None:
            most = max(most, sum(map(memory, family(process.pid))))
            time.sleep(LOOK_SECONDS)
    finally:
        process.kill()
    took = time.perf_counter() - started
    said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return took, most


def family(first: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(place.joinpath("stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        children.setdefault(parent, []).append(int(place.name))
    found, open_ = [], [first]
    while open_:
        one = open_.pop()
        found.append(one)
        open_ += children.get(one, [])
    return found


def memory(pid: int) -> float:
    """MiB of a process, its share of what it shares with others; 0 for one that has gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def line(counts: Iterable[int], seconds: Iterable[float]) -> dict[str, float]:
    """The straight line through times, and how much of their spread it explains."""
    x, y = np.asarray(list(counts), float), np.asarray(list(seconds), float)
    each, start = np.polyfit(x, y, 1)
    apart = ((y - (start + each * x)) ** 2).sum()
    spread = ((y - y.mean()) ** 2).sum()
    return {
        "start_seconds": round(float(start), 3),
        "ms_per_clip": round(1000 * float(each), 4),
        "r_squared": round(float(1 - apart / spread), 5) if spread else 1.0,
    }


def main() -> None:
    """Measure and write results/benchmarks/cost.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--task", default="esc50")
    options.add_argument("--encoder", default="logmel")
    options.add_argument("--pooling", default="mean+std")
    options.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--repeats", type=int, default=3, help="of counts up to 2000; larger ones are measured once")
    options.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    options.add_argument("--out", default=RESULT)
    options.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.only:
        embed(Path(args.only[0]), Path(args.only[1]), args.only[2], args)
        return
    task = tasks.load(args.task)
    found: dict[str, dict[int, dict[str, object]]] = {engine: {} for engine in args.engines}
    with tempfile.TemporaryDirectory() as place:
        for count in args.counts:
            folder = Path(place) / f"of{count}"
            collection(task, count, folder)
            times: dict[str, list[float]] = {engine: [] for engine in args.engines}
            peaks: dict[str, list[float]] = {engine: [] for engine in args.engines}
            for repeat in range(args.repeats if count <= 2000 else 1):
                for engine in args.engines:
                    words = [sys.executable, __file__, "--encoder", args.encoder, "--pooling", args.pooling]
                    words += [
                        "--workers",
                        str(args.workers),
                        "--only",
                        str(folder),
                        f"{place}/{engine}{count}-{repeat}",
                    ]
                    took, most = measured([*words, engine])
                    times[engine].append(took)
                    peaks[engine].append(most)
                    print(f"{engine:>6} {count:>7} clips: {took:8.2f} s, {most:7.0f} MiB", flush=True)
            for engine in args.engines:
                found[engine][count] = {
                    "seconds": [round(value, 3) for value in times[engine]],
                    "median_seconds": round(statistics.median(times[engine]), 3),
                    "peak_mib": round(max(peaks[engine]), 1),
                }
    seconds = statistics.fmean(audio.info(task.path(clip)).duration for clip in task.clips[::20])
    write_json(args.out, written(args, found, seconds))


def written(
    args: argparse.Namespace, found: dict[str, dict[int, dict[str, object]]], seconds: float
) -> dict[str, object]:
    """The result's file: a table for people, and all numbers."""
    lines = {
        engine: line(rows, (float(str(row["median_seconds"])) for row in rows.values()))
        for engine, rows in found.items()
        if len(rows) > 1
    }
    notes = [
        f"{engine}: {fit['start_seconds']:.1f} s to start and {fit['ms_per_clip']:.2f} ms for each clip "
        f"(R² {fit['r_squared']:.4f})."
        for engine, fit in lines.items()
    ]
    if len(lines) == len(ENGINES):
        more = {key: lines["ray"][key] - lines["local"][key] for key in ("start_seconds", "ms_per_clip")}
        notes.append(
            f"On Ray it is {more['start_seconds']:+.1f} s at the start and {more['ms_per_clip']:+.2f} ms a clip."
        )
    notes.append("Peak memory is that of all processes together, what they share counted once.")
    default = {"task": "esc50", "encoder": "logmel", "pooling": "mean+std", "workers": 2, "out": RESULT}
    words = [f"--{name} {getattr(args, name)}" for name, value in default.items() if getattr(args, name) != value]
    words += [f"--counts {' '.join(map(str, args.counts))}"] if args.counts != list(COUNTS) else []
    return {
        "title": f"Embedding by number of clips, `{args.encoder}`, {args.workers} workers",
        "command": " ".join(["python benchmarks/cost.py", *words]),
        "columns": ["clips", *(f"{engine}, {what}" for engine in found for what in ("s", "MiB"))],
        "rows": [
            [f"{count:,}", *(f"{found[e][count][key]:.1f}" for e in found for key in ("median_seconds", "peak_mib"))]
            for count in args.counts
        ],
        "notes": notes,
        "what": f"{args.task}, {args.encoder}, {args.pooling}; whole processes, each into a new folder",
        "encoder": args.encoder,
        "workers": args.workers,
        "clip_seconds": round(seconds, 3),
        "lines": lines,
        "measured": {engine: {str(count): row for count, row in rows.items()} for engine, rows in found.items()},
        "cores": os.cpu_count(),
        "environment": environment(),
    }


if __name__ == "__main__":
    main()
