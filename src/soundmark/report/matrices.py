"""Confusion matrices side by side: one figure for several ways to answer the same question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.patches import Rectangle

from soundmark.report.drawing import (
    INK,
    MUTED,
    PAPER,
    RIGHT,
    TRACK,
    WRONG,
    Plot,
    drawing,
    percent,
    saved,
    shown,
    styled,
)

GAP, FOOT, LETTER = 24.0, 62.0, 5.6
MOST_NUMBERS = 12  # classes up to which a cell says its share


def side_by_side(panels: Sequence[tuple[str, Mapping[str, Any]]], name: str, title: str, folder: Path | None) -> Plot:
    """Draw the confusion matrices of several summaries over the same classes, each with its headline.

    Args:
        panels: a title and the summary (see `soundmark.metrics.summary`) of each.
        name: of the files, PNG and SVG.
        title: above all of them.
        folder: where the files go; None writes none.
    """
    labels = [shown(label) for label in panels[0][1]["classes"]]
    n = len(labels)
    side = max(150.0, min(420.0, n * 48.0))
    left = 34.0 + LETTER * max(map(len, labels))
    wide = left + len(panels) * (side + GAP)
    with styled():
        key = "rows: true class, columns: predicted; share of each true class"
        d = drawing(
            name, title, f"{title}: {len(panels)} confusion matrices of {n} classes.", key, wide, side + FOOT + left
        )
        for place, (above, metrics) in enumerate(panels):
            ax = d.axes(left + place * (side + GAP), left, side, side)
            _matrix(ax, metrics["confusion"], n)
            centres = [c + 0.5 for c in range(n)] if n <= 60 else []
            size = 9.0 if n <= MOST_NUMBERS else 6.0
            ax.set_xticks(centres, labels if centres else [], fontsize=size, color=INK, rotation=90)
            ax.set_yticks(centres, labels if centres and not place else [""] * len(centres), fontsize=size, color=INK)
            head = metrics["headline"]
            ax.set_title(
                f"{above}\n{head['metric'].replace('_', ' ')} {percent(head['value'])}", fontsize=10, color=MUTED
            )
        return saved(d, folder)


def _matrix(ax: Any, counts: Sequence[Sequence[int]], n: int) -> None:
    ax.set_xlim(0, n)
    ax.set_ylim(n, 0)
    ax.tick_params(length=0, pad=3)
    ax.spines[:].set_visible(False)
    ax.add_patch(Rectangle((0, 0), n, n, color=TRACK, linewidth=0))
    for t, row in enumerate(counts):
        for p, count in enumerate(row):
            if not count:
                continue
            share = count / sum(row)
            colour = RIGHT if t == p else WRONG
            ax.add_patch(Rectangle((p + 0.03, t + 0.03), 0.94, 0.94, linewidth=0, color=colour, alpha=share**0.5))
            if n <= MOST_NUMBERS:
                ink = PAPER if share > 0.64 else INK
                ax.text(p + 0.5, t + 0.5, percent(share, 0), ha="center", va="center", color=ink, fontsize=9)
