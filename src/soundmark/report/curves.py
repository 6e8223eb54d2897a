"""The figures of how a network was trained: loss, accuracy and learning rate, epoch by epoch and fold by fold.

Each takes the content of metrics.json and gives a drawing, or None where no network was trained. They show what a fold
saw while it looked for its number of epochs: the training side and the part held out of it. Where nothing was held out,
they show the one training there was. Test clips are in none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from soundmark.report.drawing import (
    INK,
    MUTED,
    PAPER,
    RIGHT,
    WIDTH,
    Drawing,
    drawing,
    percent,
)

Points = dict[int, float]  # by epoch

KEY_ROOM, BARE_ROOM = 30.0, 12.0
LEFT, FOOT, LABEL_ROOM, TALL = 58.0, 34.0, 80.0, 195.0
LINE_HEIGHT = 14.0
MOST_POINTS = 250  # of a thin line: a picture has no room for more
FEW_EPOCHS = 12  # up to which every epoch has a dot
FAR = 1e30  # beyond which a number is drawn as this one
TAIL = 20.0  # times the median that is so far off that only a logarithm shows the rest
NEARLY_NONE = 1000.0  # parts of the highest rate; what is less changes nothing and would press the rest together
TRAIN: Mapping[str, Any] = {"color": MUTED, "linestyle": (0, (4, 2))}
HELD_OUT: Mapping[str, Any] = {"color": RIGHT, "linestyle": "solid"}
SIDES: Mapping[str, tuple[str, Mapping[str, Any]]] = {"train": ("training", TRAIN), "valid": ("held out", HELD_OUT)}


@dataclass(frozen=True)
class Line:
    """What one fold went through on one side."""

    fold: str
    points: Points

    @property
    def first(self) -> int:
        """Its first epoch."""
        return next(iter(self.points))

    @property
    def last(self) -> int:
        """Its last epoch."""
        return next(reversed(self.points))


def _curves(metrics: Mapping[str, Any], name: str) -> Drawing | None:
    """Loss or accuracy over the epochs, on both sides."""
    sides = {side: lines for side in SIDES if (lines := _lines(metrics, f"{side}_{name}"))}
    if not sides:
        return None
    say: Callable[[float], str] = percent if name == "accuracy" else _number
    folds = max(map(len, sides.values()))
    chosen = _chosen(metrics, f"valid_{name}")
    keys = ["thin: one fold; bold: their mean, as far as all go"] if folds > 1 else []
    keys += ["dot: epoch chosen"] if chosen else []
    title, room = f"{name.capitalize()} by epoch", KEY_ROOM if keys else BARE_ROOM
    d = drawing(name, title, _caption(name, sides, say), "; ".join(keys), WIDTH, FOOT + TALL + room)
    ax = d.axes(LEFT, FOOT, WIDTH - LEFT - LABEL_ROOM, TALL)
    values = [value for lines in sides.values() for line in lines for value in line.points.values()]
    _epochs(ax, [epoch for lines in sides.values() for line in lines for epoch in (line.first, line.last)])
    _levels(ax, values)
    if name == "accuracy":
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}\u00a0%"))
    ends: dict[str, float] = {}
    for side, lines in sides.items():
        if folds > 1:
            for line in lines:
                _thin(d, ax, line, side, say)
        middle = _mean(lines)
        if middle:
            _bold(d, ax, middle, side, len(lines), say)
        ends[side] = middle[max(middle)] if middle else fmean(line.points[line.last] for line in lines)
    for fold, (epoch, value) in chosen.items():
        edge: dict[str, Any] = {"markeredgecolor": PAPER, "markeredgewidth": 1.2, "clip_on": False, "zorder": 5}
        (dot,) = ax.plot([epoch], [value], "o", color=RIGHT, markersize=7.5, **edge)
        d.tip(dot, f"Fold {fold} chose epoch {epoch}: {name} {say(value)} on the clips held out")
    _labels(ax, ends)
    return d


def _lines(metrics: Mapping[str, Any], key: str) -> list[Line]:
    """Every fold's numbers of this kind, of the folds that have any."""
    rounds = metrics.get("training") or []
    lines = [Line(str(each["fold"]), _points(_watched(each.get("history") or ()), key)) for each in rounds]
    return [line for line in lines if line.points]


