"""Whole-task log-mel extraction, files to pooled vectors: Soundmark beside the plain librosa loop, in one run.

    python benchmarks/features.py                  # needs ESC-50 in SOUNDMARK_DATA; about five minutes
    python benchmarks/features.py --clips 400      # a quicker look

Both read the same files (page cache warm), compute the same log-mel spectrogram and pool it to mean and standard
deviation. librosa is used as its documentation shows: one clip after the other, `librosa.load`, `melspectrogram`,
`power_to_db`. Soundmark's cache of embeddings is empty at every repeat. The floor is decoding alone on all cores, once
with libsndfile, which librosa uses, and once with Soundmark's own reader.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import soundfile
from memory import peak_mib

from soundmark import audio, embeddings, tasks
from soundmark.environment import environment
from soundmark.files import write_json
from soundmark.tasks.base import Task

WINDOW, HOP, BANDS = 2048, 512, 128  # librosa's own defaults
NATIVE = 44100


def by_librosa(task: Task, rate: int) -> np.ndarray:
    """The loop people write."""
    rows = []
    for clip in task.clips:
        samples, _ = librosa.load(task.path(clip), sr=None if rate == NATIVE else rate, res_type="soxr_hq")
        mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=WINDOW, hop_length=HOP, n_mels=BANDS)
        levels = librosa.power_to_db(mel, top_db=None)
        rows.append(np.concatenate([levels.mean(axis=1), levels.std(axis=1)]))
    return np.stack(rows)


def by_soundmark(task: Task, rate: int) -> np.ndarray:
    """One call, with an empty cache that is written as it always is."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOUNDMARK_CACHE"] = folder
        encoder = f"logmel?rate={rate}&window={WINDOW}&hop={HOP}&bands={BANDS}"
        return embeddings.embed(task, encoder, "mean+std", progress=False).vectors


def decode(task: Task, read: Callable[[Path], object]) -> None:
    """Decoding alone, on every core."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(lambda clip: read(task.path(clip)) is None, task.clips):
            pass


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_memory(clips: int, rate: int) -> float:
    """Peak resident memory, MiB, of a fresh process that embeds this many clips."""
    words = [sys.executable, __file__, "--only-embed", str(clips), "--rate", str(rate)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def measure(task: Task, rate: int, repeats: int) -> dict[str, object]:
    """Medians of alternating repeats, and what they make of each other."""
    ours, theirs = by_soundmark(task, rate), by_librosa(task, rate)  # warms page cache and imports of both
    times: dict[str, list[float]] = {"librosa": [], "soundmark": [], "decode_libsndfile": [], "decode_soundmark": []}
    for _ in range(repeats):
        times["librosa"].append(seconds(lambda: by_librosa(task, rate)))
        times["soundmark"].append(seconds(lambda: by_soundmark(task, rate)))
        times["decode_libsndfile"].append(seconds(lambda: decode(task, lambda p: soundfile.read(p, dtype="float32"))))
        times["decode_soundmark"].append(seconds(lambda: decode(task, audio.read)))
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "rate": rate,
        "resampled": rate != NATIVE,
        "clips": len(task.clips),
        "seconds": {name: [round(value, 3) for value in values] for name, values in times.items()},
        "median_seconds": {name: round(value, 3) for name, value in median.items()},
        "ms_per_clip": {name: round(1e3 * value / len(task.clips), 3) for name, value in median.items()},
        "times_faster_than_librosa": round(median["librosa"] / median["soundmark"], 2),
        "times_the_floor": {
            "decode_libsndfile": round(median["soundmark"] / median["decode_libsndfile"], 2),
            "decode_soundmark": round(median["soundmark"] / median["decode_soundmark"], 2),
        },
        "max_difference_db": float(np.abs(ours - theirs).max()),
        "relative_l2": float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)),
    }


def main() -> None:
    """Measure and write results/benchmarks/features.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clips", type=int, default=2000)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--rate", type=int, default=NATIVE)
    options.add_argument("--only-embed", type=int, metavar="CLIPS", help=argparse.SUPPRESS)
    options.add_argument("--out", default="results/benchmarks/features.json")
    args = options.parse_args()
    whole = tasks.load("esc50")
    spread = np.unique(np.linspace(0, len(whole.clips) - 1, args.only_embed or args.clips).astype(int))
    task = replace(whole.subset(spread), rounds=())
    if args.only_embed:
        by_soundmark(task, args.rate)
        print(peak_mib())
        return
    result = {
        "command": "python benchmarks/features.py" + (f" --clips {args.clips}" if args.clips != 2000 else ""),
        "what": f"log-mel ({WINDOW} window, {HOP} hop, {BANDS} bands), files to mean and std per clip",
        "native": measure(task, NATIVE, args.repeats),
        "resampled_32k": measure(task, 32000, args.repeats),
        "peak_memory_mib": {
            str(n): round(peak_memory(n, NATIVE), 1) for n in (250, 500, 1000, 2000) if n <= len(whole.clips)
        },
        "environment": environment(),
    }
    write_json(args.out, result)
    for part in ("native", "resampled_32k"):
        row = result[part]
        print(f"{part}: {row['times_faster_than_librosa']} times librosa; {row['ms_per_clip']} ms per clip")  # type: ignore[index]
    print("peak memory, MiB:", result["peak_memory_mib"])


if __name__ == "__main__":
    main()
