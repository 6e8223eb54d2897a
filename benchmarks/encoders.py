"""Pretrained encoders from files to one vector a clip, beside the way each is used elsewhere, in one run.

    pip install panns-inference torchlibrosa
    python benchmarks/encoders.py                       # needs ESC-50 in SOUNDMARK_DATA; ten minutes
    python benchmarks/encoders.py --clips 8 --only cnn14

Peers (`benchmarks/peers.py`) take one clip at a time: `librosa.load`, their own front end, the network, on as many
threads as there are cores. Soundmark is `embeddings.embed` with an empty cache, on as many. Both read the same files
(page cache warm) and the same weights: the published ones where they are in SOUNDMARK_WEIGHTS, else random ones, which
take the same time. Repeats alternate.

What cannot be beaten: the arithmetic at the rate at which this machine multiplies matrices, and decoding alone.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import peers
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from soundmark import audio, embeddings, encoders, tasks
from soundmark.encoders import fused, weights
from soundmark.environment import environment
from soundmark.files import write_json
from soundmark.tasks.base import Task

THREADS = os.cpu_count() or 1
SECONDS, RATE = 5, 32000
POOLING = {"cnn14": "scene"}  # the network's own; elsewhere it is the mean
PEERS: Mapping[str, Callable[[Path], tuple[peers.Peer, nn.Module]]] = {
    "mn04": peers.mn04,
    "cnn14": peers.cnn14,
    "audiosep": peers.audiosep_encoder,
}
WORDS = {
    "mn04": "plain PyTorch loop, convolutional spectrogram",
    "cnn14": "panns-inference",
    "audiosep": "plain PyTorch loop of the encoder alone, convolutional spectrogram",
}


def checkpoint(name: str, folder: Path) -> tuple[Path, bool]:
    """The published weights, or a file of random ones; and whether they are the published ones."""
    found = weights.located(name)
    if found:
        return found, True
    generator = torch.Generator().manual_seed(0)
    blank = {
        "cnn14": lambda: peers.cnn14_network().state_dict(),  # with the fixed kernels of its front end
        "audiosep": lambda: encoders.audiosep.blank().to_empty(device="cpu").state_dict(),
    }
    if name not in blank:
        sys.exit(f"{weights.CHECKPOINTS[name].file} is not in SOUNDMARK_WEIGHTS: `soundmark weights get {name}`")
    state = {key: drawn(key, value, generator) for key, value in blank[name]().items()}
    path = folder / weights.CHECKPOINTS[name].file
    torch.save({"model": state} if name == "cnn14" else {"state_dict": state}, path)
    return path, False


def drawn(key: str, value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random tensor that keeps the size of what passes through it."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros_like(value)
    if "stft" in key or "melW" in key:
        return value
    noise = torch.randn(value.shape, generator=generator)
    if key.endswith("running_var"):
        return 1.0 + 0.1 * noise.abs()
    if value.dim() == 1:
        return float(key.endswith("weight")) + 0.1 * noise
    return noise * (2.0 / value[0].numel()) ** 0.5


def by_soundmark(task: Task, encoder: encoders.Encoder, pooling: str) -> np.ndarray:
    """One call, with an empty cache that is written as it always is."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOUNDMARK_CACHE"] = folder
        return embeddings.embed(task, encoder, pooling, workers=THREADS, progress=False).vectors


def by_peer(task: Task, peer: peers.Peer) -> np.ndarray:
    """The loop people write."""
    torch.set_num_threads(THREADS)
    return np.stack([peer(task.path(clip)) for clip in task.clips])


def decode(task: Task) -> None:
    """Decoding and resampling alone, on every core."""
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(lambda clip: audio.read(task.path(clip), RATE) is None, task.clips):
            pass


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def gemm_rate(dtype: torch.dtype) -> float:
    """Operations a second of the fastest matrix product of 1024 x 1024 there is here, on all threads."""
    torch.set_num_threads(THREADS)
    left, right = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    product = fused.Convolution(right[:, :, None, None], torch.zeros(1024), (1, 1024, 1024, 1), dtype=dtype)
    maps = left[None, :, None].permute(0, 3, 1, 2)
    fused.pack(product)
    with torch.inference_mode():
        best = min(
            seconds(work) for work in (lambda: left @ right.T, lambda: product(maps)) for _ in range(20)
        )  # the first of each is slow, the best is not
    return 2 * 1024**3 / best


def operations(run: Callable[[torch.Tensor], object]) -> float:
    """Floating-point operations of convolutions and matrix products for a clip of 5 s."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(torch.zeros(1, SECONDS * RATE))
    return float(counter.get_total_flops())


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest relative L2 distance of a clip's vectors."""
    return float((np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)).max())


def cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Smallest cosine of a clip's vectors."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(1) / lengths).min())


