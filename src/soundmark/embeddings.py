"""A task encoded once: decoded, resampled, encoded and pooled on every core, cached, and resumed where it stopped.

The unit of work is a *batch* of clips that one thread takes from file to vectors. Decoding, resampling and the
encoder all release Python's lock, so threads overlap across cores without processes, and every finished batch is
committed to the cache before the next one counts: a kill loses at most the batches under way.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from tqdm import tqdm

from soundmark import audio, encoders, remote, spool
from soundmark.ahead import as_done, in_order
from soundmark.audio import Source
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.encoders.vectors import Vectors
from soundmark.errors import AudioError, SoundmarkError
from soundmark.files import file_digest
from soundmark.store import VectorStore
from soundmark.tasks.base import Clip, Task

BATCH_CLIPS = 8
HASHED_AT_ONCE = 32  # a clip is hashed so quickly that handing it to a thread would cost as much
# Where clips of equal length are put together: how many are decoded ahead, how many may wait for others of their
# length, and how many batches may wait for a core.
DECODED_AHEAD, MOST_WAITING, BATCHES_AHEAD = 16, 48, 4
# Below this size a file is read without asking for its length first: at any usual bit rate it is not much longer than
# the longest piece.
SMALL_FILE_BYTES_A_SECOND = 1 << 14


@dataclass(frozen=True)
class Embeddings:
    """One vector per clip.

    Attributes:
        clips: the clips that could be read, in the task's order.
        vectors: (clips, dim) float32.
        bad: the clips that could not be read, and why.
    """

    clips: tuple[Clip, ...]
    vectors: np.ndarray
    bad: dict[Clip, str] = field(default_factory=dict)


def embed(
    task: Task,
    encoder: str | Encoder,
    pooling: str,
    *,
    workers: int | None = None,
    cache: bool = True,
    strict: bool = False,
    progress: bool = True,
) -> Embeddings:
    """Encode every clip of a task and pool its frames into one vector.

    Args:
        task: the clips; one that stands twice is encoded once.
        encoder: a name in the grammar (`logmel?bands=128`, `logmel+mfcc`) or an encoder.
        pooling: statistics over time joined with `+`, such as `mean+std+max`. Each is cached on its own, so
            `mean` after `mean+std` costs nothing.
        workers: threads; by default one per core.
        cache: keep vectors in the user's cache, and take them from there.
        strict: raise on the first clip that cannot be read, instead of listing it in `bad`.
        progress: show a bar on a terminal.

    Raises:
        AudioError: in `strict` mode, for a clip that cannot be read.
        SoundmarkError: if no clip at all could be read.
    """
    module = encoders.load(encoder) if isinstance(encoder, str) else encoder
    with worker_threads(workers) as threads:
        found, bad = outcomes(task, module, pooling, threads, cache=cache, strict=strict, progress=progress)
    return _assembled(task, found, bad, strict)


def outcomes(
    task: Task,
    module: Encoder,
    pooling: str,
    threads: ThreadPoolExecutor,
    *,
    cache: bool = True,
    strict: bool = False,
    progress: bool = True,
) -> tuple[dict[Clip, np.ndarray], dict[Clip, str]]:
    """The vectors of the clips that could be read, and why the others could not. Either may be empty.

    Args:
        task, pooling, cache, strict, progress: see `embed`.
        module: the encoder.
        threads: see `worker_threads`; several calls may share them.

    Raises:
        AudioError: in `strict` mode, for a clip that cannot be read.
    """
    pool = Pooling(pooling).eval()
    widths = [Pooling(part).output_dim(module.dim) for part in pool.names]
    unique = tuple(dict.fromkeys(task.clips))
    found: dict[Clip, np.ndarray] = {}
    bad: dict[Clip, str] = {}
    keys: dict[Clip, str] = {}
    with VectorStore.open(fingerprint(module) if cache else None) as store:
        if cache:
            some = [unique[i : i + HASHED_AT_ONCE] for i in range(0, len(unique), HASHED_AT_ONCE)]
            for clips, answers in zip(some, threads.map(lambda part: _content_keys(task, part), some), strict=True):
                for clip, (key, error) in zip(clips, answers, strict=True):
                    if error:
                        bad[clip] = error
                    else:
                        keys[clip] = key
            found = _from_store(store, keys, pool.names)
        missing = [clip for clip in unique if clip not in found and clip not in bad]
        jobs = [tuple(missing[i : i + BATCH_CLIPS]) for i in range(0, len(missing), BATCH_CLIPS)]
        with tqdm(
            total=len(missing), desc=f"{task.full_name}: {module.spec}", unit="clip", disable=_quiet(progress)
        ) as bar:
            answered = (
                _collected(threads, task, missing, module, pool)
                if module.batched
                else as_done(threads, lambda job: _encode_batch(task, job, module, pool), jobs)
            )
            for rows in answered:
                # Copied here, by this thread: rows kept in the workers' heaps would keep those from ever shrinking.
                good = {clip: row.copy() for clip, row in rows.items() if isinstance(row, np.ndarray)}
                found |= good
                bad |= {clip: row for clip, row in rows.items() if isinstance(row, str)}
                if cache:
                    store.put((keys[c], _split(row, pool.names, widths)) for c, row in good.items())
                if strict and bad:
                    raise AudioError(next(iter(bad.values())))
                bar.update(len(rows))
    return found, bad


def frames(
    task: Task, encoder: str | Encoder, *, workers: int | None = None, progress: bool = True
) -> Iterator[tuple[Clip, float, np.ndarray | str]]:
    """Every clip with its frames, (frames, dim) float32, in the task's order; an error's text where it cannot be read.

    A long recording comes in several pieces; the number in the middle is the second of the file with which the frames
    begin. Frames are not cached, and only a few clips are in memory at any time.
    """
    module = encoders.load(encoder) if isinstance(encoder, str) else encoder

    def whole(clip: Clip) -> np.ndarray | str | None:
        try:
            with remote.held(task.path(clip)) as source:
                long = _is_long(source, clip, module)
        except SoundmarkError as error:
            return str(error)
        return None if long else _encode_batch(task, (clip,), module, None)[clip]

    with (
        worker_threads(workers) as threads,
        tqdm(
            total=len(task.clips), desc=f"{task.full_name}: {module.spec}", unit="clip", disable=_quiet(progress)
        ) as bar,
    ):
        for clip, heard in zip(task.clips, in_order(threads, whole, task.clips), strict=True):
            if heard is not None:
                yield clip, clip.start, heard
            else:
                yield from _frames_of_long(task, clip, module)
            bar.update()


def _frames_of_long(task: Task, clip: Clip, encoder: Encoder) -> Iterator[tuple[Clip, float, np.ndarray | str]]:
    try:
        for start, features in _features_of_long(task.path(clip), clip, encoder):
            with torch.inference_mode():
                rows = encoder.moments(features)[0].numpy()
            yield clip, start, _finite(task, clip, rows)
    except SoundmarkError as error:
        yield clip, clip.start, str(error)


def waveform(task: Task, clip: Clip, encoder: Encoder) -> np.ndarray:
    """The clip as the encoder hears it: mono at its rate, filled to its shortest input by the window policy."""
    return _waveform(task.path(clip), clip, encoder)


def _waveform(source: Source, clip: Clip, encoder: Encoder) -> np.ndarray:
    samples, _ = audio.read(source, encoder.sample_rate, start=clip.start, end=clip.end)
    return encoder.policy.prepare(samples, encoder.sample_rate)


def beginning(task: Task, clip: Clip, encoder: Encoder) -> np.ndarray:
    """`waveform` of a clip, or of its first piece where it is too long to be encoded at once."""
    with remote.held(task.path(clip)) as source:
        if _is_long(source, clip, encoder):
            clip = replace(clip, end=clip.start + encoder.piece_seconds)
        return _waveform(source, clip, encoder)


def worker_threads(workers: int | None) -> ThreadPoolExecutor:
    """Threads that encode, one per core where nothing else is said. They give the same vectors however many they are.

    Raises:
        SoundmarkError: for fewer than one.
    """
    if workers is not None and workers < 1:
        raise SoundmarkError(f"there must be 1 worker or more, not {workers}")
    count = workers or os.cpu_count() or 1
    # One thread of PyTorch's own per worker: the clips are the parallelism, and nested threads would fight for cores.
    return ThreadPoolExecutor(count, thread_name_prefix="embed", initializer=torch.set_num_threads, initargs=(1,))


def _quiet(progress: bool) -> bool | None:
    return None if progress else True  # None: tqdm shows a bar on a terminal only


def fingerprint(encoder: Encoder) -> str:
    """All that an encoder's vectors depend on, apart from the recordings and the pooling."""
    return f"{encoder.identity}|piece={encoder.piece_seconds:g}|{encoder.policy.to_dict()}"


