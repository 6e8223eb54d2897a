"""Manifests: a user's own table of clips, as CSV or Parquet.

Columns: `path` and `label`; optional `fold` or `split`, `group`, `start` and `end` (seconds). Their case does not
matter, and a few usual other names are understood. Paths start from the manifest's own folder, or are absolute, or
addresses. A manifest may itself be at an address, which its paths then start from.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from soundmark.audio import find_audio
from soundmark.errors import MissingExtra, RemoteError, TaskError
from soundmark.remote import Place, is_url
from soundmark.tasks.base import Clip

SUFFIXES = (".csv", ".tsv", ".parquet")
NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "filepath"),
    "label": ("label", "class", "category"),
    "fold": ("fold",),
    "split": ("split", "subset"),
    "group": ("group",),
    "start": ("start", "onset"),
    "end": ("end", "offset"),
}
SPLITS: dict[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}

Row = Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """A table as read.

    Attributes:
        clips: its rows; `group` is "" where the table has none.
        divided: "fold", "split", or "" where the table leaves the division to us.
        grouped: the table has a group column.
        missing: paths that no file was found for.
    """

    clips: tuple[Clip, ...]
    divided: str
    grouped: bool
    missing: tuple[str, ...]


def read(path: Place) -> Manifest:
    """Read a manifest, and find its files. Whether there is something at an address is found out when it is read.

    Raises:
        TaskError: if it cannot be read, lacks a column, or a row does not make sense; the row's number is given.
        MissingExtra: for Parquet without pyarrow.
    """
    rows = list(_parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path))
    if not rows:
        raise TaskError(f"{path}: the table has no rows")
    columns = set(rows[0][1])
    divided = "fold" if "fold" in columns else "split" if "split" in columns else ""
    if divided == "fold" and {row["fold"].lower() for _, row in rows} <= set(SPLITS):
        divided = "split"
        rows = [(number, {**row, "split": row["fold"]}) for number, row in rows]
    clips, missing = [], []
    for number, row in rows:
        where = f"{path}, row {number}"
        relative = _find(path.parent, _filled(row, "path", where), where)
        if relative is None:
            missing.append(row["path"])
            continue
        start, end = _seconds(row, where)
        clips.append(
            Clip(
                path=relative,
                labels=(_filled(row, "label", where),),
                start=start,
                end=end,
                group=row.get("group", ""),
                fold=_division(row, divided, where),
            )
        )
    _refuse_twice(clips, path)
    return Manifest(tuple(clips), divided, "group" in columns, tuple(missing))


def _csv_rows(path: Place) -> Iterator[tuple[int, Row]]:
    content = _content(path)
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise TaskError(f"{path} is not UTF-8 text: save the table as CSV in UTF-8") from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)  # spreadsheets of many countries write semicolons
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = _columns(next(reader, []), path)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise TaskError(f"{path}, row {reader.line_num}: {len(cells)} cells, but the header has {len(columns)}")
            yield reader.line_num, _row(columns, cells)
    except csv.Error as error:
        raise TaskError(f"{path}, row {reader.line_num}: this is not CSV ({error})") from None


def _content(path: Place) -> bytes:
    try:
        return path.read_bytes()
    except RemoteError as error:
        raise TaskError(f"cannot read the table: {error}") from None
    except OSError as error:
        raise TaskError(f"cannot read the table {path}: {error.strerror}") from None


def _parquet_rows(path: Place) -> Iterator[tuple[int, Row]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra(f"{path}: Parquet needs pyarrow: pip install 'soundmark[train]', or use CSV") from None
    try:
        table = pyarrow.parquet.read_table(path if isinstance(path, Path) else io.BytesIO(_content(path)))
    except (OSError, pyarrow.ArrowException) as error:
        raise TaskError(f"cannot read the table {path}: {str(error).splitlines()[0]}") from None
    columns = _columns(table.column_names, path)
    cells = [column.to_pylist() for name, column in zip(columns, table.columns, strict=True) if name]
    names = [name for name in columns if name]
    for number, values in enumerate(zip(*cells, strict=True), 1):
        yield number, _row(names, values)


def _columns(header: Sequence[str], path: Place) -> list[str]:
    """Our name of every column, or "" for one we have no use for."""
    known = {alias: name for name, aliases in NAMES.items() for alias in aliases}
    columns = [known.get(text.strip().lower(), "") for text in header]
    for name in ("path", "label"):
        if name not in columns:
            found = ", ".join(text.strip() for text in header[:20]) or "none"
            raise TaskError(f"{path}: there is no column {' or '.join(NAMES[name])}; the columns are: {found}")
    twice = [name for name, count in Counter(filter(None, columns)).items() if count > 1]
    if twice:
        raise TaskError(f"{path}: two columns mean {twice[0]} ({' or '.join(NAMES[twice[0]])}); keep one")
    if "fold" in columns and "split" in columns:
        raise TaskError(f"{path}: there are columns fold and split; keep the one that you measure by")
    return columns


def _row(columns: Iterable[str], cells: Iterable[Any]) -> Row:
    return {name: _text(cell) for name, cell in zip(columns, cells, strict=True) if name}


def _text(cell: Any) -> str:
    """A cell as text; spreadsheets and data frames turn folds into 1.0 and holes into NaN."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _filled(row: Row, name: str, where: str) -> str:
    if not row[name]:
        raise TaskError(f"{where}: the {name} is empty; fill it in or take the row out")
    return row[name]


def _seconds(row: Row, where: str) -> tuple[float, float | None]:
    values: list[float | None] = []
    for name in ("start", "end"):
        text = row.get(name, "")
        try:
            values.append(float(text) if text else None)
        except ValueError:
            raise TaskError(f"{where}: {name} should be seconds, not {text!r}") from None
    start, end = values[0] or 0.0, values[1]
    if not (0 <= start < math.inf and (end is None or start < end < math.inf)):
        raise TaskError(f"{where}: start and end should be seconds with 0 <= start < end, not {start:g} and {end}")
    return start, end


def _division(row: Row, divided: str, where: str) -> str:
    if not divided:
        return ""
    text = _filled(row, divided, where)
    if divided == "fold":
        return text.removesuffix(".0")
    if text.lower() not in SPLITS:
        raise TaskError(f"{where}: the split {text!r} is none of train, valid, test")
    return SPLITS[text.lower()]


def _find(folder: Place, text: str, where: str) -> str | None:
    """The clip's path from the manifest's folder, with the suffix it has on disk, or None; or its address."""
    if is_url(text):
        return text
    if not isinstance(folder, Path):
        if text.startswith("/") or PureWindowsPath(text).drive:
            raise TaskError(f"{where}: {text} is a path of one machine; write it from {folder}/ on, or as an address")
        return text.replace("\\", "/").removeprefix("./")
    for candidate in dict.fromkeys((text, text.replace("\\", "/"))):
        try:
            found = find_audio(folder / candidate)
        except (OSError, ValueError):  # too long, or with a NUL, to be a file's name
            return None
        if found is not None:
            return Path(candidate).with_name(found.name).as_posix()
    return None


def _refuse_twice(clips: Sequence[Clip], path: Place) -> None:
    twice = [key for key, count in Counter(clip.key for clip in clips).items() if count > 1]
    if twice:
        listed = ", ".join(twice[:5]) + (", ..." if len(twice) > 5 else "")
        raise TaskError(
            f"{path}: {len(twice)} clips stand in the table more than once: {listed}; keep one row of each "
            "(a clip has one label here)"
        )
