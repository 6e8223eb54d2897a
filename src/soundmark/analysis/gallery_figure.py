"""The gallery as a figure and as a page: a row per window and hop, a column per front end, one scale for all."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from soundmark import __version__
from soundmark.analysis import gallery_scores
from soundmark.files import write_bytes, write_text
from soundmark.report import page as pages

if TYPE_CHECKING:
    from soundmark.analysis.gallery import Heard, View

DPI = 150
COLOURS = "magma"
DECIBELS = 80.0  # from the loudest of a picture down to black
# Inches: of the words at the left, a picture, the room for its axis, its words below, and the strip at the top.
_SIDE, _WIDE, _HIGH, _AXIS, _WORDS, _STRIP, _TOP, _FOOT, _BAR = 1.75, 3.05, 1.35, 0.58, 0.75, 0.42, 1.0, 0.62, 0.85
_TICKS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
_APART = 0.09  # of the axis, between two marks that can both be read
_LINEAR = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)  # Hz from tick to tick


def draw(heard: Heard, views: Sequence[Sequence[View]], folder: Path) -> bytes:
    """Write `gallery.png` and `gallery.svg`.

    Args:
        heard: the recording.
        views: a row per size, a column per front end.
        folder: where the files go.

    Returns:
        The content of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from soundmark.report.drawing import INK, MUTED, shown, styled

    count = len(views[0])
    width = _SIDE + count * (_AXIS + _WIDE) + _BAR
    row = _HIGH + _WORDS
    height = _TOP + _STRIP + 0.4 + len(views) * row + _FOOT
    with styled():
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)

        def axes(left: float, top: float, wide: float, high: float) -> Any:
            return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

        def text(left: float, top: float, words: str, **style: Any) -> None:
            figure.text(left / width, 1 - top / height, words, va="top", linespacing=1.45, **style)

        text(0.2, 0.16, shown(heard.name, 90), fontsize=13, fontweight="bold")
        text(0.2, 0.44, about(heard), fontsize=9, color=MUTED)
        _wave(axes(_SIDE + _AXIS, _TOP - 0.25, count * (_AXIS + _WIDE) - _AXIS, _STRIP), heard)
        text(0.2, _TOP - 0.18, "waveform", fontsize=9.5, fontweight="bold")
        text(0.2, _TOP, "framed: shown below", fontsize=8, color=MUTED)
        begin = _TOP + _STRIP + 0.4
        for i, line in enumerate(views):
            top = begin + i * row
            text(0.2, top, f"window {line[0].window}, hop {line[0].hop}", fontsize=9, fontweight="bold")
            text(0.2, top + 0.21, _of_row(line), fontsize=8, color=MUTED)
            for j, view in enumerate(line):
                left = _SIDE + _AXIS + j * (_AXIS + _WIDE)
                place = axes(left, top, _WIDE, _HIGH)
                drawn = _picture(place, view, heard)
                below, worth = _of_view(view)
                text(left, top + _HIGH + 0.2, below, fontsize=8, color=MUTED)
                text(left, top + _HIGH + 0.36, worth, fontsize=8.5, color=INK, fontweight="bold")
                if not i:
                    text(left, top - 0.21, view.title, fontsize=9.5, fontweight="bold")
        bar = axes(width - _BAR + 0.12, begin, 0.12, _HIGH)
        figure.colorbar(drawn, cax=bar).outline.set_visible(False)
        bar.set_yticks([-80, -60, -40, -20, 0])
        bar.tick_params(labelsize=7.5, length=0)
        bar.set_ylabel("dB under the loudest", fontsize=7.5)
        text(0.2, height - _FOOT + 0.14, _scores(views), fontsize=8, color=MUTED)
        return _saved(figure, folder)


