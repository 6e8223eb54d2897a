"""A failure drill: workers killed, the command itself killed and run again, one recording in a hundred spoilt.

    python benchmarks/drill.py                              # 1000 clips of the toy task; some minutes
    python benchmarks/drill.py --clips 100 --part-clips 10  # a look at whether it works

First the spoilt collection is embedded in peace by the local engine: that is what must come out. Then:

    worker    on Ray; every worker is killed once, when some partitions are there
    driver    on Ray; the command is killed (SIGKILL, with its workers and servers) and run again
    local     the local engine's command is killed and run again

What is there in the end must be the same files, byte for byte; every clip has one row; the spoilt ones are listed. The
script ends with 1 where that is not so. It looks for processes in /proc, so it runs on Linux only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cost import family

from soundmark import parted, tasks
from soundmark.environment import environment
from soundmark.files import write_json
from soundmark.tasks.base import Task

ENCODER = "logmel?rate=16000&bands=64"
PATIENCE = 1200.0  # seconds that a command may take


def spoilt(clips: int, folder: Path, every: int = 100) -> tuple[Path, list[str]]:
    """Recordings in a folder per class, of which one in `every` is empty, text, or cut off in its header."""
    task = tasks.load(f"toy?clips={-(-clips // 10)}")
    bad = []
    for number, clip in enumerate(task.clips[:clips]):
        target = folder / clip.label / Path(clip.path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = Path(task.path(clip)).read_bytes()
        if number % every == every // 2:
            content = (b"", b"no sound at all", content[:20])[len(bad) % 3]
            bad.append(target.relative_to(folder).as_posix())
        target.write_bytes(content)
    return folder, sorted(bad)


class Command:
    """One `soundmark embed` into a folder."""

    def __init__(self, args: argparse.Namespace, source: Path, out: Path, engine: str) -> None:
        self.out = out
        self.words = [sys.executable, "-m", "soundmark", "embed", str(source), "--encoder", ENCODER, "--pooling"]
        self.words += ["mean+std", "--part-clips", str(args.part_clips), "--workers", str(args.workers)]
        self.words += ["--engine", engine, "-o", f"{out}/"]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self.words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, process: subprocess.Popen[str] | None = None) -> str:
        """Wait for the end, which must be a good one; what it said on stderr."""
        process = process or self.start()
        _, said = process.communicate(timeout=PATIENCE)
        if process.returncode:
            raise SystemExit(f"{' '.join(self.words)} ended with {process.returncode}:\n{said}")
        return said

    def until(self, process: subprocess.Popen[str], count: int) -> int:
        """Wait until that many partitions are there, or the command has ended; how many there are."""
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if (there := len(list(self.out.glob("part-*.parquet")))) >= count:
                return there
            time.sleep(0.01)
        raise SystemExit(f"the command ended before {count} partitions were there: give it more --clips")


def contents(folder: Path) -> dict[str, bytes]:
    """Every partition's bytes."""
    return {path.name: path.read_bytes() for path in parted.parts(folder)}


def kill(pids: list[int]) -> None:
    """End processes that this script has started, without a warning."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_workers(command: Command, parts: int) -> tuple[str, dict[str, object]]:
    """Kill every worker once."""
    process = command.start()
    there = command.until(process, max(1, parts // 4))
    killed = [pid for pid in family(process.pid) if is_worker(pid)]
    kill(killed)
    return command.finish(process), {"partitions_then": there, "workers_killed": len(killed)}


def is_worker(pid: int) -> bool:
    """Whether a process encodes for Ray."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return words.startswith(b"ray::") and b"Worker" in words


