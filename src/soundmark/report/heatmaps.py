"""Tables of numbers as heat maps, several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from soundmark.report.drawing import INK, MARGIN, MUTED, PAPER, RIGHT, TRACK, WRONG, Plot, drawing, saved, shown, styled

GAP, ABOVE = 24.0, 40.0
LETTER, SMALL_LETTER = 5.6, 3.9  # width of a letter of the labels, and of the smaller ones of large tables
MOST_NUMBERS, MOST_LABELS = 12, 60  # rows or columns up to which cells say their numbers, and sides their names
CELL, LEAST_CELL, LONGEST = 52.0, 7.0, 420.0


@dataclass(frozen=True)
class Panel:
    """One table.

    Attributes:
        title: above it.
        values: (rows, columns); NaN where there is nothing to say.
        rows, columns: their names.
        breaks: rows before which one group of names ends and another begins; of the columns `column_breaks`.
    """

    title: str
    values: NDArray[np.float64]
    rows: Sequence[str]
    columns: Sequence[str]
    breaks: Sequence[int] = field(default=())
    column_breaks: Sequence[int] = field(default=())


def heatmaps(
    panels: Sequence[Panel], name: str, title: str, key: str, folder: Path | None, *,
    full: float = 0.0, form: str = "z.2f",
) -> Plot:  # fmt: skip
    """Draw tables side by side, the darker the larger; negative numbers in another colour.

    Args:
        panels: the tables.
        name: of the files, PNG and SVG.
        title: above all of them.
        key: what is drawn, in one line.
        folder: where the files go; None writes none.
        full: the number of the darkest cell; 0 for the largest there is.
        form: of the numbers, which are written into the cells of small tables.
    """
    known = np.concatenate([panel.values[np.isfinite(panel.values)] for panel in panels])
    darkest = full or float(np.abs(known).max(initial=0.0)) or 1.0
    boxes = [(_length(len(panel.columns)), _length(len(panel.rows))) for panel in panels]
    left = max(MARGIN + _room(panel.rows) for panel in panels)
    below = max(MARGIN + _room(panel.columns) for panel in panels)
    tall = max(height for _, height in boxes)
    wide = sum(left + width + GAP for width, _ in boxes)
    with styled():
        wide = max(wide, 2 * MARGIN + 5.3 * len(key), 2 * MARGIN + 8.2 * len(title))
        d = drawing(name, title, f"{title}: {key}.", key, wide, below + tall + ABOVE)
        place = 0.0
        for panel, (width, height) in zip(panels, boxes, strict=True):
            _draw(d.axes(place + left, below + tall - height, width, height), panel, darkest, form)
            place += left + width + GAP
        return saved(d, folder)


def _length(cells: int) -> float:
    return max(cells * LEAST_CELL, min(LONGEST, cells * CELL)) if cells <= MOST_LABELS else LONGEST


def _room(names: Sequence[str]) -> float:
    if len(names) > MOST_LABELS:
        return 0.0
    return 10 + (LETTER if len(names) <= MOST_NUMBERS else SMALL_LETTER) * max(len(shown(name)) for name in names)


def _draw(ax: Any, panel: Panel, darkest: float, form: str) -> None:
    rows, columns = panel.values.shape
    strength = np.nan_to_num(np.clip(np.abs(panel.values) / darkest, 0, 1))
    cells = np.zeros((rows, columns, 4))
    cells[..., :3] = np.where((panel.values < 0)[..., None], to_rgb(WRONG), to_rgb(RIGHT))
    cells[..., 3] = strength
    ax.add_patch(Rectangle((0, 0), columns, rows, color=TRACK, linewidth=0))
    ax.imshow(cells, extent=(0, columns, rows, 0), aspect="auto", interpolation="nearest", zorder=1)
    ax.set_xlim(0, columns)
    ax.set_ylim(rows, 0)
    ax.tick_params(length=0, pad=3)
    ax.spines[:].set_visible(False)
    for number in panel.breaks:
        ax.axhline(number, color=PAPER, linewidth=1.5)
    for number in panel.column_breaks:
        ax.axvline(number, color=PAPER, linewidth=1.5)
    ax.set_yticks(*_ticks(panel.rows), fontsize=_size(panel.rows), color=INK)
    ax.set_xticks(*_ticks(panel.columns), fontsize=_size(panel.columns), color=INK, rotation=90)
    ax.set_title(panel.title, fontsize=10, color=MUTED, loc="left")
    if max(rows, columns) <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(panel.values):
            ink = PAPER if strength[row, column] > 0.64 else INK
            text = format(value, form) if np.isfinite(value) else "–"
            ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=9)


def _ticks(names: Sequence[str]) -> tuple[list[float], list[str]]:
    if len(names) > MOST_LABELS:
        return [], []
    return [i + 0.5 for i in range(len(names))], [shown(name) for name in names]


def _size(names: Sequence[str]) -> float:
    return 9.0 if len(names) <= MOST_NUMBERS else 6.0
