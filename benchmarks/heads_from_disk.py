"""Heads trained from a folder of partitions that does not fit in memory: peak memory, time, and agreement.

    python benchmarks/heads_from_disk.py                        # 289,000 vectors of 384 numbers, as of NSynth's notes
    python benchmarks/heads_from_disk.py --clips 3000 --epochs 1

The vectors are synthesised: normal around a centre for each of 11 classes. Each head is trained and tested in a fresh
process, once from disk and once in memory (SOUNDMARK_VECTORS_MB), through the code that `soundmark train` goes through,
and the probabilities of 10,000 clips are compared. Peak memory is the process's own, from its start to the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from memory import peak_mib

from soundmark import encoders, parted, partitions
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.environment import environment
from soundmark.files import write_bytes, write_json
from soundmark.learners import Heard, Probe
from soundmark.tasks.base import Clip, Task

CLASSES, TEST = 11, 10_000
HEADS = ("linear", "three-layer")
LIMIT_MIB = 2048


def task_of(clips: int) -> Task:
    """A task of clips without recordings."""
    names = tuple(f"class-{number:02d}" for number in range(CLASSES))
    rows = tuple(Clip(f"{number:06d}.wav", (names[number % CLASSES],), group=str(number)) for number in range(clips))
    return Task("synthesised", Path("nowhere"), rows, names, protocol="none", rounds=())


def encoder_of(dim: int) -> Encoder:
    """An encoder of as many components, which hears nothing here."""
    return encoders.load(f"logmel?bands={dim}&window=8192")


def fill(folder: Path, task: Task, dim: int) -> None:
    """Write partitions as an engine does, of synthesised vectors."""
    order = partitions.ordered(task, encoder_of(dim), "mean", folder)
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, dim))
    for job in order.jobs:
        targets = [int(clip.label.rpartition("-")[2]) for clip in job.clips]
        vectors = centres[targets] + 6 * random.normal(size=(len(targets), dim))
        found = dict(zip(job.clips, vectors.astype(np.float32), strict=True))
        made = partitions.packed(order, job, found, {})
        write_bytes(parted.part_path(folder, job.number), made.content)


def once(folder: Path, clips: int, dim: int, head: str) -> dict[str, object]:
    """Train and test one head in this process."""
    started = time.perf_counter()
    task = task_of(clips)
    probe = Probe("synthesised", "mean", head, Heard(encoder_of(dim), Pooling("mean"), folder=folder))
    probe.prepare(task, progress=False)
    read = time.perf_counter()
    test = min(TEST, clips // 10)
    probe.fit(task.subset(range(clips - test)), seed=0)
    fitted = time.perf_counter()
    said = probe.predict_proba(task.subset(range(clips - test, clips)))
    np.save(folder.parent / "said.npy", said)
    right = said.argmax(axis=1) == np.asarray(task.targets())[clips - test :]
    return {
        "peak_mib": round(peak_mib(), 1),
        "from_disk": not isinstance(probe.heard.vectors, np.ndarray),
        "seconds": {"read": round(read - started, 2), "fit": round(fitted - read, 2)},
        "accuracy": round(float(right.mean()), 4),
    }


def main() -> None:
    """Measure and write results/benchmarks/heads_from_disk.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clips", type=int, default=289_000)
    options.add_argument("--dim", type=int, default=384)
    options.add_argument("--epochs", type=int, default=1, help="memory does not depend on it, time does")
    options.add_argument("--only", nargs=2, metavar=("FOLDER", "HEAD"), help=argparse.SUPPRESS)
    options.add_argument("--out", default="results/benchmarks/heads_from_disk.json")
    args = options.parse_args()
    if args.only:
        print(json.dumps(once(Path(args.only[0]), args.clips, args.dim, args.only[1])))
        return
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "vectors"
        fill(folder, task_of(args.clips), args.dim)
        for head in HEADS:
            said = {}
            for where, megabytes in (("disk", "0"), ("memory", "1e6")):
                words = [sys.executable, __file__, "--clips", str(args.clips), "--dim", str(args.dim)]
                words += ["--only", str(folder), f"{head}?epochs={args.epochs}"]
                done = subprocess.run(
                    words, check=True, capture_output=True, text=True, env=os.environ | {parted.LIMIT: megabytes}
                )
                found[f"{head}, {where}"] = json.loads(done.stdout)
                said[where] = np.load(Path(place) / "said.npy")
                print(f"{head} from {where}: {found[f'{head}, {where}']}", flush=True)
            apart = float(np.abs(said["disk"] - said["memory"]).max())
            found[f"{head}, disk"]["most_apart_from_memory"] = apart
    rest = f" --clips {args.clips} --dim {args.dim}" if (args.clips, args.dim) != (289_000, 384) else ""
    rest += f" --epochs {args.epochs}" if args.epochs != 1 else ""
    size = 4 * args.clips * args.dim / 2**20
    write_json(
        args.out,
        {
            "title": f"Heads trained on {args.clips:,} vectors of {args.dim} numbers",
            "command": f"python benchmarks/heads_from_disk.py{rest}",
            "columns": ["head, vectors in", "peak memory", "an epoch", "accuracy", "probabilities apart by"],
            "rows": [
                [
                    name,
                    f"{row['peak_mib']:.0f} MiB",
                    f"{row['seconds']['fit'] / args.epochs:.1f} s",  # type: ignore[index]
                    f"{row['accuracy']:.4f}",
                    f"{row['most_apart_from_memory']:.1e}" if "most_apart_from_memory" in row else "",
                ]
                for name, row in found.items()
            ],
            "notes": [
                f"The vectors alone are {size:.0f} MiB. The whole process is measured, PyTorch and the table of clips "
                "in it; batches of 8."
            ],
            "measured": found,
            "environment": environment(),
        },
    )
    over = [name for name, row in found.items() if "disk" in name and float(str(row["peak_mib"])) >= LIMIT_MIB]
    if over:
        raise SystemExit(f"more than {LIMIT_MIB} MiB: {', '.join(over)}")


if __name__ == "__main__":
    main()