def _content_keys(task: Task, clips: Sequence[Clip]) -> list[tuple[str, str]]:
    return [_content_key(task, clip) for clip in clips]


def _content_key(task: Task, clip: Clip) -> tuple[str, str]:
    path = task.path(clip)
    try:
        return f"{file_digest(path)}#{clip.start!r}-{clip.end!r}", ""
    except SoundmarkError as error:
        return "", str(error)
    except OSError as error:
        return "", f"cannot read {path}: {error.strerror or error}; check that the file is there and readable"


def _from_store(store: VectorStore, keys: dict[Clip, str], names: Sequence[str]) -> dict[Clip, np.ndarray]:
    rows = store.get(set(keys.values()), names)
    return {
        clip: np.concatenate([rows[key][name] for name in names])
        for clip, key in keys.items()
        if key in rows and all(name in rows[key] for name in names)
    }


def _split(row: np.ndarray, names: Sequence[str], widths: Sequence[int]) -> dict[str, np.ndarray]:
    return dict(zip(names, np.split(row, np.cumsum(widths)[:-1]), strict=True))


def _encode_batch(
    task: Task, clips: Sequence[Clip], encoder: Encoder, pooling: Pooling | None
) -> dict[Clip, np.ndarray | str]:
    """Vectors of some clips (or their frames, without a pooling); a message in place of one that cannot be read."""
    rows: dict[Clip, np.ndarray | str] = {}
    same_length: dict[int, list[tuple[Clip, np.ndarray]]] = {}
    for clip in clips:
        heard, done = _heard(task, clip, encoder, pooling)
        if done:
            rows[clip] = heard
        else:
            same_length.setdefault(len(heard), []).append((clip, heard))
    for length, group in same_length.items():
        most = _most(encoder, length)
        for i in range(0, len(group), most):
            rows |= _encode(task, group[i : i + most], encoder, pooling)
    return {clip: _finite(task, clip, row) for clip, row in rows.items()}


