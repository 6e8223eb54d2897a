"""The leaderboard for people: a Markdown table, a CSV file with a row per learner and task, and one HTML page.

It takes plain data, what `soundmark.leaderboard.board` makes of cells. The page needs no network, and its columns are
sorted by buttons, which the keyboard reaches.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from soundmark import __version__, files
from soundmark.report import page

PAGE, MARKDOWN, TABLE = "leaderboard.html", "leaderboard.md", "leaderboard.csv"
BEST, CLOSE = "★", "≈"
_COSTS = ("encode_ms", "head_ms", "encode_mb", "encoder_parameters", "head_parameters")
_FIELDS = (
    "encoder", "pooling", "head", "task", "protocol", "clips", "standing", "metric", "score", "low", "high", "seeds",
    "std", "rank", "mean_rank", "best", "not_told_from_best", "p_holm", *_COSTS,
)  # fmt: skip

Json = dict[str, Any]


def write(board: Mapping[str, Any], out: Path) -> Path:
    """Write the three files into a folder, each whole or not at all.

    Args:
        board: see `soundmark.leaderboard.board`.
        out: the folder.

    Returns:
        The page's path.
    """
    files.write_text(out / MARKDOWN, markdown(board))
    files.write_text(out / TABLE, table(board))
    files.write_bytes(out / PAGE, html(board).encode("utf-8", "replace"))
    return out / PAGE


# --- Words -----------------------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 1) -> str:
    """A share in per cent without its sign; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def mark(entry: Mapping[str, Any]) -> str:
    """The sign behind a score: the best, not told from the best, or nothing."""
    return BEST if entry["best"] else CLOSE if entry["close"] else ""


def score(entry: Mapping[str, Any]) -> str:
    """A score with the deviation over seeds: `94.1 ± 0.3 ≈`."""
    spread = "" if entry["std"] is None else f" ± {number(entry['std'])}"
    return f"{number(entry['score'])}{spread} {mark(entry)}".strip()


def interval(entry: Mapping[str, Any]) -> str:
    """The interval of a score in per cent."""
    return f"{number(entry['low'])} to {number(entry['high'])}"


def milliseconds(costs: Mapping[str, Any]) -> str:
    """What encoder and head take together for one clip."""
    value = total_ms(costs)
    return "–" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def total_ms(costs: Mapping[str, Any]) -> float | None:
    """Milliseconds of encoder and head together; None where the encoder's are not known."""
    return None if costs.get("encode_ms") is None else costs["encode_ms"] + (costs.get("head_ms") or 0.0)


def megabytes(costs: Mapping[str, Any]) -> str:
    """What one clip's tensors take at most."""
    value = costs.get("encode_mb")
    return "–" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def parameters(costs: Mapping[str, Any]) -> str:
    """Parameters of encoder and head: `26.4 M + 19.3 k`."""
    return " + ".join(_short(costs.get(name)) for name in _COSTS[-2:])


def total_parameters(costs: Mapping[str, Any]) -> int | None:
    """Parameters of encoder and head together; None where neither is known."""
    known = [costs[name] for name in _COSTS[-2:] if costs.get(name) is not None]
    return sum(known) if known else None


def _short(value: int | None) -> str:
    if value is None:
        return "–"
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}" if value < 100 * size else f"{value / size:.0f}{letter}"
    return str(value)


def metric(column: Mapping[str, Any]) -> str:
    """What a column's numbers are: `accuracy, %`, `accuracy, mean over folds, %`."""
    name = str(column["metric"]).replace("_", " ")
    return f"{name}{', mean over folds' if column['over'] == 'folds' else ''}, %"


def introduction(board: Mapping[str, Any]) -> list[str]:
    """What the table says and how to read it, a sentence or a few per paragraph."""
    columns, rows = board["columns"], board["rows"]
    said = []
    if board["ranked"] > 1:
        on = f"all {len(columns)} tasks" if len(columns) > 1 else "the one task"
        others = len(rows) - board["ranked"]
        said.append(
            f"Mean ranks are over {on}, among the {board['ranked']} learners that were measured there; equals share "
            f"the mean of their places. {_left_out(others)}".strip()
        )
    elif columns:
        said.append("There are no mean ranks: fewer than two learners were measured on all of these tasks.")
    if any(column["tested"] for column in columns):
        said.append(
            f"{BEST} is the best of its task; {CLOSE} cannot be told from it by a permutation test that swaps whole "
            "groups of the same clips (p at 0.05 or above after Holm's correction for all that are held against the "
            "best). Others without a sign are told from it, or their predictions were not kept (leaderboard.csv says "
            "which). The best of many is a little flattered by having been picked."
        )
    seeds = any(entry["seeds"] > 1 for row in rows for entry in row["scores"].values())
    said.append(
        "Intervals are 95 %, by bootstrap over whole groups"
        + ("; of several seeds the widest. The score is their mean, ± their standard deviation." if seeds else ".")
    )
    said.append(
        "Time is from a decoded clip to its label, one at a time, on the machine that measured it; memory the most "
        "that a clip's tensors take at a time in the encoder, weights apart. Both are means over the tasks of the row. "
        "Parameters are those of the encoder and, at most, of the head with its scaler."
    )
    return said


