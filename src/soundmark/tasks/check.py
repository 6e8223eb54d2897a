"""Checking a task: every clip decoded from end to end, and the protocol searched for leaks and copies."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from soundmark.audio.decoders import opened
from soundmark.errors import AudioError
from soundmark.tasks.base import Clip, Task, counted, leaks

SILENT = 1e-4  # -80 dB of full scale
_LISTED = 10


@dataclass(frozen=True)
class Heard:
    """What a clip turned out to be: Hz, channels, seconds, coding, largest magnitude, digest of its mono samples."""

    sample_rate: int
    channels: int
    seconds: float
    format: str
    peak: float
    digest: str


def check(task: Task, *, workers: int | None = None, progress: bool = True) -> dict[str, Any]:
    """Decode every clip, and look at how the protocol divides them.

    Copies are clips of equal sound, found by their decoded samples, so also where one is stored in another format or
    under another name. Copies on both sides of a round count as a fault, as groups do, unless the protocol is an
    official one: then they are told but not held against it.

    Args:
        task: the task.
        workers: threads; as many as there are processors by default.
        progress: show a bar on stderr.

    Returns:
        Plain data: `ok`; `clips`, `classes` (clips of each), `groups`; `seconds` (total, min, median, max); counts of
        `sample_rates`, `channels` and `formats`; `bad` (clip and error), `silent` clips, `copies` (lists of clips),
        `torn_copies` (those with different labels), `straddling_copies` (those on both sides of a round), `leaks`
        (round to groups), `notes`, `faults` (why it is not ok, in words).
    """
    heard, bad = _hear_all(task, workers, progress)
    seconds = [one.seconds for one in heard.values()]
    copies = _copies(heard)
    straddling = [clips for clips in copies if _straddles(task, clips)]
    found = {part.name: sorted(leaks(task, part, any_label=not task.official)) for part in task.rounds}
    found = {name: groups for name, groups in found.items() if groups}
    faults = []
    if bad:
        faults.append(f"{counted(len(bad), 'clip')} cannot be read")
    if found and not task.official:
        faults.append(f"{counted(len(set().union(*found.values())), 'group')} on both sides of a round")
    if straddling and not task.official:
        faults.append(f"{counted(len(straddling), 'recording')} with copies on both sides of a round")
    return {
        "task": task.full_name,
        "title": task.title,
        "root": str(task.root),
        "ok": not faults,
        "faults": faults,
        "protocol": task.protocol,
        "rounds": {part.name: {"train": len(part.train), "test": len(part.test)} for part in task.rounds},
        "clips": len(task.clips),
        "groups": len({clip.group for clip in task.clips}),
        "classes": {name: sum(name in clip.labels for clip in task.clips) for name in task.classes},
        "seconds": {
            "total": round(sum(seconds), 3),
            "min": round(min(seconds, default=0.0), 3),
            "median": round(median(seconds or [0.0]), 3),
            "max": round(max(seconds, default=0.0), 3),
        },
        "sample_rates": _counts(str(one.sample_rate) for one in heard.values()),
        "channels": _counts(str(one.channels) for one in heard.values()),
        "formats": _counts(one.format for one in heard.values()),
        "bad": [{"clip": clip.key, "error": error} for clip, error in bad.items()],
        "silent": [clip.key for clip, one in heard.items() if one.peak < SILENT],
        "copies": [[clip.key for clip in clips] for clips in copies],
        "torn_copies": [[clip.key for clip in clips] for clips in copies if len({clip.labels for clip in clips}) > 1],
        "straddling_copies": [[clip.key for clip in clips] for clips in straddling],
        "leaks": found,
        "notes": list(task.notes),
    }


def lines(report: Mapping[str, Any]) -> list[str]:
    """The report in words, for the terminal."""
    seconds, counts = report["seconds"], report["classes"].values()
    spread = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    lengths = f"{seconds['min']:g} to {seconds['max']:g} s, median {seconds['median']:g} s"
    if seconds["min"] == seconds["max"]:
        lengths = f"{seconds['min']:g} s each"
    text = [
        f"{report['task']}: {report['title']}",
        f"  folder     {report['root']}",
        f"  clips      {report['clips']} in {len(counts)} classes ({spread} each), {report['groups']} groups",
        f"  duration   {_clock(seconds['total'])} in all; {lengths}",
        f"  audio      {_listed_counts(report['sample_rates'], ' Hz')}; {_listed_counts(report['channels'], ' ch')}; "
        f"{_listed_counts(report['formats'])}",
        f"  protocol   {report['protocol']}",
    ]
    text += [f"  bad        {one['error']}" for one in report["bad"][:_LISTED]]
    if len(report["bad"]) > _LISTED:
        text.append(f"  bad        ... and {len(report['bad']) - _LISTED} more; --json lists them all")
    for key, what in (
        ("silent", "silent"),
        ("torn_copies", "copies with different labels"),
        ("straddling_copies", "copies on both sides of a round"),
    ):
        if report[key]:
            items = [" = ".join(item) if isinstance(item, list) else item for item in report[key]]
            more = ", ..." if len(items) > 3 else ""
            text.append(f"  {what}: {len(items)} ({', '.join(items[:3])}{more})")
    text += [f"  leak       round {name}: {', '.join(groups[:_LISTED])}" for name, groups in report["leaks"].items()]
    text += [f"  note       {note}" for note in report["notes"]]
    text.append("  all well" if report["ok"] else f"  NOT WELL   {'; '.join(report['faults'])}")
    return text


def _hear_all(task: Task, workers: int | None, progress: bool) -> tuple[dict[Clip, Heard], dict[Clip, str]]:
    from tqdm import tqdm

    def hear(clip: Clip) -> Heard | str:
        try:
            return _hear(task, clip)
        except AudioError as error:
            return str(error)

    heard: dict[Clip, Heard] = {}
    bad: dict[Clip, str] = {}
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        results = pool.map(hear, task.clips)
        shown = tqdm(results, "checking", len(task.clips), unit=" clips", disable=None if progress else True)
        for clip, result in zip(task.clips, shown, strict=True):
            if isinstance(result, str):
                bad[clip] = result
            else:
                heard[clip] = result
    return heard, bad


def _hear(task: Task, clip: Clip) -> Heard:
    """Decode one clip in constant memory."""
    digest, samples, peak = hashlib.blake2b(digest_size=16), 0, 0.0
    with opened(task.path(clip), clip.start, clip.end) as stream:
        for block in stream.blocks:
            digest.update(np.ascontiguousarray(block).data)
            samples += len(block)
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
        if not samples:
            raise AudioError(f"{stream.name} holds no samples: replace it or leave it out")
        digest.update(str(stream.sample_rate).encode())
        seconds = samples / stream.sample_rate
        return Heard(stream.sample_rate, stream.channels, seconds, stream.format, peak, digest.hexdigest())


def _copies(heard: Mapping[Clip, Heard]) -> list[list[Clip]]:
    """Clips of equal sound. Silence is left out: it equals itself without being a copy of anything."""
    by_digest: dict[str, list[Clip]] = defaultdict(list)
    for clip, one in heard.items():
        if one.peak >= SILENT:
            by_digest[one.digest].append(clip)
    return [clips for clips in by_digest.values() if len(clips) > 1]


def _straddles(task: Task, clips: Sequence[Clip]) -> bool:
    wanted = set(clips)
    positions = {i for i, clip in enumerate(task.clips) if clip in wanted}
    return any(positions & set(part.train) and positions & set(part.test) for part in task.rounds)


def _counts(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _listed_counts(counts: Mapping[str, int], unit: str = "") -> str:
    shown = [f"{name}{unit}" if len(counts) == 1 else f"{count} x {name}{unit}" for name, count in counts.items()]
    return ", ".join(shown[:4]) + (", ..." if len(shown) > 4 else "") if shown else "none"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