def measure(name: str, task: Task, repeats: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """One network: peer, float32 and bf16 in turns, and what they make of each other."""
    with tempfile.TemporaryDirectory() as folder:
        path, published = checkpoint(name, Path(folder))
        peer, network = PEERS[name](path)
        pooling = POOLING.get(name, "mean")
        ours = {
            "float32": encoders.load(f"{name}?weights={path}"),
            "bf16": encoders.load(f"{name}?precision=bf16&weights={path}"),
        }
        vectors = {kind: by_soundmark(task, encoder, pooling) for kind, encoder in ours.items()}
        theirs = by_peer(task, peer)  # and page cache and imports are warm
        times: dict[str, list[float]] = {"peer": [], "float32": [], "bf16": [], "decoding": []}
        for _ in range(repeats):
            times["peer"].append(seconds(lambda: by_peer(task, peer)))
            for kind, encoder in ours.items():
                times[kind].append(seconds(lambda encoder=encoder: by_soundmark(task, encoder, pooling)))
            times["decoding"].append(seconds(lambda: decode(task)))
        # As for a graph: in operators that the counter knows.
        with mock.patch("torch.compiler.is_exporting", return_value=True):
            needed = operations(copy.deepcopy(ours["float32"]))
        per_clip = {key: 1e3 * statistics.median(values) / len(task.clips) for key, values in times.items()}
        return {
            "name": name,
            "peer": WORDS[name],
            "weights": "published" if published else "random",
            "pooling": pooling,
            "seconds": {key: [round(value, 3) for value in values] for key, values in times.items()},
            "ms_per_clip": {key: round(value, 2) for key, value in per_clip.items()},
            "times_faster": {kind: round(per_clip["peer"] / per_clip[kind], 2) for kind in ours},
            "gflop_per_clip": {"peer": round(operations(network) / 1e9, 2), "soundmark": round(needed / 1e9, 2)},
            "floor_ms": {kind: round(1e3 * needed / rates[kind], 2) for kind in ours},
            "relative_l2_to_peer": distance(vectors["float32"], theirs),
            "bf16_cosine": cosine(vectors["bf16"], vectors["float32"]),
        }


def row(found: Mapping[str, Any], kind: str) -> dict[str, str]:
    """A line of the table."""
    spent, least = found["ms_per_clip"], found["floor_ms"][kind]
    return {
        "encoder": f"`{found['name']}`" if kind == "float32" else f"`{found['name']}?precision={kind}`",
        "peer": f"{spent['peer']:.1f} ms",
        "Soundmark": f"{spent[kind]:.1f} ms",
        "faster": f"**{found['times_faster'][kind]:.1f} times**",
        "arithmetic alone": f"{least:.1f} ms",
        "decoding alone": f"{spent['decoding']:.1f} ms",
        "agreement": f"relative L2 {found['relative_l2_to_peer']:.0e}"
        if kind == "float32"
        else f"cosine {found['bf16_cosine']:.5f}",
    }


def notes(measured: list[dict[str, Any]], clips: int, rates: Mapping[str, float]) -> list[str]:
    """What the table does not say by itself."""
    return [
        f"Per clip of {SECONDS} s, files to one vector, {clips} clips of ESC-50 on {THREADS} threads; medians of "
        "alternating repeats, page cache warm, Soundmark's cache empty.",
        "Peers, one clip at a time with `librosa.load`: "
        + "; ".join(f"{found['name']}: {found['peer']} ({found['weights']} weights)" for found in measured)
        + ".",
        "Arithmetic alone: "
        + ", ".join(f"{found['name']} {found['gflop_per_clip']['soundmark']:g} GFLOP" for found in measured)
        + f" at {rates['float32'] / 1e9:.0f} GFLOP/s in float32 and {rates['bf16'] / 1e9:.0f} in bf16, the rate of a "
        "product of large matrices here. The networks as published take "
        + ", ".join(f"{found['gflop_per_clip']['peer']:g}" for found in measured)
        + " GFLOP.",
        "Agreement is the worst clip's: of float32 with the peer, which decodes and resamples by other code, and of "
        "bf16 with float32.",
    ]


def main() -> None:
    """Measure and write results/benchmarks/encoders.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clips", type=int, default=64)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--only", choices=PEERS, action="append", help="one network; may stand several times")
    options.add_argument("--out", default="results/benchmarks/encoders.json")
    args = options.parse_args()
    whole = tasks.load("esc50")
    spread = np.unique(np.linspace(0, len(whole.clips) - 1, args.clips).astype(int))
    task = replace(whole.subset(spread), rounds=())
    rates = {kind: gemm_rate(dtype) for kind, dtype in fused.DTYPES.items()}
    names = [name for name in args.only or PEERS if name in encoders.ENCODERS]
    measured = []
    for name in names:
        measured.append(measure(name, task, args.repeats, rates))
        print(name, measured[-1]["ms_per_clip"], measured[-1]["times_faster"], flush=True)
    torch.set_num_threads(THREADS)
    rows = [row(found, kind) for found in measured for kind in fused.DTYPES]
    said = [f"--{key} {value}" for key, value, usual in (("clips", args.clips, 64), ("repeats", args.repeats, 3))
            if value != usual]  # fmt: skip
    result = {
        "title": "Pretrained encoders",
        "command": " ".join(["python benchmarks/encoders.py", *said, *(f"--only {name}" for name in args.only or ())]),
        "columns": list(rows[0]) if rows else [],
        "rows": rows,
        "notes": notes(measured, len(task.clips), rates),
        "gemm_gflops": {kind: round(rate / 1e9, 1) for kind, rate in rates.items()},
        "measured": measured,
        "environment": environment(),
    }
    write_json(args.out, result)


if __name__ == "__main__":
    main()
