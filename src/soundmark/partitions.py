"""Vectors of a task of any size, as a folder of Parquet files that many processes can make and any tool can read.

    DIR/_soundmark.json      whose vectors these are: task, encoder, pooling, and digests of what they depend on
    DIR/part-00000.parquet   the task's first clips, in its order; then the next, and so on

A row per clip: `clip`, `label`, `group`, `fold`, `error` (null where all went well) and `vector`, a list of `dim`
float32 (null where the clip could not be read); a clip that stands twice in the task has one. A partition is the unit
of work: it is encoded by itself, so its numbers do not depend on who encodes it, and its file appears whole or not at
all. What is there is not made again, unless recordings have changed since (their size or time). Memory does not grow
with the task.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from tqdm import tqdm

from soundmark import ahead, embeddings, encoders
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.errors import AudioError, ResultsError, SoundmarkError
from soundmark.files import data_digest, write_bytes, write_json
from soundmark.parted import ABOUT, ASKED, about, clips_digest, errors, identity, part_path
from soundmark.tasks.base import Clip, Task

PART_CLIPS = 256  # full batches: then most encoders give bit for bit what they give of the task as a whole
_STAMP, _QUESTION = b"soundmark.stamp", b"soundmark.question"
_AHEAD = 2  # partitions under way: while the last clips of one are encoded, the next one keeps the other cores busy


@dataclass(frozen=True)
class Job:
    """One partition to be made.

    Attributes:
        number: its place among the partitions.
        clips: its clips.
        stamp: of its recordings' sizes and times; it is made again when they change.
    """

    number: int
    clips: tuple[Clip, ...]
    stamp: str

    def text(self) -> str:
        """The job as JSON: it is paths that travel."""
        return json.dumps([self.number, self.stamp, [list(asdict(clip).values()) for clip in self.clips]])

    @classmethod
    def of(cls, text: str) -> Job:
        """What `text` has written."""
        number, stamp, rows = json.loads(text)
        clips = tuple(Clip(path, tuple(labels), *rest) for path, labels, *rest in rows)
        return cls(number, clips, stamp)


@dataclass(frozen=True)
class Made:
    """One partition, made.

    Attributes:
        number: its place among the partitions.
        content: the bytes of its file.
        bad: the clips that could not be read, by their keys, and why.
    """

    number: int
    content: bytes
    bad: dict[str, str]


@dataclass(frozen=True)
class Order:
    """What a folder needs to be complete.

    Attributes:
        folder: of the partitions.
        task: without its rounds.
        encoder: the module.
        encoder_name: its name as it was given, by which another process loads it.
        pooling: statistics over time.
        about: what stands in the folder's `_soundmark.json`.
        jobs: the partitions that are missing.
        parts: how many there are in all.
    """

    folder: Path
    task: Task
    encoder: Encoder
    encoder_name: str
    pooling: str
    about: dict[str, Any]
    jobs: tuple[Job, ...]
    parts: int

    @property
    def question(self) -> str:
        """A digest that every partition of the folder carries."""
        return data_digest(self.about)


Engine = Callable[[Order], Iterator[Made]]
"""What makes the partitions of an order, in whatever sequence."""


@dataclass(frozen=True)
class Written:
    """What became of an order.

    Attributes:
        rows: clips in the folder.
        parts, made: partitions in it, and those of them that were made now.
        bad: the clips that could not be read, by their keys, and why.
    """

    rows: int
    parts: int
    made: int
    bad: dict[str, str]


def write(
    task: Task,
    encoder: str | Encoder,
    pooling: str,
    folder: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    workers: int | None = None,
    part_clips: int = PART_CLIPS,
    strict: bool = False,
    progress: bool = True,
) -> Written:
    """Make the partitions that a folder lacks.

    Args:
        task: the clips.
        encoder: a name in the grammar, or an encoder (which other processes cannot load).
        pooling: statistics over time joined with `+`.
        folder: new, empty, or begun with the same question.
        engine: what makes partitions; by default the threads of this process. See `soundmark.cluster`.
        workers: threads of this process; by default one per core.
        part_clips: clips of a partition.
        strict: raise on the first clip that cannot be read, instead of giving it a row with its error.
        progress: show a bar on a terminal.

    Raises:
        ResultsError: if the folder holds other things, or the vectors of another question.
        AudioError: in `strict` mode, for a clip that cannot be read.
        SoundmarkError: if no clip at all could be read.
    """
    order = ordered(task, encoder, pooling, folder, part_clips=part_clips)
    here = engine or (lambda order: locally(order, workers))
    with tqdm(
        total=len(task.clips),
        initial=len(task.clips) - sum(len(job.clips) for job in order.jobs),
        desc=f"{task.full_name}: {order.encoder.spec}",
        unit="clip",
        disable=None if progress else True,
    ) as bar:
        sizes = {job.number: len(job.clips) for job in order.jobs}
        for made in here(order):
            if strict and made.bad:
                raise AudioError(next(iter(made.bad.values())))
            write_bytes(part_path(order.folder, made.number), made.content)
            bar.update(sizes.pop(made.number))
        if sizes:
            raise SoundmarkError(f"{order.folder}: {len(sizes)} partitions were not made; run again to make them")
    bad = errors(order.folder)
    if strict and bad:
        raise AudioError(next(iter(bad.values())))
    if len(bad) == len(task.clips):
        first = next(iter(bad.values()), "the task has no clips")
        raise SoundmarkError(f"no clip of {task.full_name} could be encoded; the first says: {first}")
    return Written(len(task.clips), order.parts, len(order.jobs), bad)


def ordered(
    task: Task,
    encoder: str | Encoder,
    pooling: str,
    folder: str | os.PathLike[str],
    *,
    part_clips: int = PART_CLIPS,
) -> Order:
    """Claim a folder for a question, and find what it lacks.

    Raises:
        ResultsError: if it holds other things, or the vectors of another question.
    """
    if part_clips < 1:
        raise SoundmarkError(f"a partition has 1 clip or more, not {part_clips}")
    place = Path(folder)
    module = encoders.load(encoder) if isinstance(encoder, str) else encoder
    pool = Pooling(pooling)
    clips = list(dict.fromkeys(task.clips))
    starts = [*range(0, len(clips), part_clips), len(clips)]
    jobs = [
        Job(number, some := tuple(clips[low:high]), _stamp(task, some))
        for number, (low, high) in enumerate(pairwise(starts))
    ]
    about = {
        "what": "vectors of the clips of a task, written by soundmark embed",
        "task": task.full_name,
        "encoder": module.spec,
        "identity": identity(module),
        "pooling": pool.text,
        "dim": pool.output_dim(module.dim),
        "frame_dim": module.dim,
        "clips": len(clips),
        "digest": clips_digest(clips),
        "part_clips": part_clips,
    }
    order = Order(
        place, replace(task, rounds=()), module, encoder if isinstance(encoder, str) else module.spec, pool.text,
        about, tuple(jobs), len(jobs),
    )  # fmt: skip
    _claim(order)
    return replace(order, jobs=tuple(job for job in jobs if not _is_there(order, job)))


def locally(order: Order, workers: int | None = None) -> Iterator[Made]:
    """Make partitions with the threads of this process."""
    with embeddings.worker_threads(workers) as threads, ThreadPoolExecutor(_AHEAD) as coordinators:
        yield from ahead.as_done(coordinators, lambda job: make(order, job, threads), order.jobs, _AHEAD)


def make(order: Order, job: Job, threads: ThreadPoolExecutor) -> Made:
    """Encode one partition. The numbers do not depend on the number of threads."""
    part = replace(order.task, clips=job.clips)
    found, bad = embeddings.outcomes(part, order.encoder, order.pooling, threads, cache=False, progress=False)
    return packed(order, job, found, bad)


def packed(order: Order, job: Job, found: Mapping[Clip, np.ndarray], bad: Mapping[Clip, str]) -> Made:
    """A partition's file, from the vectors of its clips and the reasons why some have none."""
    dim = int(order.about["dim"])
    flat = np.zeros((len(job.clips), dim), np.float32)
    for row, clip in enumerate(job.clips):
        if clip in found:
            flat[row] = found[clip]
    missing = pa.array([clip in bad for clip in job.clips], pa.bool_())
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), dim, mask=missing)
    columns = {
        "clip": pa.array([clip.key for clip in job.clips], pa.string()),
        "label": pa.array(["|".join(clip.labels) for clip in job.clips], pa.string()),
        "group": pa.array([clip.group for clip in job.clips], pa.string()),
        "fold": pa.array([clip.fold for clip in job.clips], pa.string()),
        "error": pa.array([bad.get(clip) for clip in job.clips], pa.string()),
        "vector": vectors,
    }
    said = {_STAMP: job.stamp.encode(), _QUESTION: order.question.encode()}
    content = io.BytesIO()
    parquet.write_table(
        pa.table(columns).replace_schema_metadata(said),
        content,
        compression="zstd",
        use_dictionary=["label", "group", "fold"],  # vectors hardly repeat, and would only try to
    )
    return Made(job.number, content.getvalue(), {clip.key: text for clip, text in bad.items()})