def _left_out(others: int) -> str:
    if not others:
        return ""
    return "One other lacks a task and has none." if others == 1 else f"{others} others lack tasks and have none."


APART = (
    "Measured on a sample or a part of a data set, or by another protocol than the one above. These scores compare "
    "neither with those above nor with published ones."
)


# --- Markdown and CSV ------------------------------------------------------------------------------------------------


def markdown(board: Mapping[str, Any]) -> str:
    """The leaderboard as Markdown."""
    columns = board["columns"]
    parts = ["# Leaderboard"]
    if columns:
        header = ["encoder", "pooling", "head", "mean rank", *(f"`{_cell(each['task'])}`" for each in columns)]
        header += ["ms per clip", "MB per clip", "parameters"]
        rows = [
            [
                *_learner(row),
                "–" if row["rank"] is None else f"{row['rank']:.2f}",
                *(_with_interval(row["scores"].get(each["task"])) for each in columns),
                milliseconds(row["costs"]),
                megabytes(row["costs"]),
                parameters(row["costs"]),
            ]
            for row in board["rows"]
        ]
        parts += [_table(header, rows, words=3), *introduction(board)]
        about = [
            [f"`{_cell(each['task'])}`", metric(each), _cell(each["protocol"]), str(each["clips"]),
             str(each["learners"]), str(each["tested"])]
            for each in columns
        ]  # fmt: skip
        parts.append(_table(["task", "score", "protocol", "clips", "learners", "tested against the best"], about, 3))
    else:
        parts.append("No task was measured whole.")
    if board["apart"]:
        header = ["task", "why", "protocol", "clips", "encoder", "pooling", "head", "score, %", "95 % interval"]
        rows = [
            [f"`{_cell(each['task'])}`", each["why"], _cell(each["protocol"]), str(each["clips"]), *_learner(each),
             score(each), interval(each)]
            for each in board["apart"]
        ]  # fmt: skip
        parts += ["## Not ranked", APART, _table(header, rows, words=7)]
    notes = [f"- `{_cell(task)}`: {_cell(' '.join(said))}" for task, said in board["notes"].items()]
    return "\n\n".join([*parts, *(["## Notes", "\n".join(notes)] if notes else [])]) + "\n"


def _learner(row: Mapping[str, Any]) -> list[str]:
    return [f"`{_cell(row[name])}`" for name in ("encoder", "pooling", "head")]


def _with_interval(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else f"{score(entry)} ({interval(entry)})"


def _cell(text: str) -> str:
    """Text that breaks no table: a bar would begin another cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    rule = ["---"] * words + ["--:"] * (len(header) - words)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def table(board: Mapping[str, Any]) -> str:
    """The leaderboard as CSV: a row per learner and task; `standing` is "ranked", or why it is not."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _FIELDS, lineterminator="\n", restval="")
    writer.writeheader()
    for column in board["columns"]:
        for row in board["rows"]:
            if entry := row["scores"].get(column["task"]):
                writer.writerow(_record(row, column, entry, "ranked") | {"mean_rank": row["rank"]})
    for entry in board["apart"]:
        writer.writerow(_record(entry, entry, entry, entry["why"]))
    return text.getvalue()


def _record(
    learner: Mapping[str, Any], question: Mapping[str, Any], entry: Mapping[str, Any], standing: str
) -> dict[str, Any]:
    return {
        **{name: learner[name] for name in ("encoder", "pooling", "head")},
        **{name: question[name] for name in ("task", "protocol", "clips")},
        "standing": standing,
        **{name: entry[name] for name in ("metric", "score", "low", "high", "seeds", "std", "rank")},
        "best": int(entry["best"]),
        "not_told_from_best": "" if entry["p"] is None else int(entry["close"]),
        "p_holm": entry["p"],
        **entry["costs"],
    }


# --- The page --------------------------------------------------------------------------------------------------------


def html(board: Mapping[str, Any]) -> str:
    """The leaderboard as one page; whatever strangers have named is escaped."""
    script = page.source("script.js") + page.source("leaderboard.js")
    environment = page.template(page.source("leaderboard.html.j2"))
    text: str = environment.render(
        board=board,
        apart_words=APART,
        introduction=introduction(board) if board["columns"] else [],
        score=score,
        interval=interval,
        mark=mark,
        number=number,
        metric=metric,
        milliseconds=milliseconds,
        megabytes=megabytes,
        parameters=parameters,
        total_ms=total_ms,
        total_parameters=total_parameters,
        best=BEST,
        close=CLOSE,
        version=__version__,
        style=Markup(page.source("style.css") + page.source("leaderboard.css")),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        script_hash=page.digest(script),
    )
    return text.strip() + "\n"