def _watched(history: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The epochs that were watched on clips held out; all of them where nothing was."""
    return _stage(history, "choose") or history


def _stage(history: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [row for row in history if row["stage"] == name]


def _points(rows: Iterable[Mapping[str, Any]], key: str) -> Points:
    """Value by epoch, in order; epochs without a finite number are left out, and what is beyond all bounds is cut."""
    found = ((int(row["epoch"]), row[key]) for row in rows if row.get(key) is not None)
    return {
        epoch: min(FAR, max(-FAR, float(value)))
        for epoch, value in sorted(found)
        if not math.isnan(value)  # infinity is a number here: a training that came to nothing is to be seen
    }


def _chosen(metrics: Mapping[str, Any], key: str) -> dict[str, tuple[int, float]]:
    """By fold, the epoch it chose and its value there on the clips held out."""
    found = {}
    for each in metrics.get("training") or []:
        points = _points(_stage(each.get("history") or (), "choose"), key)
        if each.get("epochs") in points:
            found[str(each["fold"])] = each["epochs"], points[each["epochs"]]
    return found


def _mean(lines: Sequence[Line]) -> Points:
    """The mean over the folds at every epoch that all of them have: a mean of other folds would jump."""
    shared = set(lines[0].points).intersection(*(line.points for line in lines))
    return {epoch: fmean(line.points[epoch] for line in lines) for epoch in sorted(shared)}


def _caption(name: str, sides: Mapping[str, Sequence[Line]], say: Callable[[float], str]) -> str:
    folds = max(map(len, sides.values()))
    parts = []
    for side, lines in sides.items():
        first, last = fmean(line.points[line.first] for line in lines), fmean(line.points[line.last] for line in lines)
        where = "on the training side" if side == "train" else "on the part of it held out"
        parts.append(f"{where} {say(first)} in the first epoch and {say(last)} in the last")
    of = f", mean of {folds} folds" if folds > 1 else ""
    return f"{name.capitalize()} over the epochs of training{of}: {'; '.join(parts)}."


def _thin(d: Drawing, ax: Axes, line: Line, side: str, say: Callable[[float], str]) -> None:
    word, style = SIDES[side]
    every = math.ceil(len(line.points) / MOST_POINTS)
    epochs = list(line.points)[::every]
    epochs += [line.last] if epochs[-1] != line.last else []
    alone: dict[str, Any] = {"marker": "o", "markersize": 3} if len(epochs) == 1 else {}
    values = [line.points[epoch] for epoch in epochs]
    (artist,) = ax.plot(epochs, values, linewidth=0.9, alpha=0.42, **style, **alone)
    at = [f"{say(line.points[epoch])} in epoch {epoch}" for epoch in dict.fromkeys((line.first, line.last))]
    d.tip(artist, f"Fold {line.fold}, {word}: {', '.join(at)}")


def _bold(d: Drawing, ax: Axes, points: Points, side: str, folds: int, say: Callable[[float], str]) -> None:
    word, style = SIDES[side]
    dots: dict[str, Any] = {"marker": "o", "markersize": 3.6} if len(points) <= FEW_EPOCHS else {}
    (artist,) = ax.plot(list(points), list(points.values()), linewidth=2.1, zorder=4, **style, **dots)
    last = max(points)
    of = f", mean of {folds} folds" if folds > 1 else ""
    d.tip(artist, f"{word.capitalize()}{of}: {say(points[last])} in epoch {last}")


def _epochs(ax: Axes, epochs: Sequence[int]) -> None:
    low, high = min(epochs), max(epochs)
    pad = 0.02 * (high - low) or 0.5
    ax.set_xlim(low - pad, high + pad)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True) if low < high else FixedLocator([low]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.set_xlabel("epoch")
    ax.grid(visible=True)


def _levels(ax: Axes, values: Sequence[float]) -> None:
    """Room for these values; by their logarithm where a few would press the rest flat."""
    low, high = min(values), max(values)
    if low > 0 and high > TAIL * median(values):
        _logarithmic(ax, low, high)
        return
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    bottom = low - pad if low < 0 or low > 0.3 * high else 0.0
    ax.set_ylim(bottom, 1.0 if high <= 1.0 < high + pad else high + pad)
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]) if low < high else FixedLocator([low]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _logarithmic(ax: Axes, low: float, high: float) -> None:
    ax.set_yscale("log")
    ax.set_ylim(low / 1.3, high * 1.3)
    ax.yaxis.set_major_locator(LogLocator(10, (1, 2, 5) if high < 30 * low else (1,), numticks=7))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_formatter(NullFormatter())


def _labels(ax: Axes, ends: Mapping[str, float]) -> None:
    """Each side's name beside the end of its line, with a piece of the line, and neither on top of the other."""
    wide, tall = ax.bbox.width * 72 / ax.figure.dpi, ax.bbox.height * 72 / ax.figure.dpi
    places = {
        side: min(1.0, max(0.0, float(ax.transAxes.inverted().transform(ax.transData.transform((0, value)))[1])))
        for side, value in ends.items()
    }
    step = LINE_HEIGHT / tall
    lower = min(places, key=lambda side: places[side])
    for side in places.keys() - {lower}:
        lacking = step - (places[side] - places[lower])
        if lacking > 0:
            places[lower] = max(0.0, places[lower] - lacking / 2)
            places[side] = places[lower] + step
    for side, y in places.items():
        word, style = SIDES[side]
        ax.plot([1 + 6 / wide, 1 + 27 / wide], [y, y], transform=ax.transAxes, linewidth=2.1, clip_on=False, **style)
        ax.annotate(
            word, (1, y), (31, 0), xycoords="axes fraction", textcoords="offset points", fontsize=9.5, color=INK,
            va="center", ha="left",
        )  # fmt: skip


def _rate(metrics: Mapping[str, Any]) -> Drawing | None:
    """The learning rate over the epochs; the refit's beside it where it went another way."""
    found = {stage: _rates(metrics, stage) for stage in ("choose", "fit")}
    choosing, refit = found["choose"], found["fit"]
    if not choosing:
        choosing, refit = refit, []
    refit = [points for points in refit if not any(points.items() <= other.items() for other in choosing)]
    if not choosing:
        return None
    every = [*choosing, *refit]
    values = [value for points in every for value in points.values()]
    low, high = min(values), max(values)
    caption = f"Learning rate over the epochs, from {_number(low)} to {_number(high)}"
    key = "dashed: the refit on the whole training side" if refit else ""
    tall = 110.0
    room = KEY_ROOM if key else BARE_ROOM
    d = drawing("rate", "Learning rate by epoch", f"{caption}.", key, WIDTH, FOOT + tall + room)
    ax = d.axes(LEFT, FOOT, WIDTH - LEFT - 20, tall)
    _epochs(ax, [epoch for points in every for epoch in points])
    least = min((value for value in values if value > 0), default=high)
    if high > 10 * least:
        _logarithmic(ax, max(least, high / NEARLY_NONE), high)
    else:
        _levels(ax, values)
    for style, lines in ((HELD_OUT, choosing), (TRAIN, refit)):
        for points in lines:
            dots: dict[str, Any] = {"marker": "o", "markersize": 3.6} if len(points) <= FEW_EPOCHS else {}
            (artist,) = ax.plot(list(points), list(points.values()), linewidth=1.8, **style, **dots)
            d.tip(artist, f"Learning rate {_number(points[max(points)])} in epoch {max(points)}")
    return d


def _rates(metrics: Mapping[str, Any], stage: str) -> list[Points]:
    """The different courses that the rate took in this stage; most folds have the same, or its beginning."""
    different: list[Points] = []
    for each in metrics.get("training") or []:
        points = _points(_stage(each.get("history") or (), stage), "rate")
        if points and points not in different:
            different.append(points)
    return [one for one in different if not any(one.items() < other.items() for other in different)]


def _number(value: float) -> str:
    return f"{value:.3g}"


FIGURES: Sequence[Callable[[Mapping[str, Any]], Drawing | None]] = (
    partial(_curves, name="loss"),
    partial(_curves, name="accuracy"),
    _rate,
)