def _heard(task: Task, clip: Clip, encoder: Encoder, pooling: Pooling | None) -> tuple[Any, bool]:
    """A clip's waveform; or, and then True, all there is to say of it: the vector of a long one, or an error's text."""
    try:
        with remote.held(task.path(clip)) as source:
            if pooling and _is_long(source, clip, encoder):
                pieces = (features for _, features in _features_of_long(source, clip, encoder))
                return spool.pooled(Vectors(encoder, pooling), pieces), True
            return _waveform(source, clip, encoder), False
    except SoundmarkError as error:
        return str(error), True


def _most(encoder: Encoder, samples: int) -> int:
    """Clips of this length that are encoded at once."""
    seconds = encoder.batch_seconds or encoder.piece_seconds
    return max(1, min(BATCH_CLIPS, int(seconds * encoder.sample_rate / samples)))


def _encode(
    task: Task, group: Sequence[tuple[Clip, np.ndarray]], encoder: Encoder, pooling: Pooling | None
) -> dict[Clip, np.ndarray | str]:
    """Vectors (or frames) of clips of equal length."""
    with torch.inference_mode():
        features = encoder.features(torch.from_numpy(np.stack([samples for _, samples in group])))
        heard = Vectors(encoder, pooling).pool(features) if pooling else encoder.moments(features)
    rows = zip((clip for clip, _ in group), heard.numpy(), strict=True)
    return {clip: _finite(task, clip, row) for clip, row in rows}