def kill_command(command: Command, parts: int) -> tuple[str, dict[str, object]]:
    """Kill the command with all it has started, and run it again."""
    process = command.start()
    there = command.until(process, max(1, parts // 4))
    kill(family(process.pid))
    process.communicate()
    kept = contents(command.out)
    times = {name: (command.out / name).stat().st_mtime_ns for name in kept}
    said = command.finish()
    again = [name for name, when in times.items() if (command.out / name).stat().st_mtime_ns != when]
    return said, {"partitions_then": there, "partitions_made_twice": len(again)}


def judged(expected: Path, command: Command, task: Task, bad: list[str], said: str) -> dict[str, object]:
    """What is there in the end, against what should be."""
    rows = [key for table in parted.tables(command.out, ["clip"]) for key in table["clip"].to_pylist()]
    keys = [clip.key for clip in task.clips]
    listed = sorted(parted.errors(command.out))
    return {
        "clips": len(keys),
        "lost": len(set(keys) - set(rows)),
        "twice": len(rows) - len(set(rows)),
        "spoilt": len(bad),
        "spoilt_listed": len(set(listed) & set(bad)),
        "others_listed": len(set(listed) - set(bad)),
        "said_on_stderr": sum(f"no vector of {key}" in said for key in bad),
        "left_half_written": len([path for path in command.out.iterdir() if path.name.startswith(".part-")]),
        "same_bytes": contents(command.out) == contents(expected),
    }


def passed(row: dict[str, object]) -> bool:
    """Whether nothing was lost, nothing is there twice, and exactly the spoilt ones are listed."""
    nothing = ("lost", "twice", "others_listed", "partitions_made_twice")
    all_bad = row["spoilt"] == row["spoilt_listed"] == row["said_on_stderr"]
    return all_bad and row["same_bytes"] is True and not any(row.get(key) for key in nothing)


def main() -> None:
    """Drill and write results/benchmarks/drill.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clips", type=int, default=1000)
    options.add_argument("--part-clips", type=int, default=20)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--out", default="results/benchmarks/drill.json")
    args = options.parse_args()
    drills: dict[str, tuple[str, Callable[[Command, int], tuple[str, dict[str, object]]]]] = {
        "worker": ("ray", kill_workers),
        "driver": ("ray", kill_command),
        "local": ("local", kill_command),
    }
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as place:
        source, bad = spoilt(args.clips, Path(place) / "sounds")
        task = tasks.load(str(source))
        expected = Command(args, source, Path(place) / "expected", "local")
        expected.finish()
        parts = len(parted.parts(expected.out))
        for name, (engine, drill) in drills.items():
            command = Command(args, source, Path(place) / name, engine)
            started = time.perf_counter()
            said, about = drill(command, parts)
            row = about | judged(expected.out, command, task, bad, said)
            row |= {"passed": passed(row), "seconds": round(time.perf_counter() - started, 1)}
            found[name] = row
            print(f"{name:>6}: {'passed' if row['passed'] else 'FAILED'}  {row}", flush=True)
            shutil.rmtree(command.out)
    words = {"worker": "every worker killed, on Ray", "driver": "command killed, on Ray", "local": "command killed"}
    default = vars(options.parse_args([])) | {"out": args.out} == vars(args)
    rest = "" if default else f" --clips {args.clips} --part-clips {args.part_clips} --workers {args.workers}"
    columns = ["drill", "clips", "lost", "twice", "spoilt", "listed", "same bytes as in peace"]
    write_json(
        args.out,
        {
            "title": "A failure drill: what is there after a kill",
            "command": f"python benchmarks/drill.py{rest}",
            "columns": columns,
            "rows": [
                [
                    words[name],
                    *(str(row[key]) for key in ("clips", "lost", "twice", "spoilt", "spoilt_listed")),
                    "yes" if row["same_bytes"] else "no",
                ]
                for name, row in found.items()
            ],
            "notes": [f"{parts} partitions of {args.part_clips} clips; killed when a quarter of them were there."],
            "drills": found,
            "environment": environment(),
        },
    )
    if not all(row["passed"] for row in found.values()):
        raise SystemExit("a drill failed")


if __name__ == "__main__":
    main()
