"""One recording seen through several front ends, at several windows and hops: what each shows, costs and is worth.

A longer window tells frequencies apart that a shorter one runs together, and smears in time what that keeps apart; a
smaller hop costs in proportion. Which is right is a question to a measurement: beside every picture stands the accuracy
of a classifier on such a spectrogram, where that was measured (see `soundmark.analysis.gallery_scores`), and nothing
where it was not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soundmark import audio, encoders, files, results
from soundmark.analysis import gallery_figure, gallery_scores
from soundmark.analysis.gallery_scores import Score
from soundmark.encoders.base import Encoder
from soundmark.encoders.spectral import COMMON
from soundmark.errors import AudioError, SpecError, TaskError
from soundmark.frontends import POWER_FLOOR, bin_frequencies
from soundmark.remote import Url
from soundmark.spec import with_settings
from soundmark.tasks.base import Clip, Task

SIZES = ((512, 128), (1024, 256), (1024, 512), (2048, 512), (4096, 1024))
"""Window and hop of every row, in samples."""
FRONT_ENDS = {"linear": "linear?bands=0", "log frequency": "logfreq", "log-mel": "logmel"}
"""By the column's title its encoder; `bands=0` of the first keeps every bin."""
MOST_SECONDS = 10.0  # of a recording that is looked at
TIMED_SECONDS, TIMES = 5.0, 7
_TICK = 1e-4  # seconds
_SHORTEST = 0.05
_BEFORE = 0.25  # of the stretch that is shown lies before the onset
_QUIET = 1e-3  # of the loudest moment's energy, below which nothing is an onset
_MOMENT = 0.02  # seconds whose energy is a moment's


@dataclass(frozen=True)
class View:
    """A recording through one front end.

    Attributes:
        title: of the front end.
        encoder: its name in the grammar, with window and hop.
        window, hop: samples.
        levels: (frames, bands) dB under the loudest, from -80 to 0; None where there is no such front end.
        centres: (bands,) Hz.
        costs: see `costs`; empty where there is no such front end.
        score: what a classifier on it reaches, None where that was not measured.
        problem: why there is no such front end, or "".
    """

    title: str
    encoder: str
    window: int
    hop: int
    levels: NDArray[np.float32] | None = None
    centres: NDArray[np.float64] | None = None
    costs: dict[str, Any] | None = None
    score: Score | None = None
    problem: str = ""


@dataclass(frozen=True)
class Heard:
    """The recording that is looked at.

    Attributes:
        name: for people.
        waveform: (samples,) float32, its first ten seconds at most.
        rate: Hz.
        start, end: seconds of the stretch that is shown.
    """

    name: str
    waveform: NDArray[np.float32]
    rate: int
    start: float
    end: float


