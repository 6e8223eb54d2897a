"""A day of sound through one listener, as quickly as it goes: does its memory stay flat, does it keep up on one core?

    python benchmarks/listen_day.py                     # 24 h of sound; some 20 minutes on an idle core
    python benchmarks/listen_day.py --hours 1 --out hour.json

The sound is synthesised: faint noise at 44.1 kHz, with a burst of tones every half a minute, so that events come and
go. It goes the way of a live source, block by block of a tenth of a second, through the backlog, streaming resampling,
windows, the model, the detector, messages and an alert's queue. Memory is the process's own, sampled over the day.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bundled import processor
from memory import resident_mib

import soundmark
from soundmark import tasks
from soundmark.alerts import Alerts, Message, message
from soundmark.environment import environment
from soundmark.events import settings_for
from soundmark.files import write_json
from soundmark.listen import Listener
from soundmark.sources import Block, Say

RESULT = Path(__file__).resolve().parents[1] / "results" / "benchmarks" / "listen_day.json"
RATE = 44_100
BLOCK = RATE // 10
BURST_EVERY, BURST_SECONDS = 30, 4
SETTLED = 0.1  # of the day, after which memory is taken to be settled


class Day:
    """So many hours of synthesised sound. It can wait, so that none is lost."""

    name, live = "a synthesised day", False

    def __init__(self, hours: float) -> None:
        self.total = round(hours * 3600 * 10)
        self.over = threading.Event()

    def blocks(self, say: Say) -> Iterator[Block]:
        """Faint noise, and tones that sweep up."""
        draw = np.random.default_rng(0)
        noise = (0.003 * draw.standard_normal(10 * RATE)).astype(np.float32)
        times = np.arange(BURST_SECONDS * RATE) / RATE
        burst = (0.3 * np.sin(2 * np.pi * (600 + 300 * np.sin(2 * np.pi * 0.5 * times)) * times)).astype(np.float32)
        for number in range(self.total):
            if self.over.is_set():
                return
            samples = noise[(number % 100) * BLOCK :][:BLOCK].copy()
            inside = number % (10 * BURST_EVERY)
            if inside < 10 * BURST_SECONDS:
                samples += burst[inside * BLOCK :][:BLOCK]
            yield Block(number / 10, samples, RATE)

    def close(self) -> None:
        """Stop."""
        self.over.set()


class Counted:
    """An alert that reaches nobody."""

    name, told = "nobody", 0

    def send(self, said: Message, over: threading.Event) -> None:
        """Count it."""
        self.told += 1

    def close(self) -> None:
        """Nothing is open."""


def main() -> None:
    """Measure and write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--hours", type=float, default=24.0)
    options.add_argument("--model", help="another model than the one in the package")
    options.add_argument("--view", help="a view of its task, such as danger")
    options.add_argument("--out", type=Path, default=RESULT)
    args = options.parse_args()
    model = soundmark.load(args.model, threads=1)
    if args.view:
        model = model.with_view(tasks.load_view(args.view, model.metadata["task"]))
    settings = settings_for(model)
    nobody, said = Counted(), 0
    alerts = Alerts([nobody], kinds=["new", "update", "end"])
    begun, spent = time.perf_counter(), time.process_time()
    memory: list[tuple[float, float]] = []  # (hour, MiB)
    step, heard, windows = args.hours / 200, 0.0, 0
    for moment in (listener := Listener(model, Day(args.hours), settings)):
        windows += moment.probabilities is not None
        heard = moment.end
        for change in moment.changes:
            said += 1
            alerts.tell(change, message(change, listener.source.name, model.name))
        if moment.end / 3600 >= len(memory) * step:
            memory.append((round(moment.end / 3600, 3), round(resident_mib(), 2)))
            if sys.stderr.isatty():
                print(f"\r{moment.end / 3600:.2f} h, {memory[-1][1]:.0f} MiB", end="", file=sys.stderr)
    wall, cpu = time.perf_counter() - begun, time.process_time() - spent
    alerts.close()
    settled = [mib for hour, mib in memory if hour >= SETTLED * args.hours]
    hours = [hour for hour, _ in memory if hour >= SETTLED * args.hours]
    slope = float(np.polyfit(hours, settled, 1)[0]) if len(settled) > 2 else None
    result = {
        "title": "A day of sound through one listener",
        "command": " ".join(["python", "benchmarks/listen_day.py", *sys.argv[1:]]),
        "columns": ["sound", "windows", "time taken", "times real time", "memory, settled", "growth"],
        "rows": [
            [
                f"{heard / 3600:.2f} h",
                f"{windows:,}",
                f"{wall / 60:.1f} min",
                f"{heard / wall:.0f}",
                f"{min(settled):.1f} to {max(settled):.1f} MiB",
                "unknown" if slope is None else f"{slope:+.3f} MiB/h",
            ]
        ],
        "notes": [
            "Synthesised sound of 44.1 kHz through backlog, resampling, windows, model, detector and alerts; the model "
            f"has one thread, on {processor()}. Memory counts as settled after a tenth of the day."
        ],
        "model": model.name,
        "view": args.view or "",
        "window_seconds": settings.window_seconds,
        "hop_seconds": settings.hop_seconds,
        "hours": round(heard / 3600, 3),
        "windows": windows,
        "changes": said,
        "alerts_told": nobody.told,
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "times_real_time": round(heard / wall, 1),
        "times_real_time_by_cpu": round(heard / cpu, 1),
        "memory_mib": {
            "settled_least": min(settled),
            "settled_most": max(settled),
            "last": memory[-1][1],
            "slope_mib_per_hour": None if slope is None else round(slope, 4),
            "samples": memory[:: max(1, len(memory) // 50)],
        },
        "processor": processor(),
        "environment": environment(),
    }
    write_json(args.out, result)
    print(
        f"\n{result['hours']} h in {wall:.0f} s ({result['times_real_time']} times real time), memory from "
        f"{min(settled):.1f} to {max(settled):.1f} MiB once settled, {result['memory_mib']['slope_mib_per_hour']} MiB/h"
    )


if __name__ == "__main__":
    main()