# --- What is there ---------------------------------------------------------------------------------------------------


def _claim(order: Order) -> None:
    """Write the question into the folder, or find the same one there."""
    place = order.folder
    if place.exists() and not place.is_dir():
        raise ResultsError(f"{place} is a file: name a folder for the partitions")
    there = [name for name in sorted(os.listdir(place)) if not name.startswith(".")] if place.is_dir() else []
    if not there:
        write_json(place / ABOUT, order.about)
        return
    if ABOUT not in there:
        raise ResultsError(f"{place} is not empty and holds no vectors of ours: name a new folder, or empty this one")
    known = about(place)
    differ = [key for key in ASKED if known[key] != order.about[key]]
    if differ:
        told = [key for key in differ if key not in ("digest", "identity")]
        words = {"digest": "its clips", "identity": "the encoder's weights or definition"}
        said = [f"{key} {known[key]!r} there, {order.about[key]!r} asked for" for key in told]
        said += [f"{words[key]} differ" for key in differ if key in words and not told]
        raise ResultsError(
            f"{place} holds the vectors of another question ({'; '.join(said)}): name another folder, or delete it"
        )


def _is_there(order: Order, job: Job) -> bool:
    """Whether a partition was made, of the recordings as they are now. A damaged one was not."""
    path = part_path(order.folder, job.number)
    try:
        said = parquet.read_metadata(path)
    except (pa.ArrowException, OSError):
        return False
    known = said.metadata or {}
    return (
        said.num_rows == len(job.clips)
        and known.get(_QUESTION) == order.question.encode()
        and known.get(_STAMP) == job.stamp.encode()
    )


def _stamp(task: Task, clips: Iterable[Clip]) -> str:
    """Sizes and times of the recordings: enough to notice that one was changed, without reading it.

    Addresses are not asked, which would take a question each.
    """
    said = hashlib.blake2b(digest_size=16)
    for path in dict.fromkeys(task.path(clip) for clip in clips):
        try:
            if not isinstance(path, Path):
                continue
            found = path.stat()
            said.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
        except OSError:
            said.update(b"none\n")
    return said.hexdigest()
