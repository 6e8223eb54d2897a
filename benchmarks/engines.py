"""What precision and engine cost in agreement and give in speed: an encoder as it is, beside its other forms.

    python benchmarks/engines.py mn04                  # needs ESC-50 in SOUNDMARK_DATA and the weights
    python benchmarks/engines.py cnn14 --clips 64

Waveforms are in memory and every form hears them one after the other on one thread, in turns, in batches of eight, as
they are in use on each core. Agreement is the cosine between a clip's vectors (mean over time), clip by clip.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from soundmark import embeddings, encoders, tasks
from soundmark.encoders.base import Encoder
from soundmark.environment import environment
from soundmark.errors import SoundmarkError
from soundmark.files import write_json
from soundmark.spec import with_settings

FORMS = {
    "float32": {},
    "bf16": {"precision": "bf16"},
    "ONNX Runtime": {"engine": "onnx"},
    "ONNX Runtime, int8": {"engine": "int8"},
}
BATCH = 8


def vectors(encoder: Encoder, batches: list[torch.Tensor]) -> np.ndarray:
    """Mean over time of every clip, (clips, dim)."""
    with torch.inference_mode():
        return torch.cat([encoder(batch).mean(1) for batch in batches]).numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of every row of one with the same row of the other."""
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def measure(name: str, clips: int, repeats: int, only: list[str]) -> dict[str, object]:
    """Milliseconds a clip and agreement of every form, in one run."""
    whole = tasks.load("esc50")
    some = np.unique(np.linspace(0, len(whole.clips) - 1, clips).astype(int))
    forms: dict[str, Encoder] = {}
    without: dict[str, str] = {}
    for form, settings in FORMS.items():
        if form in only:
            try:
                forms[form] = encoders.load(with_settings(name, **settings))
            except SoundmarkError as error:
                without[form] = str(error)
    plain = forms["float32"]
    seconds = 5 * plain.sample_rate
    waves = [np.resize(embeddings.waveform(whole, whole.clips[i], plain), seconds) for i in some]
    batches = [torch.from_numpy(np.stack(waves[i : i + BATCH])) for i in range(0, len(waves), BATCH)]
    heard = {form: vectors(encoder, batches) for form, encoder in forms.items()}
    times: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(repeats):
        for form, encoder in forms.items():
            started = time.perf_counter()
            vectors(encoder, batches)
            times[form].append(1e3 * (time.perf_counter() - started) / len(waves))
    median = {form: statistics.median(values) for form, values in times.items()}
    agreement = {form: cosines(heard["float32"], found) for form, found in heard.items()}
    return {
        "encoder": name,
        "clips": len(waves),
        "threads": 1,
        "batch": BATCH,
        "forms": [
            {
                "form": form,
                "ms_per_clip": round(median[form], 2),
                "times_faster": round(median["float32"] / median[form], 2),
                "median_cosine": round(float(np.median(agreement[form])), 6),
                "lowest_cosine": round(float(agreement[form].min()), 6),
            }
            for form in forms
        ],
        "not_possible": without,
    }


def main() -> None:
    """Measure, and write results/engines/NAME.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("encoders", nargs="+", help="names in the grammar")
    options.add_argument("--clips", type=int, default=64)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    options.add_argument("--out", type=Path, default=Path("results/engines"), help="folder")
    args = options.parse_args()
    torch.set_num_threads(1)
    for name in args.encoders:
        command = f"python benchmarks/engines.py {name} --clips {args.clips}"
        found = measure(name, args.clips, args.repeats, ["float32", *args.forms])
        content = {"command": command, **found, "environment": environment()}
        write_json(args.out / f"{name.partition('?')[0]}.json", content)
        for row in found["forms"]:  # type: ignore[attr-defined]
            print(name, *(f"{key}={value}" for key, value in row.items()))
        for form, reason in found["not_possible"].items():  # type: ignore[attr-defined]
            print(f"{name}: no {form}: {reason}")


if __name__ == "__main__":
    main()