def write(
    source: Task | str, folder: Path, *, clip: str = "", seconds: float = 1.0, rate: int = 0,
    sizes: Sequence[tuple[int, int]] = SIZES, scores: str = "", command: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Draw the gallery of a task's clip, or of a recording.

    Args:
        source: a task, or the path of a recording.
        folder: gets `gallery.png`, `gallery.svg`, `gallery.html`, which needs no other file, and `gallery.json`.
        clip: of a task: a clip's name in tables, a file's name, or a class, whose first clip is taken; without, the
            task's first clip that can be read.
        seconds: length of the stretch that is shown, around its strongest onset; 0 shows all of it, up to ten seconds.
        rate: Hz at which the front ends listen; 0 takes the recording's own.
        sizes: window and hop of every row, samples.
        scores: where accuracies stand, see `gallery_scores.read`; without, those that come with the package.
        command: that made it, for the page and the JSON.

    Returns:
        The content of `gallery.json`: `recording`, `task`, `rate`, `seconds`, `shown`, `timed`, `views` (encoder,
        window, hop, costs, score or None, problem), `command`, `environment`.

    Raises:
        AudioError: if the recording cannot be read.
        SpecError: for a clip, rate, length or size that cannot be.
        ResultsError: if `scores` holds none.
        TaskError: if no clip of the task can be read.
    """
    if not (seconds == 0 or _SHORTEST <= seconds <= MOST_SECONDS):
        raise SpecError(f"--seconds should be 0, for all, or from {_SHORTEST:g} to {MOST_SECONDS:g}, not {seconds:g}")
    known = gallery_scores.read(scores)
    heard = listen(source, clip, seconds, rate)
    task = source.full_name if isinstance(source, Task) else ""
    views = [
        [replace(each, score=gallery_scores.find(known, task, each.encoder)) for each in row]
        for row in look(heard, sizes)
    ]
    flat = [each for row in views for each in row]
    content: dict[str, Any] = {
        "command": command,
        "recording": heard.name,
        "task": task,
        "rate": heard.rate,
        "seconds": len(heard.waveform) / heard.rate,
        "shown": [heard.start, heard.end],
        "timed": {"seconds": TIMED_SECONDS, "times": TIMES, "threads": 1},
        "views": [
            {"encoder": each.encoder, "front_end": each.title, "window": each.window, "hop": each.hop,
             "costs": each.costs, "score": each.score and asdict(each.score), "problem": each.problem}
            for each in flat
        ],
        "environment": results.environment(),
    }  # fmt: skip
    picture = gallery_figure.draw(heard, views, folder)
    files.write_text(folder / "gallery.html", gallery_figure.page(heard, views, picture, content))
    files.write_json(folder / "gallery.json", content)
    return content


def listen(source: Task | str, clip: str = "", seconds: float = 1.0, rate: int = 0) -> Heard:
    """The recording, and the stretch of it that is shown. Arguments and errors are those of `write`."""
    if not isinstance(source, Task):
        return _heard(Path(source).name, Path(source), Clip(Path(source).name, ()), seconds, rate)
    chosen = source.clips
    if clip:
        chosen = tuple(each for each in source.clips if clip in (each.key, Path(each.path).name))
        chosen = chosen or tuple(each for each in source.clips if clip in each.labels)
        if not chosen:
            raise SpecError(
                f"there is no clip and no class {clip!r} in {source.full_name}; a clip goes by its file's name, such "
                f"as {source.clips[0].key}, and the classes are {', '.join(source.classes[:60])}"
            )
    error: AudioError | None = None
    for each in chosen:
        try:
            return _heard(f"{each.key} ({', '.join(each.labels)})", source.path(each), each, seconds, rate)
        except AudioError as found:
            if clip:
                raise
            error = error or found
    raise TaskError(f"no clip of {source.full_name} can be read; the first says: {error}")


def _heard(name: str, path: Path | Url, clip: Clip, seconds: float, rate: int) -> Heard:
    about = audio.info(path)
    end = min(clip.start + MOST_SECONDS, about.duration if clip.end is None else clip.end)
    waveform, rate = audio.read(path, rate or about.sample_rate, start=clip.start, end=end)
    start, end = _stretch(waveform, rate, seconds)
    return Heard(name, waveform, rate, start, end)


def _stretch(waveform: NDArray[np.float32], rate: int, seconds: float) -> tuple[float, float]:
    """A stretch with the moment at which the level rises most: what a window does to time is seen at an onset."""
    whole = len(waveform) / rate
    if not 0 < seconds < whole:
        return 0.0, whole
    moment = max(1, round(_MOMENT * rate))
    energy = np.add.reduceat(waveform.astype(np.float64) ** 2, np.arange(0, len(waveform), moment))
    level = np.log(energy + _QUIET * energy.max() + 1e-12)
    onset = int(np.diff(level, prepend=level[0]).argmax()) * moment / rate
    start = min(max(0.0, onset - _BEFORE * seconds), whole - seconds)
    return start, start + seconds


def look(heard: Heard, sizes: Sequence[tuple[int, int]] = SIZES) -> list[list[View]]:
    """The recording through every front end: a row per size, a column per front end, without scores.

    Raises:
        SpecError: for a window or hop out of bounds, or a hop beyond its window.
    """
    rows = []
    for window, hop in sizes:
        if not 16 <= window <= 65_536 or not 1 <= hop <= window:
            raise SpecError(
                f"{window}/{hop} is no size: the window should be 16 to 65536 samples, and the hop from 1 to the window"
            )
        rows.append([_view(heard, title, name, window, hop) for title, name in FRONT_ENDS.items()])
    return rows


def _view(heard: Heard, title: str, name: str, window: int, hop: int) -> View:
    rate = None if heard.rate == COMMON["rate"] else str(heard.rate)
    name = with_settings(name, window=str(window), hop=str(hop), rate=rate)
    try:
        encoder = encoders.load(name)
    except SpecError as error:  # such as mel bands narrower than this window's bins
        return View(title, name, window, hop, problem=str(error))
    waveform = encoder.policy.prepare(heard.waveform, heard.rate)
    with torch.inference_mode():
        levels = encoder.encode(torch.from_numpy(waveform)[None])[0].numpy()
    centres = np.array([float(each.split()[-2]) for each in encoder.feature_names])
    return View(title, name, window, hop, _below_loudest(levels), centres, costs(encoder, centres, heard.waveform))


def _below_loudest(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    loudest = float(levels.max())
    if loudest <= 10 * np.log10(POWER_FLOOR) + 1e-3:  # silence has no loudest to be measured by
        return np.full_like(levels, -gallery_figure.DECIBELS)
    below: NDArray[np.float32] = np.maximum(levels - np.float32(loudest), np.float32(-gallery_figure.DECIBELS))
    return below


def costs(encoder: Encoder, centres: NDArray[np.float64], waveform: NDArray[np.float32]) -> dict[str, Any]:
    """What a spectral front end costs: in time and frequency that it runs together, in numbers, and in milliseconds.

    Args:
        encoder: with `window` and `hop`, as those of `soundmark.encoders.spectral`.
        centres: (bands,) Hz.
        waveform: (samples,) a recording that it is timed on, repeated or cut to five seconds.

    Returns:
        `window_ms`, the time that a frame hears at once; `hop_ms`, from frame to frame; `bin_hz`, between bins of the
        transform; `finest_hz` and `widest_hz`, between the centres of neighbouring bands, but never less than between
        bins; `frames_per_second`; `bands`; `values_per_second`; `ms`, the median time on the
        processor for five seconds, in one thread.
    """
    rate, window, hop = encoder.sample_rate, int(encoder.window), int(encoder.hop)  # type: ignore[arg-type]
    spacing = float(bin_frequencies(rate, window)[1])
    steps = np.maximum(np.diff(centres), spacing) if len(centres) > 1 else np.array([spacing])
    timed = torch.from_numpy(audio.fit(waveform, round(TIMED_SECONDS * rate), fill="loop"))[None]
    return {
        "window_ms": round(1000 * window / rate, 3),
        "hop_ms": round(1000 * hop / rate, 3),
        "bin_hz": round(spacing, 3),
        "finest_hz": round(float(steps.min()), 3),
        "widest_hz": round(float(steps.max()), 3),
        "frames_per_second": round(rate / hop, 3),
        "bands": len(centres),
        "values_per_second": round(len(centres) * rate / hop),
        "ms": round(1000 * median(_seconds(encoder, timed)), 3),
    }


def _seconds(encoder: Encoder, waveforms: torch.Tensor) -> list[float]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            encoder.encode(waveforms)  # the first fills caches
            found = []
            for _ in range(TIMES):
                started = _clock()
                encoder.encode(waveforms)
                found.append(_clock() - started)
    finally:
        torch.set_num_threads(threads)
    return found


def _clock() -> float:
    """This thread's time on the processor, which other programs do not lengthen; where it ticks too coarsely, time."""
    fine = time.get_clock_info("thread_time").resolution < _TICK
    return time.thread_time() if fine else time.perf_counter()


def lines(content: dict[str, Any]) -> list[str]:
    """The gallery's numbers for a terminal, a line per view."""
    width = max(len(each["encoder"]) for each in content["views"])
    found = [f"{'front end':<{width}}  hears    bins at  bands  values/s  for 5 s   accuracy"]
    for each in content["views"]:
        if each["problem"]:
            found.append(f"{each['encoder']:<{width}}  {each['problem']}")
            continue
        cost, score = each["costs"], Score(**each["score"]) if each["score"] else None
        found.append(
            f"{each['encoder']:<{width}}  {cost['window_ms']:>5.1f} ms  {cost['bin_hz']:>4.0f} Hz  {cost['bands']:>5}  "
            f"{cost['values_per_second']:>8}  {cost['ms']:>4.1f} ms  {gallery_scores.words(score)}"
        )
    return found
