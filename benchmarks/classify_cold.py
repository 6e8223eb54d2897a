"""`soundmark classify` as a cold process, beside a bare script that runs the same graph on the same recording.

    python benchmarks/classify_cold.py runs/esc50/model.onnx dog.wav

The bare script imports onnxruntime and soundfile, reads the recording, and runs the graph: the least anybody could do
by hand. Whole processes are timed, from start to end, in turns; both find their files in the page cache. The recording
must have the model's sample rate, for the bare script does not resample.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import soundmark
from soundmark import audio
from soundmark.environment import environment
from soundmark.files import write_json

BARE = """
import sys, onnxruntime, soundfile
samples, rate = soundfile.read(sys.argv[2], dtype="float32")
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(session.run(["probabilities"], {"audio": samples[None]})[0].argmax())
"""


def seconds(words: list[str]) -> float:
    """Wall-clock time of a process that must succeed."""
    started = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure and write results/benchmarks/classify_cold.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", help="a model file")
    options.add_argument("recording", help="a recording of the model's sample rate")
    options.add_argument("--repeats", type=int, default=21)
    options.add_argument("--out", default="results/benchmarks/classify_cold.json")
    args = options.parse_args()
    classifier, info = soundmark.load(args.model), audio.info(args.recording)
    if info.sample_rate != classifier.sample_rate:
        sys.exit(f"the recording has {info.sample_rate} Hz and the model {classifier.sample_rate}: take another")
    words = {
        "bare": [sys.executable, "-c", BARE, args.model, args.recording],
        "soundmark": [sys.executable, "-m", "soundmark", "classify", args.recording, "--model", args.model, "--json"],
    }
    said = json.loads(subprocess.run(words["soundmark"], check=True, capture_output=True).stdout)["labels"][0]["label"]
    same = int(subprocess.run(words["bare"], check=True, capture_output=True).stdout)
    if classifier.labels[same] != said:
        sys.exit(f"the bare script says {classifier.labels[same]} and soundmark {said}: they did not do the same")
    times: dict[str, list[float]] = {name: [] for name in words}
    for _ in range(args.repeats):
        for name, command in words.items():
            times[name].append(seconds(command))
    median = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "command": "python benchmarks/classify_cold.py MODEL RECORDING",
        "what": "whole processes, from start to end, in turns",
        "learner": classifier.metadata.get("learner"),
        "task": classifier.metadata.get("task"),
        "model_bytes": Path(args.model).stat().st_size,
        "recording": {"seconds": round(info.duration, 2), "sample_rate": info.sample_rate, "format": info.format},
        "seconds": {name: [round(value, 3) for value in values] for name, values in times.items()},
        "median_seconds": {name: round(value, 3) for name, value in median.items()},
        "slowest_seconds": {name: round(max(values), 3) for name, values in times.items()},
        "times_the_bare_script": round(median["soundmark"] / median["bare"], 2),
        "environment": environment(),
    }
    write_json(args.out, result)
    print(f"{result['median_seconds']} s, {result['times_the_bare_script']} times the bare script")


if __name__ == "__main__":
    main()