def _collected(
    threads: ThreadPoolExecutor, task: Task, clips: Sequence[Clip], encoder: Encoder, pooling: Pooling
) -> Iterator[dict[Clip, np.ndarray | str]]:
    """Vectors of every clip, those of equal length together, whatever stands between them in the task.

    A small network takes half the time for eight clips at once, and recordings differ in length by a few samples. The
    same clips are put together whatever the threads do.
    """
    waiting: dict[int, list[tuple[Clip, np.ndarray]]] = {}
    under_way: deque[Future[dict[Clip, np.ndarray | str]]] = deque()

    def begin(length: int) -> None:
        under_way.append(threads.submit(_encode, task, waiting.pop(length), encoder, pooling))

    try:
        for clip, (heard, final) in zip(
            clips,
            in_order(threads, lambda clip: _heard(task, clip, encoder, pooling), clips, DECODED_AHEAD),
            strict=True,
        ):
            if final:
                yield {clip: _finite(task, clip, heard)}
            else:
                waiting.setdefault(len(heard), []).append((clip, heard))
                if len(waiting[len(heard)]) >= _most(encoder, len(heard)):
                    begin(len(heard))
                elif sum(map(len, waiting.values())) > MOST_WAITING:
                    begin(max(waiting, key=lambda length: len(waiting[length])))
            while len(under_way) > BATCHES_AHEAD:
                yield under_way.popleft().result()
            done = [future for future in under_way if future.done()]
            for future in done:
                under_way.remove(future)
                yield future.result()
        for length in list(waiting):
            begin(length)
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


def _finite(task: Task, clip: Clip, row: np.ndarray | str) -> np.ndarray | str:
    """What was found, or a message where it is no numbers: float files may hold samples whose power is infinite."""
    if isinstance(row, str) or np.isfinite(row).all():
        return row
    return f"{task.path(clip)} gives features that are not finite: its samples are far beyond [-1, 1]; scale it down"


def _is_long(source: Path | BinaryIO, clip: Clip, encoder: Encoder) -> bool:
    """Whether the clip is too long to be encoded at once."""
    if clip.end is not None:
        return clip.end - clip.start > encoder.piece_seconds
    try:
        size = source.stat().st_size if isinstance(source, Path) else source.seek(0, os.SEEK_END)
        if size <= SMALL_FILE_BYTES_A_SECOND * encoder.piece_seconds:
            return False
    except OSError:
        return False  # the read that follows says what is wrong
    return audio.info(source).duration - clip.start > encoder.piece_seconds


def _features_of_long(source: Source, clip: Clip, encoder: Encoder) -> Iterator[tuple[float, torch.Tensor]]:
    """Features (1, frames, inner) of one piece after another, each with the second of the file it begins at."""
    for piece in audio.windows(source, encoder.sample_rate, encoder.piece_seconds, start=clip.start, end=clip.end):
        samples = encoder.policy.prepare(piece.waveform, encoder.sample_rate)
        with torch.inference_mode():
            features = encoder.features(torch.from_numpy(samples)[None])
        yield piece.start, features


def _assembled(task: Task, found: dict[Clip, np.ndarray], bad: dict[Clip, str], strict: bool) -> Embeddings:
    if strict and bad:
        raise AudioError(next(iter(bad.values())))
    if not found:
        first = next(iter(bad.values()), "the task has no clips")
        raise SoundmarkError(f"no clip of {task.full_name} could be encoded; the first says: {first}")
    clips = tuple(clip for clip in task.clips if clip in found)
    return Embeddings(clips, np.stack([found[clip] for clip in clips]), bad)
