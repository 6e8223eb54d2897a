"""Events in files: JSON lines, CSV, Audacity's labels and RTTM.

| format | ending | a line |
|---|---|---|
| `jsonl` | `.jsonl` | `{"path": ..., "start": ..., "end": ..., "label": ..., "score": ...}` |
| `csv` | `.csv` | `path,start,end,label,score`, under these names |
| `audacity` | `.txt` | start, end and label between tabs: import as labels in Audacity; one recording, no scores |
| `rttm` | `.rttm` | `SPEAKER recording 1 start duration <NA> <NA> label score <NA>`; spaces in names become `_` |

Times are seconds with three decimals.

Sources: https://manual.audacityteam.org/man/importing_and_exporting_labels.html; RTTM of the Rich Transcription
evaluations, of which other tools read `SPEAKER` lines.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from soundmark.errors import EventError
from soundmark.events import Event
from soundmark.files import write_text

FORMATS = ("jsonl", "csv", "audacity", "rttm")
SUFFIXES = {".jsonl": "jsonl", ".csv": "csv", ".txt": "audacity", ".rttm": "rttm"}
COLUMNS = ("path", "start", "end", "label", "score")
Found = tuple[str, Event]  # a recording's path, and an event in it


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a file's ending says.

    Raises:
        EventError: if it says none.
    """
    name = SUFFIXES.get(Path(path).suffix.lower())
    if name is None:
        raise EventError(f"{path} has no ending of events: name it {', '.join(SUFFIXES)}, or give a format")
    return name


def heading(format: str) -> str:
    """What a file of a format begins with: a line, or nothing."""
    return ",".join(COLUMNS) + "\n" if format == "csv" else ""


def line(format: str, path: str, event: Event) -> str:
    """An event as a line, with its end."""
    start, end, score = round(event.start, 3), round(event.end, 3), round(event.score, 6)
    if format == "jsonl":
        row = {"path": path, "start": start, "end": end, "label": event.label, "score": score}
        return json.dumps(row, ensure_ascii=False) + "\n"
    if format == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([path, f"{start:.3f}", f"{end:.3f}", event.label, score])
        return text.getvalue()
    if format == "audacity":
        label = re.sub(r"\s+", " ", event.label)
        return f"{start:.3f}\t{end:.3f}\t{label}\n"
    if format == "rttm":
        words = [_word(Path(path).stem), "1", f"{start:.3f}", f"{end - start:.3f}", "<NA>", "<NA>", _word(event.label)]
        return " ".join(["SPEAKER", *words, f"{score:g}", "<NA>"]) + "\n"
    raise EventError(f"there is no format {format!r}: use {', '.join(FORMATS)}")


def _word(text: str) -> str:
    return re.sub(r"\s+", "_", text) or "_"


def write(path: str | os.PathLike[str], found: Iterable[Found], format: str | None = None) -> None:
    """Write a file of events, whole or not at all.

    Args:
        path: of the file.
        found: recordings' paths and events, in the order in which they shall stand.
        format: one of `FORMATS`; None goes by the file's ending.

    Raises:
        EventError: if the format is none, or events of several recordings are to be Audacity's labels.
    """
    kind = format or format_of(path)
    rows = list(found)
    if kind == "audacity" and len({name for name, _ in rows}) > 1:
        raise EventError("Audacity's labels do not name their recording: write those of each into a file of its own")
    write_text(path, heading(kind) + "".join(line(kind, name, event) for name, event in rows))


def read(path: str | os.PathLike[str], format: str | None = None) -> list[Found]:
    """Read a file of events, ours or another program's annotations.

    Returns:
        Recordings' paths and events. What a format does not hold is empty: the path in Audacity's labels, and a score,
        which is 1 then.

    Raises:
        EventError: if it cannot be read, or a line of it is none of its format.
    """
    kind = format or format_of(path)
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EventError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    rows: list[Found] = []
    for number, fields in _rows(kind, text):
        try:
            rows.append(_found(kind, fields))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise EventError(f"line {number} of {path} is no event as {kind} writes them: mend it") from None
    return rows


def _rows(kind: str, text: str) -> Iterator[tuple[int, Any]]:
    if kind == "csv":
        yield from enumerate(csv.DictReader(io.StringIO(text)), start=2)
        return
    for number, row in enumerate(text.splitlines(), start=1):
        passed = not row.strip() or (kind == "audacity" and row.startswith("\\")) or row.startswith(";;")
        if passed or (kind == "rttm" and not row.startswith("SPEAKER ")):
            continue  # Audacity's frequency ranges, RTTM's comments and other kinds of lines
        yield number, row


def _found(kind: str, row: Any) -> Found:
    if kind == "jsonl":
        row = json.loads(row)
    if kind in ("jsonl", "csv"):
        said = row.get("score")
        score = 1.0 if said in (None, "") else float(said)
        return str(row.get("path") or ""), _event(float(row["start"]), float(row["end"]), str(row["label"]), score)
    if kind == "audacity":
        start, end, label = row.split("\t", 2)
        return "", _event(float(start), float(end), label, 1.0)
    words = row.split()
    start, score = float(words[3]), 1.0 if words[8:9] in ([], ["<NA>"]) else float(words[8])
    return words[1], _event(start, round(start + float(words[4]), 6), words[7], score)


def _event(start: float, end: float, label: str, score: float) -> Event:
    if not (0 <= start <= end < float("inf")) or not label:
        raise ValueError
    return Event(start, end, label, score)
