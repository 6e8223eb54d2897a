"""A map as a picture, and what its colours stand for."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soundmark.analysis.palette import palette
from soundmark.files import atomic_path

RIGHT, WRONG, UNSEEN = "right", "wrong", "not predicted"
NUMBERED = 8  # more classes than this are numbered on the map, since nobody tells so many colours apart
LISTED = 96  # names in a legend; the rest is counted
_ROWS = 30
_TITLE = 60  # letters of a line above the map


@dataclass(frozen=True)
class Colouring:
    """What every clip's colour stands for.

    Attributes:
        names: of the values, in the legend's order.
        colours: of the values, `#rrggbb`.
        of: (n,) int, the value of every clip.
        errors: whether the values are right, wrong and not predicted, which have marks of their own too.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    of: np.ndarray
    errors: bool = False


def colouring(values: Sequence[str], order: Callable[[str], Any]) -> Colouring:
    """Colours for values.

    Args:
        values: of every clip.
        order: key of the legend's order.
    """
    names = tuple(sorted(set(values), key=order))
    place = {name: i for i, name in enumerate(names)}
    return Colouring(names, palette(len(names)), np.array([place[value] for value in values], dtype=np.int64))


def of_errors(right: Sequence[bool | None]) -> Colouring:
    """Colours for what was predicted rightly, wrongly and not at all; those of the report."""
    from soundmark.report import drawing

    found = np.array([2 if each is None else 0 if each else 1 for each in right], dtype=np.int64)
    names, colours = (RIGHT, WRONG, UNSEEN), (drawing.RIGHT, drawing.WRONG, "#8a94a3")
    count = 3 if None in right else 2
    return Colouring(names[:count], colours[:count], found, errors=True)


def write(
    path: Path, title: str, positions: np.ndarray, colours: Colouring, right: Sequence[bool | None] | None = None
) -> None:
    """Draw a map as PNG, with its legend beside it.

    Args:
        path: of the file.
        title: above it.
        positions: (n, 2).
        colours: of the clips.
        right: (n,) whether each was predicted rightly: those that were not are crosses, those not predicted are hollow.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from soundmark.report.drawing import DPI, MUTED, shown, styled

    numbered = len(colours.names) > NUMBERED
    counts = Counter(colours.of.tolist())
    listed = range(min(len(colours.names), LISTED))
    size = float(np.clip(400 / math.sqrt(len(positions)), 6, 46))  # square points
    marks = []
    for i in listed:
        name = (f"{i + 1}  " if numbered else "") + f"{shown(colours.names[i])} ({counts[i]})"
        marks.append(_mark(name, colours.colours[i], colours.names[i] if colours.errors else ""))
    if len(colours.names) > LISTED:
        marks.append(Line2D([], [], linestyle="", label=f"and {len(colours.names) - LISTED} more"))
    if right is not None and not colours.errors:
        marks.append(_mark("predicted wrongly", MUTED, WRONG))
        if None in right:
            marks.append(_mark("not predicted", MUTED, UNSEEN))
    columns = math.ceil(len(marks) / _ROWS)
    with styled():
        figure = Figure(figsize=(7.6 + 2.1 * columns, 7.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        # The legend stands to the right, as high as the title: a long one would run into it.
        lines = textwrap.wrap(shown(title, 3 * _TITLE), _TITLE)
        axes.set_title("\n".join(lines), loc="left", fontsize=12, fontweight="bold")
        _points(axes, positions, colours, right, size)
        if numbered:
            _numbers(axes, positions, colours, listed)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_aspect("equal", adjustable="datalim")
        figure.legend(handles=marks, loc="outside right upper", ncols=columns, frameon=False, fontsize=8.5,
                      handletextpad=0.3, columnspacing=1.0, borderaxespad=0.6)  # fmt: skip
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI * 0.8, metadata={"Software": None})


def _mark(label: str, colour: str, state: str) -> Any:
    """An entry of the legend."""
    from matplotlib.lines import Line2D

    kinds: dict[str, Any] = {
        WRONG: {"marker": "x", "markeredgewidth": 1.6},
        UNSEEN: {"marker": "o", "fillstyle": "none"},
    }
    return Line2D([], [], linestyle="", color=colour, label=label, **kinds.get(state, {"marker": "o"}))


def _points(
    axes: Any, positions: np.ndarray, colours: Colouring, right: Sequence[bool | None] | None, size: float
) -> None:
    ink = np.array(colours.colours, dtype=object)[colours.of]
    states = np.array([True] * len(ink) if right is None else list(right), dtype=object)
    order = np.random.default_rng(0).permutation(len(ink))  # so that no class lies on top of all others
    for state in (True, None, False):
        some = order[[states[i] is state for i in order]]
        if not len(some):
            continue
        x, y, colour = positions[some, 0], positions[some, 1], ink[some].tolist()
        if state is False:
            axes.scatter(x, y, s=1.3 * size, c=colour, marker="x", linewidths=1.5)
        elif state is None:
            axes.scatter(x, y, s=size, facecolors="none", edgecolors=colour, linewidths=1.0)
        else:
            axes.scatter(x, y, s=size, c=colour, edgecolors="white", linewidths=0.35, alpha=0.9)


def _numbers(axes: Any, positions: np.ndarray, colours: Colouring, listed: range) -> None:
    """Every value's number, on the clip of it that lies nearest to their median."""
    from matplotlib.patheffects import withStroke

    for i in listed:
        own = positions[colours.of == i]
        x, y = own[np.argmin(np.linalg.norm(own - np.median(own, axis=0), axis=1))]
        axes.annotate(
            str(i + 1), (x, y), (0, 7), textcoords="offset points", ha="center", va="center", fontsize=9,
            fontweight="bold", zorder=5, path_effects=[withStroke(linewidth=2.4, foreground="white", alpha=0.9)],
        )  # fmt: skip
