"""The figures of a report: every fold, every class, confusions, reliability, and the two-class curves.

Each takes the content of metrics.json and gives a drawing, or None where there is nothing to draw. Those of a training
are in `curves`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from soundmark.report import curves
from soundmark.report.drawing import (
    INK,
    LINE,
    MUTED,
    PAPER,
    RIGHT,
    TITLE_ROOM,
    TRACK,
    WIDTH,
    WRONG,
    Drawing,
    Plot,
    drawing,
    percent,
    saved,
    shown,
    spread,
    styled,
)

KEY_ROOM = 30.0
MOST_BARS = 100


def draw(metrics: Mapping[str, Any], folder: Path | None = None) -> list[Plot]:
    """Draw every figure that these metrics have something for, and save each as PNG and SVG.

    Args:
        metrics: the content of metrics.json.
        folder: where the files go; None draws for the page only.
    """
    with styled():
        return [saved(drawn, folder) for make in _FIGURES if (drawn := make(metrics)) is not None]


def _percent_axis(axis: Any, most_ticks: int = 6) -> None:
    axis.set_major_locator(MaxNLocator(most_ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol="\u00a0%"))


def _room(labels: Sequence[str], size: float) -> float:
    """About how wide the widest of these labels is, in points."""
    return 0.58 * size * max(map(len, labels))


def _folds(metrics: Mapping[str, Any]) -> Drawing | None:
    name, head = metrics["headline"]["metric"], metrics["headline"]
    folds = [fold for fold in metrics["folds"] if fold["metrics"][name] is not None]
    if len(folds) < 2:
        return None
    over, word = metrics["over_folds"][name], name.replace("_", " ")
    values = [fold["metrics"][name] for fold in folds]
    caption = (
        f"{word.capitalize()} of each of {len(folds)} folds, from {percent(min(values))} to {percent(max(values))}; "
        f"mean {percent(over['mean'])}, standard deviation {percent(over['std'])}."
    )
    line = "mean of the folds" if head.get("over") == "folds" else "all clips"
    key = f"dot: one fold; line and band: {line}, with 95 % interval"
    tall = 27.0 * len(folds)
    d = drawing("folds", "Every fold by itself", caption, key, WIDTH, KEY_ROOM + tall + 44)
    labels = [f"fold {shown(fold['fold'], 12)}" if len(fold["fold"]) < 5 else shown(fold["fold"], 16) for fold in folds]
    left = 18 + _room(labels, 10.5)
    ax = d.axes(left, 42, WIDTH - left - 62, tall)
    ends = [*values, head["low"], head["high"]]
    pad = max(0.01, 0.12 * (max(ends) - min(ends)))
    ax.set_xlim(max(-0.01, min(ends) - pad), min(1.01, max(ends) + pad))
    ax.set_ylim(len(folds) - 0.5, -0.5)
    band = ax.axvspan(head["low"], head["high"], color=RIGHT, alpha=0.13, linewidth=0)
    d.tip(band, f"{line.capitalize()}: {percent(head['value'])}, 95 % interval {spread(head['low'], head['high'])}")
    ax.axvline(head["value"], color=RIGHT, linewidth=1.6)
    for y, (fold, value) in enumerate(zip(folds, values, strict=True)):
        ax.plot(ax.get_xlim(), [y, y], color=LINE, linewidth=0.8, zorder=1)
        (dot,) = ax.plot([value], [y], "o", color=RIGHT, markersize=9, markeredgecolor=PAPER, markeredgewidth=1.5)
        d.tip(dot, f"Fold {fold['fold']}: {percent(value, 2)} of {fold['clips']} clips")
        _beside(ax, y, 10, percent(value), color=INK)
    ax.set_yticks(range(len(folds)), labels, color=INK)
    _percent_axis(ax.xaxis)
    ax.set_xlabel(word)
    ax.spines["left"].set_visible(False)
    return d


def _beside(ax: Axes, y: float, points: float, text: str, **style: Any) -> None:
    """A word to the right of the axes, this far from them."""
    style = {"va": "center", "ha": "left"} | style
    ax.annotate(text, (1, y), (points, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points", **style)


def _classes(metrics: Mapping[str, Any]) -> Drawing | None:
    rows = [row for row in metrics["per_class"] if row["clips"]]
    rows.sort(key=lambda row: -row["f1"])
    left_out = len(rows) - MOST_BARS
    if left_out > 0:
        rows = rows[: MOST_BARS // 2] + rows[-MOST_BARS // 2 :]
    best, worst = rows[0], rows[-1]
    caption = (
        f"F1 of every class, best first: from {shown(best['label'])} ({percent(best['f1'])}) "
        f"to {shown(worst['label'])} ({percent(worst['f1'])})."
    ) + (f" {left_out} classes in the middle are left out." if left_out > 0 else "")
    key = "bar: F1; line: its 95 % interval; diamond: recall"
    key += f"; {left_out} classes in the middle left out" if left_out > 0 else ""
    tall = 17.0 * len(rows)
    d = drawing("classes", "Class by class", caption, key, WIDTH, KEY_ROOM + 12 + tall + 40)
    labels = [shown(row["label"]) for row in rows]
    left = 16 + _room(labels, 9.5)
    ax = d.axes(left, 38, WIDTH - left - 88, tall)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    for y, row in enumerate(rows):
        ax.barh(y, 1, height=0.62, color=TRACK, linewidth=0)
        (bar,) = ax.barh(y, row["f1"], height=0.62, color=RIGHT, alpha=0.82, linewidth=0)
        d.tip(
            bar,
            f"{row['label']}: F1 {percent(row['f1'])} ({spread(row['f1_low'], row['f1_high'])}), "
            f"recall {percent(row['recall'])}, precision {percent(row['precision'])}, {row['clips']} clips",
        )
        ax.plot([row["f1_low"], row["f1_high"]], [y, y], color=INK, alpha=0.6, linewidth=1.1, solid_capstyle="butt")
        edge: dict[str, Any] = {"markeredgecolor": INK, "markeredgewidth": 1.1}
        ax.plot([row["recall"]], [y], "D", color=PAPER, markersize=4.4, clip_on=False, **edge)
        _beside(ax, y, 41, percent(row["f1"], 0), fontsize=9.5, color=INK, ha="right")
        _beside(ax, y, 76, str(row["clips"]), fontsize=9.5, color=MUTED, ha="right")
    _beside(ax, -1.0, 41, "F1", fontsize=9, color=MUTED, ha="right")
    _beside(ax, -1.0, 76, "clips", fontsize=9, color=MUTED, ha="right")
    ax.set_yticks(range(len(rows)), labels, fontsize=9.5, color=INK)
    _percent_axis(ax.xaxis)
    ax.set_xlabel("F1 and recall")
    ax.spines[["left", "bottom"]].set_visible(False)
    return d


def _confusion(metrics: Mapping[str, Any]) -> Drawing:
    counts, labels = metrics["confusion"], [shown(label) for label in metrics["classes"]]
    n, total = len(labels), metrics["clips"]
    size = 6.8 if n > 25 else 9.5
    cell = max(2.2, min(56.0, 620 / n)) if n > 4 else 92.0
    upright = n <= 4 and max(map(len, labels)) <= 14
    left = 40 + _room(labels, size) if n <= 80 else 40.0
    foot = 44.0 if upright else left - 4
    right = sum(counts[c][c] for c in range(n))
    caption = (
        f"Confusion matrix of {n} classes, rows the true class, columns the predicted one; {right} of {total} clips "
        "lie on the diagonal."
    )
    side = n * cell
    key = "share of each true class: right, wrong" if side > 400 else "share of each true class"
    wide = max(left + side + 20, 240)
    d = drawing("confusion", "What was taken for what", caption, key, wide, KEY_ROOM + side + foot)
    ax = d.axes(left, foot, side, side)
    ax.set_xlim(0, n)
    ax.set_ylim(n, 0)
    ax.add_patch(Rectangle((0, 0), n, n, color=TRACK, linewidth=0))
    for step in range(5, n, 5) if n > 12 else range(1, n):
        ax.plot([0, n], [step, step], color=PAPER, linewidth=1)
        ax.plot([step, step], [0, n], color=PAPER, linewidth=1)
    for t, p, count, share in _cells(counts):
        colour, shade = (RIGHT if t == p else WRONG), _shade(share)
        patch = Rectangle((p + 0.03, t + 0.03), 0.94, 0.94, linewidth=0, color=colour, alpha=shade)
        ax.add_patch(patch)
        truth = metrics["classes"][t]
        found = "predicted rightly" if t == p else f"taken for {metrics['classes'][p]}"
        d.tip(patch, f"{truth}: {percent(share)} {found} ({count} of {sum(counts[t])})")
        if n <= 12:
            text = percent(share, 0) if cell < 50 else f"{percent(share, 0)}\n{count}"
            ink = PAPER if shade > 0.8 else INK
            ax.text(p + 0.5, t + 0.5, text, ha="center", va="center", color=ink, fontsize=9.5)
    centres = [c + 0.5 for c in range(n)] if n <= 80 else []
    turned: dict[str, Any] = (
        {} if upright else {"rotation": 90, "ha": "right", "va": "center", "rotation_mode": "anchor"}
    )
    ax.set_xticks(centres, labels if centres else [], fontsize=size, color=INK, **turned)
    ax.set_yticks(centres, labels if centres else [], fontsize=size, color=INK)
    ax.tick_params(length=0, pad=3)
    ax.spines[:].set_visible(False)
    d.figure.text((left + side / 2) / d.width, 8 / d.height, "predicted class", color=MUTED, ha="center")
    upwards: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "top", "rotation_mode": "anchor"}
    d.figure.text(14 / d.width, (foot + side / 2) / d.height, "true class", color=MUTED, **upwards)
    if side > 400:
        _legend(d, left + side)
    return d


def _legend(d: Drawing, right: float) -> None:
    """The scale of shades, above the right end of the matrix."""
    ax = d.axes(right - 168, d.height - TITLE_ROOM - 14, 168, 11)
    ax.set_xlim(0, 168)
    ax.set_ylim(0, 11)
    ax.set_axis_off()
    for place, share in enumerate((0.05, 0.25, 0.5, 1.0)):
        x = 44.0 * place
        for step, colour in enumerate((RIGHT, WRONG)):
            ax.add_patch(Rectangle((x + 7 * step, 0), 6, 10, color=colour, alpha=_shade(share), linewidth=0))
        ax.text(x + 16, 2, percent(share, 0) if share < 1 else "all", fontsize=8, color=MUTED, va="baseline")


def _shade(share: float) -> float:
    """Opacity of a share; the root keeps single clips visible."""
    return round(min(1.0, math.sqrt(share)), 3)


def _cells(counts: Sequence[Sequence[int]]) -> Iterator[tuple[int, int, int, float]]:
    for t, row in enumerate(counts):
        total = sum(row)
        for p, count in enumerate(row):
            if count:
                yield t, p, count, count / total


def _reliability(metrics: Mapping[str, Any]) -> Drawing:
    bins = [row for row in metrics["calibration"]["bins"] if row["clips"]]
    total, error = metrics["clips"], metrics["metrics"]["calibration_error"]
    score = f"calibration error {percent(error['value'])} ({spread(error['low'], error['high'])})"
    caption = f"Reliability: how often clips were predicted rightly at each confidence; {score}."
    key = f"{score}; dashed: ideal"
    d = drawing("reliability", "Does its confidence mean anything?", caption, key, WIDTH, KEY_ROOM + 344)
    ax = d.axes(66, 112, WIDTH - 86, 230)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.grid(visible=True)
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    sure, right = ([row[name] for row in bins] for name in ("confidence", "accuracy"))
    ax.fill_between(sure, sure, right, color=WRONG, alpha=0.16, linewidth=0)
    ax.plot(sure, right, color=RIGHT, linewidth=1.8, clip_on=False)
    edge: dict[str, Any] = {"markeredgecolor": PAPER, "markeredgewidth": 1.2, "clip_on": False}
    for row, x, y in zip(bins, sure, right, strict=True):
        ax.plot([x, x], [row["accuracy_low"], row["accuracy_high"]], color=RIGHT, alpha=0.4, linewidth=1.2)
        (dot,) = ax.plot([x], [y], "o", color=RIGHT, markersize=7, zorder=3, **edge)
        d.tip(dot, f"{row['clips']} clips with confidence {percent(x)}: {percent(y)} right")
    for axis in (ax.xaxis, ax.yaxis):
        _percent_axis(axis)
    ax.set_xticklabels([])
    ax.set_ylabel("predicted rightly")
    low = d.axes(66, 42, WIDTH - 86, 56)
    low.set_xlim(0, 1)
    most = max(row["clips"] for row in bins)
    low.set_ylim(0, most)
    for row in bins:
        style: dict[str, Any] = {"align": "edge", "color": RIGHT, "alpha": 0.45, "edgecolor": PAPER, "linewidth": 1}
        (bar,) = low.bar(row["low"], row["clips"], width=row["high"] - row["low"], **style)
        d.tip(
            bar,
            f"{row['clips']} clips ({percent(row['clips'] / total)}) with confidence {percent(row['low'], 0)} or more",
        )
    _percent_axis(low.xaxis)
    low.set_yticks([most])
    low.set_ylabel("clips")
    low.set_xlabel("confidence in the predicted class")
    low.spines["left"].set_visible(False)
    return d


def _curve(metrics: Mapping[str, Any], name: str) -> Drawing | None:
    """The ROC (`roc`) or the precision-recall curve (`pr`), with the operating points that training chose."""
    two = metrics.get("two_class")
    roc = name == "roc"
    value = two["roc_auc" if roc else "average_precision"] if two else None
    if not two or value is None or value["value"] is None:
        return None
    looked_for, curve, prevalence = shown(two["positive"]), two["curves"], two["prevalence"]
    label = "area under the curve" if roc else "average precision"
    score = f"{label} {value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"
    title = "Finding it against false alarms" if roc else "Precision against recall"
    curve_name = "ROC" if roc else "Precision-recall"
    caption = f"{curve_name} curve of {looked_for}: {score}."
    key = f"{score}; dashed: chance"
    d = drawing(name, title, caption, key, WIDTH, KEY_ROOM + 322)
    ax = d.axes(66, 44, WIDTH - 86, 276)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.grid(visible=True)
    if roc:
        xs, ys, chance = [0.0, *curve["false_alarm"]], [0.0, *curve["recall"]], [0.0, 1.0]
    else:
        xs, ys, chance = [0.0, *curve["recall"]], [curve["precision"][0], *curve["precision"]], [prevalence] * 2
    ax.fill_between(xs, ys, color=RIGHT, alpha=0.12, linewidth=0)
    ax.plot([0, 1], chance, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    ax.plot(xs, ys, color=RIGHT, linewidth=2, clip_on=False)
    for row in metrics.get("alarm") or []:
        if (place := _operating_point(row, prevalence, roc)) is None:
            continue
        edge: dict[str, Any] = {"markeredgecolor": PAPER, "markeredgewidth": 1.2, "clip_on": False}
        (dot,) = ax.plot([place[0]], [place[1]], "D", color=WRONG, markersize=7.5, **edge)
        most = percent(row["max_false_alarm"], 0)
        d.tip(
            dot,
            f"Threshold for at most {most} false alarms: recall {percent(row['recall'])}, "
            f"false alarms {percent(row['realised'])}",
        )
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "color": INK}
        right = place[0] > 0.7  # else the words would leave the drawing
        aside = (-9, -11) if right else (9, -11 if roc else 5)
        ax.annotate(f"at {most} false alarms", place, aside, ha="right" if right else "left", **style)
    for axis in (ax.xaxis, ax.yaxis):
        _percent_axis(axis)
    ax.set_xlabel(f"false alarms: share of the clips that are not {looked_for}" if roc else f"recall of {looked_for}")
    ax.set_ylabel(f"recall of {looked_for}" if roc else "precision")
    return d


def _operating_point(row: Mapping[str, Any], prevalence: float, roc: bool) -> tuple[float, float] | None:
    recall, false = row.get("recall"), row.get("realised")
    if recall is None or false is None:
        return None
    if roc:
        return false, recall
    hits, alarms = recall * prevalence, false * (1 - prevalence)
    return (recall, hits / (hits + alarms)) if hits + alarms else None


_FIGURES: tuple[Callable[[Mapping[str, Any]], Drawing | None], ...] = (
    _folds,
    _confusion,
    _classes,
    _reliability,
    partial(_curve, name="roc"),
    partial(_curve, name="pr"),
    *curves.FIGURES,
)
