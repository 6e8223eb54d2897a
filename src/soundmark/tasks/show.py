"""Looking at a task: figures of its class counts, durations, and a few clips of every class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from soundmark import audio
from soundmark.errors import AudioError
from soundmark.files import atomic_path
from soundmark.tasks.base import Clip, Task

INK, MUTED, LINE, BAR, PAPER = "#1b2330", "#667080", "#d5dae2", "#0b66b8", "#ffffff"
CLASSES_PER_PAGE = 10
MOST_SECONDS = 10.0
DECIBELS = 80.0
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "svg.fonttype": "path",
    "svg.hashsalt": "soundmark",
}


def durations(task: Task, workers: int | None = None) -> dict[Clip, float]:
    """Seconds of every clip, by the files' headers. Clips that cannot be opened are left out (`check` lists them)."""

    def seconds(clip: Clip) -> float | None:
        try:
            whole = audio.info(task.path(clip)).duration
        except AudioError:
            return None
        length = min(clip.end or whole, whole) - clip.start
        return length if length > 0 else None

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        found = zip(task.clips, pool.map(seconds, task.clips), strict=True)
        return {clip: value for clip, value in found if value is not None}


def table(task: Task, seconds: dict[Clip, float]) -> list[str]:
    """One line per class for the terminal: clips, groups, seconds in all, the shortest and longest clip."""
    width = max(5, *map(len, task.classes))
    lines = [f"{'class':<{width}}  clips  groups  minutes  shortest  longest"]
    for name in (*task.classes, "all"):
        clips = [clip for clip in task.clips if name == "all" or name in clip.labels]
        lengths = [seconds[clip] for clip in clips if clip in seconds] or [0.0]
        groups = len({clip.group for clip in clips})
        lines.append(
            f"{name:<{width}}  {len(clips):>5}  {groups:>6}  {sum(lengths) / 60:>7.1f}  {min(lengths):>6.2f} s  "
            f"{max(lengths):>5.2f} s"
        )
    return lines


def draw(
    task: Task, folder: str | os.PathLike[str], seconds: dict[Clip, float], *, clips: int = 3, progress: bool = True
) -> list[Path]:
    """Draw every figure as PNG and SVG.

    Args:
        task: the task.
        folder: where the figures go.
        seconds: of every clip, from `durations`.
        clips: how many of each class are drawn as waveform and log-mel spectrogram.
        progress: show a bar on stderr.

    Returns:
        The files written: `counts`, `durations` and `clips-1` ..., each with both endings.

    Raises:
        ImportError: without matplotlib, which the extra `train` brings.
    """
    from tqdm import tqdm

    pages = [task.classes[i : i + CLASSES_PER_PAGE] for i in range(0, len(task.classes), CLASSES_PER_PAGE)]
    written = []
    with _style():
        figures: list[tuple[str, Any]] = [
            ("counts", lambda: _counts(task)),
            ("durations", lambda: _durations(task, seconds)),
        ]
        figures += [(f"clips-{n}", lambda page=page: _gallery(task, page, clips)) for n, page in enumerate(pages, 1)]
        for name, make in tqdm(figures, "drawing", unit=" figures", disable=None if progress else True):
            figure = make()
            for suffix in (".png", ".svg"):
                path = Path(folder) / f"{name}{suffix}"
                with atomic_path(path) as temporary:
                    metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
                    figure.savefig(temporary, dpi=160, metadata=metadata)
                written.append(path)
    return written