def _saved(figure: Any, folder: Path) -> bytes:
    import matplotlib as mpl

    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    with mpl.rc_context({"svg.hashsalt": "gallery"}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    write_bytes(folder / "gallery.png", png.getvalue())
    write_text(folder / "gallery.svg", svg.getvalue())
    return png.getvalue()


def about(heard: Heard) -> str:
    """What is looked at, in a sentence."""
    whole = len(heard.waveform) / heard.rate
    shown = f"seconds {heard.start:.2f} to {heard.end:.2f} of {whole:.2f}" if heard.end - heard.start < whole else ""
    return f"{shown or f'all of its {whole:.2f} seconds'}, at {heard.rate / 1000:g} kHz"


def _wave(ax: Any, heard: Heard) -> None:
    from soundmark.report.drawing import INK, RIGHT

    # A column of the figure holds many samples: its least and its greatest say what is there.
    starts = np.unique(np.linspace(0, len(heard.waveform), 1500, endpoint=False).astype(int))
    low, high = np.minimum.reduceat(heard.waveform, starts), np.maximum.reduceat(heard.waveform, starts)
    peak = max(float(np.abs(heard.waveform).max()), 1e-6)
    ax.fill_between(starts / heard.rate, low / peak, high / peak, color=RIGHT, linewidth=0.3)
    ax.axvspan(heard.start, heard.end, facecolor="none", edgecolor=INK, linewidth=1.0, clip_on=False)
    ax.set_xlim(0, len(heard.waveform) / heard.rate)
    ax.set_ylim(-1.1, 1.1)
    ax.set_yticks([])
    _seconds(ax)
    ax.spines[:].set_visible(False)


def _seconds(ax: Any) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(lambda value, place: f"{value:.3g} s")
    ax.tick_params(labelsize=7.5, pad=2)


def _picture(ax: Any, view: View, heard: Heard) -> Any:
    """The levels, in a picture of which a row is a band; the axis says where in frequency that is."""
    step = view.hop / heard.rate
    levels, bands = view.levels, 1 if view.levels is None else view.levels.shape[1]
    if levels is None:
        levels = np.full((2, 1), np.nan)
    image = ax.imshow(
        levels.T, origin="lower", aspect="auto", cmap=COLOURS, vmin=-DECIBELS, vmax=0, interpolation="antialiased",
        extent=(-step / 2, (len(levels) - 0.5) * step, -0.5, bands - 0.5),
    )  # fmt: skip
    ax.set_xlim(heard.start, max(heard.end, heard.start + step))
    _seconds(ax)
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    if view.centres is None:
        ax.text(0.5, 0.5, _folded(view.problem, 46), transform=ax.transAxes, ha="center", va="center", fontsize=7.5)
        ax.set_xticks([])
        return image
    marks = [mark for mark in _marks(view) if view.centres[0] <= mark <= view.centres[-1]]
    ax.set_yticks(np.interp(marks, view.centres, np.arange(bands)), [hertz(mark) for mark in marks])
    return image


def _marks(view: View) -> Sequence[float]:
    """Frequencies to write at the axis: even ones where bands are even, round ones where they are not."""
    assert view.centres is not None
    if view.title == "linear":
        top = float(view.centres[-1])
        step = next((step for step in _LINEAR if top / step <= 5.5), top / 4)
        return [step * i for i in range(1, int(top / step) + 1)]
    kept: list[float] = []
    places = np.interp(_TICKS, view.centres, np.linspace(0, 1, len(view.centres)))
    last = -1.0
    for mark, place in zip(_TICKS, places, strict=True):
        if place - last >= _APART:
            kept.append(mark)
            last = place
    return kept


def hertz(value: float) -> str:
    """`500 Hz` or `2 kHz`, as an axis has them."""
    return f"{value / 1000:g} kHz" if value >= 1000 else f"{value:g} Hz"


def _of_row(line: Sequence[View]) -> str:
    cost = next((view.costs for view in line if view.costs), None)
    if cost is None:
        return ""
    return (
        f"hears {cost['window_ms']:.1f} ms at once\nevery {cost['hop_ms']:.1f} ms: {cost['frames_per_second']:.0f}/s\n"
        f"bins {cost['bin_hz']:.1f} Hz apart"
    )


def _of_view(view: View) -> tuple[str, str]:
    cost = view.costs
    if not cost:
        return "", ""
    metric = "accuracy" if view.score is None else view.score.metric.replace("_", " ")
    return (
        f"{cost['bands']} bands, {_apart(cost)} apart; {cost['values_per_second']:,} numbers/s",
        f"{cost['ms']:.1f} ms for 5 s; {metric} {gallery_scores.words(view.score)}",
    )


def _apart(cost: Mapping[str, Any]) -> str:
    finest, widest = round(cost["finest_hz"]), round(cost["widest_hz"])
    return f"{finest} Hz" if finest == widest else f"{finest} to {widest} Hz"


def _scores(views: Sequence[Sequence[View]]) -> str:
    said = gallery_scores.about([view.score for line in views for view in line])
    return _folded(said, 170)


def _folded(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def page(heard: Heard, views: Sequence[Sequence[View]], picture: bytes, content: Mapping[str, Any]) -> str:
    """The gallery as one HTML file: the figure, and all its numbers as a table.

    Args:
        heard: the recording.
        views: a row per size, a column per front end.
        picture: the figure as PNG.
        content: of `gallery.json`.
    """
    rows = [
        {
            "encoder": view.encoder,
            "problem": view.problem,
            "cost": view.costs,
            "apart": _apart(view.costs) if view.costs else "",
            "score": gallery_scores.words(view.score),
        }
        for line in views
        for view in line
    ]
    script = pages.source("script.js")
    found: str = pages.template(pages.source("gallery.html.j2", "soundmark.analysis")).render(
        title=heard.name,
        about=about(heard),
        picture=Markup(f"data:image/png;base64,{base64.b64encode(picture).decode()}"),  # noqa: S704 - ours
        rows=rows,
        scores=gallery_scores.about([view.score for line in views for view in line]),
        timed=content["timed"],
        command=content["command"],
        version=__version__,
        style=Markup(pages.source("style.css")),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        script_hash=pages.digest(script),
    )
    return found.strip() + "\n"
