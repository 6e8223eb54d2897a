"""Vectors that lie in a folder of partitions (see `soundmark.partitions`), read: in memory, or row by row from disk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from soundmark.embeddings import fingerprint
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.errors import ResultsError, SoundmarkError
from soundmark.files import data_digest
from soundmark.rows import Rows
from soundmark.store import FORMAT
from soundmark.tasks.base import Clip, Task

ABOUT = "_soundmark.json"  # readers of Parquet folders pass over names that begin so
LAYOUT = 1  # raise it when a partition's rows are written differently
ASKED = ("task", "encoder", "identity", "pooling", "clips", "digest", "part_clips")
"""What tells one folder's question from another's."""

LIMIT = "SOUNDMARK_VECTORS_MB"
DEFAULT_MB = 256
_NAME = re.compile(r"part-\d{5,}\.parquet")


def most_bytes() -> int:
    """Above how many bytes the vectors of a task stay on disk: `SOUNDMARK_VECTORS_MB`, or 256 MB.

    Raises:
        SoundmarkError: if that is no number.
    """
    text = os.environ.get(LIMIT) or str(DEFAULT_MB)
    try:
        value = float(text)
        if not value >= 0:
            raise ValueError
    except ValueError:
        raise SoundmarkError(f"{LIMIT} should be a number of megabytes, not {text!r}") from None
    return int(min(value, 1e12) * 1e6)


def clips_digest(clips: Sequence[Clip]) -> str:
    """Tells one table of clips from another."""
    return data_digest([[clip.key, clip.labels, clip.group, clip.fold] for clip in clips])


def identity(encoder: Encoder) -> str:
    """Tells one encoder from another: its definition and its weights, and how clips are read."""
    return data_digest([LAYOUT, FORMAT, fingerprint(encoder)])


@dataclass(frozen=True)
class Parted:
    """The vectors of a task's clips.

    Attributes:
        clips: those that could be read, in the task's order, each once.
        vectors: (clips, dim) float32; on disk where they are more than `most_bytes`.
        bad: the clips that could not be read, and why.
    """

    clips: tuple[Clip, ...]
    vectors: np.ndarray | Rows
    bad: dict[Clip, str]


def load(folder: str | os.PathLike[str], task: Task, encoder: Encoder, pooling: str) -> Parted:
    """The vectors of a task from a folder of partitions.

    Args:
        folder: complete.
        task: the one the folder was made for.
        encoder: likewise.
        pooling: statistics that are all in the folder, in any order.

    Raises:
        ResultsError: if the folder holds the vectors of another question, or is not complete.
    """
    known = about(folder)
    clips = tuple(dict.fromkeys(task.clips))
    asked = {"task": task.full_name, "identity": identity(encoder), "digest": clips_digest(clips)}
    wrong = [key for key, value in asked.items() if known[key] != value]
    columns = _columns(str(known["pooling"]), Pooling(pooling), encoder.dim)
    if wrong or columns is None:
        what = {"task": f"of {known['task']}", "identity": f"by {known['encoder']}", "digest": "of other clips"}
        said = [what[key] for key in wrong] or [f"pooled by {known['pooling']}"]
        raise ResultsError(
            f"{folder} holds vectors {' '.join(said)}, not those of {task.full_name} by {encoder.spec}, pooled by "
            f"{Pooling(pooling).text}: name another folder"
        )
    dim, rows = int(known["dim"]), 0
    kept: list[Clip] = []
    bad: dict[Clip, str] = {}
    for table in tables(folder, ["clip", "error"]):
        some = clips[rows : rows + len(table)]
        if [clip.key for clip in some] != table["clip"].to_pylist():
            break
        for clip, error in zip(some, table["error"].to_pylist(), strict=True):
            if error is None:
                kept.append(clip)
            else:
                bad[clip] = error
        rows += len(table)
    if rows != len(clips):
        raise ResultsError(f"{folder} is not complete ({rows} of {len(clips)} clips); run soundmark embed again")
    if not kept:
        raise SoundmarkError(
            f"no clip of {task.full_name} could be encoded; the first says: {next(iter(bad.values()))}"
        )
    blocks = (matrix(table, dim)[:, columns] for table in tables(folder, ["vector"]))
    size = 4 * len(kept) * len(columns)
    vectors = np.concatenate(list(blocks)) if size <= most_bytes() else Rows.of(blocks, len(columns))
    return Parted(tuple(kept), vectors, bad)


def _columns(there: str, asked: Pooling, frame_dim: int) -> np.ndarray | None:
    """Which components of what is there are asked for; None where some are missing."""
    names = Pooling(there).names
    ends = list(accumulate(Pooling(name).output_dim(frame_dim) for name in names))
    spans = {name: np.arange(low, high) for name, low, high in zip(names, [0, *ends], ends, strict=False)}
    if not set(asked.names) <= spans.keys():
        return None
    return np.concatenate([spans[name] for name in asked.names])


def about(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Whose vectors a folder holds.

    Raises:
        ResultsError: if it is none of ours.
    """
    path = Path(folder) / ABOUT
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(content["dim"], int) and all(key in content for key in ASKED)):
            raise TypeError("an entry is missing or of another kind")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ResultsError(
            f"{folder} holds no vectors of ours ({ABOUT}: {reason}); make some with soundmark embed TASK -o {folder}/"
        ) from None
    return dict(content)


def parts(folder: str | os.PathLike[str]) -> list[Path]:
    """The files of a folder's partitions, in order."""
    return sorted((path for path in Path(folder).iterdir() if _NAME.fullmatch(path.name)), key=_number)


def tables(folder: str | os.PathLike[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """One partition after the other.

    Raises:
        ResultsError: for one that is damaged.
    """
    for path in parts(folder):
        try:
            yield parquet.read_table(path, columns=columns and list(columns), partitioning=None)
        except (pa.ArrowException, OSError) as error:
            raise ResultsError(
                f"{path} cannot be read ({str(error).splitlines()[0]}); delete it and run soundmark embed again"
            ) from None


def errors(folder: str | os.PathLike[str]) -> dict[str, str]:
    """The clips of a folder that could not be read, by their keys, and why."""
    found: dict[str, str] = {}
    for table in tables(folder, ["clip", "error"]):
        if table["error"].null_count < len(table):
            rows = zip(table["clip"].to_pylist(), table["error"].to_pylist(), strict=True)
            found |= {clip: error for clip, error in rows if error is not None}
    return found


def matrix(table: pa.Table, dim: int) -> np.ndarray:
    """(good clips, dim) float32: the vectors of a partition's clips that could be read."""
    flat: np.ndarray = table["vector"].combine_chunks().flatten().to_numpy()  # what is null is left out
    return flat.reshape(-1, dim)


def part_path(folder: Path, number: int) -> Path:
    """The file of a partition."""
    return folder / f"part-{number:05d}.parquet"


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("part-"))
