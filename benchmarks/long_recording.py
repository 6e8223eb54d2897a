"""Peak memory of embedding one long recording, by encoder and by length.

    python benchmarks/long_recording.py mn04 logmel --hours 0.5 10

A fresh process for every number. The recording is real clips one after the other, 16-bit FLAC at the encoder's rate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from features import peak_mib

from soundmark import audio, embeddings, encoders, tasks
from soundmark.environment import environment
from soundmark.files import write_json
from soundmark.tasks.base import Clip, Round, Task

POOLING = "mean+std+max+p50"


def record(path: Path, hours: float, rate: int) -> None:
    """Write so many hours of ESC-50's clips."""
    whole = tasks.load("esc50")
    clips = [
        audio.read(whole.path(whole.clips[i]), rate)[0] for i in np.linspace(0, len(whole.clips) - 1, 40).astype(int)
    ]
    left = round(hours * 3600 * rate)
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC") as file:
        place = 0
        while left > 0:
            part = clips[place % len(clips)][:left]
            file.write(part)
            left -= len(part)
            place += 1


def embed(path: Path, name: str) -> dict[str, float]:
    """What embedding it takes, in this process."""
    task = Task("long", path.parent, (Clip(path.name, ("sound",)),), ("sound",), "none", (Round("1", (), (0,)),))
    started = time.perf_counter()
    found = embeddings.embed(task, name, POOLING, cache=False, progress=False)
    return {
        "peak_mib": round(peak_mib(), 1),
        "seconds": round(time.perf_counter() - started, 1),
        "dim": int(found.vectors.shape[1]),
    }


def main() -> None:
    """Measure and write results/memory/long_recording.json; what it holds of other encoders stays."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("encoders", nargs="+")
    options.add_argument("--hours", nargs="+", type=float, default=[0.25, 1.0])
    options.add_argument("--only-embed", metavar="FILE", help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path, default=Path("results/memory/long_recording.json"))
    args = options.parse_args()
    if args.only_embed:
        print(json.dumps(embed(Path(args.only_embed), args.encoders[0])))
        return
    known = json.loads(args.out.read_text()) if args.out.exists() else {"encoders": {}}
    for name in args.encoders:
        rows = []
        for hours in args.hours:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "long.flac"
                record(path, hours, encoders.load(name).sample_rate)
                words = [sys.executable, __file__, name, "--only-embed", str(path)]
                said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            rows.append({"hours": hours, **json.loads(said)})
            print(name, rows[-1], flush=True)
        hours_said = " ".join(f"{hours:g}" for hours in args.hours)
        known["encoders"][name] = {
            "command": f"python benchmarks/long_recording.py '{name}' --hours {hours_said}",
            "pooling": POOLING,
            "rows": rows,
            "environment": environment(),
        }
        write_json(args.out, known)


if __name__ == "__main__":
    main()