def log_mel(waveform: np.ndarray, rate: int, bands: int = 96) -> np.ndarray:
    """A log-mel spectrogram to look at: windows of about 40 ms, HTK mel bands from 30 Hz to half the rate.

    Args:
        waveform: (samples,).
        rate: Hz.
        bands: how many.

    Returns:
        (bands, frames) dB, the loudest being 0 and everything below -80 set to -80.
    """
    size = 2 ** max(6, round(np.log2(0.04 * rate)))
    hop = max(size // 4, len(waveform) // 1200)
    padded = np.pad(waveform.astype(np.float64), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(waveform) : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2
    edges = 700 * (np.exp(np.linspace(_mel(30.0), _mel(rate / 2), bands + 2)) - 1)
    bins = np.fft.rfftfreq(size, 1 / rate)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    weights = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    # Narrow low bands can fall between two bins: let each take the nearest.
    weights[np.arange(bands), np.abs(bins - centre).argmin(axis=1)] += 1e-3
    mel = power @ (weights / weights.sum(axis=1, keepdims=True)).T
    decibels = 10 * np.log10(np.maximum(mel / max(float(mel.max()), 1e-20), 10 ** (-DECIBELS / 10)))
    return np.asarray(decibels.T)


def _mel(frequency: float) -> float:
    """Mels, up to a factor that does not matter here."""
    return float(np.log1p(frequency / 700))


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # class names in any script
        yield


def _figure(width: float, height: float, *, constrained: bool = True) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15) if constrained else None
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _name(task: Task) -> str:
    """What to head a figure with; a task that is a path goes by its last part."""
    return _short(task.full_name.rpartition("/")[2], 40)


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _counts(task: Task) -> Any:
    """Clips of every class, as bars, in the classes' order."""
    counts = [sum(name in clip.labels for clip in task.clips) for name in task.classes]
    figure = _figure(7.0, 1.0 + 0.24 * len(counts))
    axes = figure.add_subplot()
    bars = axes.barh([_short(name) for name in task.classes], counts, color=BAR, height=0.68)
    axes.bar_label(bars, padding=4, color=MUTED)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_xlim(0, max(counts) * 1.08)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_title(f"{_name(task)}: {len(task.clips)} clips, {len(counts)} classes")
    return figure


def _durations(task: Task, seconds: dict[Clip, float]) -> Any:
    """How long the clips are, as a histogram."""
    values = np.array(list(seconds.values()) or [0.0])
    figure = _figure(7.0, 3.2)
    axes = figure.add_subplot()
    low, high = float(values.min()), float(values.max())
    if high - low < 0.02 * max(high, 1e-3):  # all alike: one bar of a width that can be seen
        centre = (low + high) / 2
        edges = np.linspace(0.5 * centre, 1.5 * centre, 22) if centre else np.linspace(0, 1, 22)
    elif high > 20 * max(low, 1e-3):
        edges = np.geomspace(max(low, 1e-3), high, 31)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.xaxis.minorticks_off()
    else:
        edges = np.linspace(low, high, 31)
    counts, *_ = axes.hist(values, edges, color=BAR, rwidth=0.92)
    if counts.max() > 50 * counts[counts > 0].min():  # else the few that differ could not be seen
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.yaxis.minorticks_off()
    else:
        axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y")
    axes.set_xlabel(f"seconds: {low:.3g} at least, {np.median(values):.3g} at the median, {high:.3g} at most")
    axes.set_ylabel("clips")
    axes.set_title(f"{_name(task)}: {values.sum() / 60:.1f} minutes of sound")
    return figure


def _gallery(task: Task, classes: Sequence[str], count: int) -> Any:
    """A row per class, a column per clip: its waveform above its log-mel spectrogram. All measures are inches."""
    left, right, top, bottom, gap = 0.75, 0.2, 0.75, 0.1, 0.12
    wide, wave_high, mel_high, row_high = 2.75, 0.3, 0.85, 1.52
    width, height = left + count * wide + (count - 1) * gap + right, top + len(classes) * row_high + bottom
    figure = _figure(width, height, constrained=False)
    for row, name in enumerate(classes):
        for column, clip in enumerate(_spread([clip for clip in task.clips if name in clip.labels], count)):
            x, y = left + column * (wide + gap), height - top - row * row_high - wave_high
            wave = figure.add_axes((x / width, y / height, wide / width, wave_high / height))
            mel = figure.add_axes((x / width, (y - 0.04 - mel_high) / height, wide / width, mel_high / height))
            _draw_clip(task, clip, wave, mel, with_axis=column == 0)
            wave.set_title(_short(Path(clip.path).name, 34), fontsize=7, fontweight="normal", color=MUTED, pad=3)
            if column == 0:
                middle = (y - 0.04 - mel_high / 2) / height
                figure.text(0.2 / width, middle, _short(name, 18), rotation=90, ha="center", va="center", weight="bold")
    title = f"{_name(task)}: waveform and log-mel spectrogram"
    figure.text(left / width, 1 - 0.35 / height, title, weight="bold", fontsize=12, va="center")
    return figure


def _draw_clip(task: Task, clip: Clip, wave: Any, mel: Any, with_axis: bool) -> None:
    for axes in (wave, mel):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    end = min(clip.end or np.inf, clip.start + MOST_SECONDS)
    try:
        length = audio.info(task.path(clip)).duration
        waveform, rate = audio.read(task.path(clip), start=clip.start, end=min(end, length))
    except AudioError:
        mel.text(0.5, 0.5, "cannot be read", ha="center", va="center", color=MUTED)
        mel.set_xlim(0, 1)
        return
    low, high = _envelope(waveform)
    peak = max(float(np.abs(waveform).max()), 1e-6)
    wave.fill_between(np.arange(len(low)), low / peak, high / peak, color=BAR, linewidth=0.3)
    wave.set_ylim(-1.05, 1.05)
    wave.set_xlim(0, max(len(low) - 1, 1))
    seconds = len(waveform) / rate
    image = log_mel(waveform, rate)
    mel.imshow(
        image, aspect="auto", origin="lower", cmap="magma", vmin=-DECIBELS, vmax=0, extent=(0, seconds, 0, len(image)),
        interpolation="nearest",
    )  # fmt: skip
    mel.set_xticks([seconds])
    mel.set_xticklabels([f"{seconds:.2g} s"], fontsize=7, ha="right")
    mel.tick_params(axis="x", pad=1)
    if with_axis:
        span = _mel(rate / 2) - _mel(30.0)
        marks = [mark for mark in (200, 1000, 5000) if mark < 0.45 * rate]
        mel.set_yticks([(_mel(mark) - _mel(30.0)) / span * len(image) for mark in marks])
        mel.set_yticklabels([f"{mark / 1000:g}k" if mark >= 1000 else str(mark) for mark in marks], fontsize=7)


def _spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Up to `count` clips from all over the list, so from several folds and recordings."""
    count = min(count, len(clips))
    return [clips[round(i * (len(clips) - 1) / max(count - 1, 1))] for i in range(count)]


def _envelope(waveform: np.ndarray, points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest sample in each of at most `points` stretches."""
    starts = np.unique(np.linspace(0, len(waveform), points, endpoint=False).astype(int))
    return np.minimum.reduceat(waveform, starts), np.maximum.reduceat(waveform, starts)
