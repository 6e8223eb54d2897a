"""Embeddings as tables for other tools: Parquet or CSV, one row per clip, or one per clip and moment. Small tables."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from soundmark import embeddings
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.errors import AudioError, SoundmarkError
from soundmark.files import atomic_path, write_bytes
from soundmark.tasks.base import Clip, Task

_WRITERS = {".parquet": pyarrow.parquet.ParquetWriter, ".csv": pyarrow.csv.CSVWriter}


def write_vectors(
    task: Task, encoder: Encoder, pooling: str, path: str | os.PathLike[str], *,
    workers: int | None = None, strict: bool = False, cache: bool = True,
) -> tuple[int, dict[Clip, str]]:  # fmt: skip
    """Write one row per clip: clip, label, group, fold, then one column per component of its vector.

    Returns:
        The number of rows, and the clips that could not be read with the reasons.
    """
    _check_suffix(path)
    pool = Pooling(pooling)
    known = embeddings.embed(task, encoder, pooling, workers=workers, strict=strict, cache=cache)
    names = pool.feature_names(_names(encoder))
    table = pa.table(_labels(known.clips) | dict(zip(names, known.vectors.T, strict=True)))
    _write(path, iter([table]))
    return len(known.clips), known.bad


def write_frames(
    task: Task, encoder: Encoder, path: str | os.PathLike[str], *, workers: int | None = None, strict: bool = False
) -> tuple[int, dict[Clip, str]]:
    """Write one row per clip and moment: clip, label, group, fold, time in seconds, then the frame's components.

    The table is written as it is made, so memory does not grow with the task.
    """
    _check_suffix(path)
    bad: dict[Clip, str] = {}
    rows = 0

    def parts() -> Iterator[pa.Table]:
        nonlocal rows
        for clip, start, heard in embeddings.frames(task, encoder, workers=workers):
            if isinstance(heard, str):
                if strict:
                    raise AudioError(heard)
                bad[clip] = heard
                continue
            rows += len(heard)
            times = start + np.arange(len(heard)) * encoder.hop_seconds
            columns: dict[str, Any] = _labels([clip] * len(heard)) | {"time": times}
            yield pa.table(columns | dict(zip(_names(encoder), heard.T, strict=True)))
        if not rows:
            raise SoundmarkError(
                f"no clip of {task.full_name} could be encoded: {next(iter(bad.values()), 'it is empty')}"
            )

    _write(path, parts())
    return rows, bad


def write_rows(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a small table as CSV: numbers with six digits, `true` and `false`, empty where there is nothing to say.

    What is no character in a file's name, and so cannot be written, becomes a question mark.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    write_bytes(path, text.getvalue().encode("utf-8", "replace"))


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return "" if value is None else value
    return f"{value:.6g}" if math.isfinite(value) else ""


def _names(encoder: Encoder) -> Sequence[str]:
    return encoder.feature_names or [f"{i:04d}" for i in range(encoder.dim)]


def _labels(clips: Iterable[Clip]) -> dict[str, Any]:
    listed = list(clips)
    return {
        "clip": [clip.key for clip in listed],
        "label": ["|".join(clip.labels) for clip in listed],
        "group": [clip.group for clip in listed],
        "fold": [clip.fold for clip in listed],
    }


def _check_suffix(path: str | os.PathLike[str]) -> None:
    if Path(path).suffix.lower() not in _WRITERS:
        raise SoundmarkError(
            f"cannot tell the format of {path}: end its name in .parquet or .csv, or in / for a folder of partitions"
        )


def _write(path: str | os.PathLike[str], parts: Iterator[pa.Table]) -> None:
    with atomic_path(path) as temporary:
        first = next(parts)
        with _WRITERS[Path(path).suffix.lower()](str(temporary), first.schema) as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(part)
