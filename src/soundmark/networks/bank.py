"""A task's clips in memory as a network hears them, computed once and shared by every training on them."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from soundmark import audio
from soundmark.audio import WindowPolicy
from soundmark.audio.waveforms import samples_of
from soundmark.errors import AudioError, SoundmarkError
from soundmark.files import file_digest
from soundmark.networks.front import Front
from soundmark.tasks.base import Clip, Task

IN_MEMORY = 8 << 30  # bytes; beyond, the clips lie in a file that the system pages in and out
_AHEAD = 64  # clips in work at once


@dataclass
class Bank:
    """Clips one after the other along the first axis: rows of levels, or samples.

    Attributes:
        values: (rows, bands) float32 levels, or (rows,) samples.
        starts, lengths: (clips,) int64, where each clip's rows begin and how many they are.
        places: the position of every clip that could be read.
        bad: the clips that could not, and why.
        crop: rows that a training step sees of a clip; none has fewer.
        policy: how the clips were made input.
        digest: of the clips' files, in the task's order; equal ones are heard alike.
    """

    values: Tensor = field(repr=False)
    starts: Tensor = field(repr=False)
    lengths: Tensor = field(repr=False)
    places: dict[Clip, int] = field(repr=False)
    bad: dict[Clip, str] = field(repr=False)
    crop: int
    policy: WindowPolicy
    digest: str

    def positions(self, clips: Sequence[Clip]) -> Tensor:
        """(n,) int64 positions of these clips."""
        return torch.tensor([self.places[clip] for clip in clips], dtype=torch.int64)

    def crops(self, positions: Tensor, rng: torch.Generator, device: torch.device) -> Tensor:
        """(n, crop, ...) a stretch of each clip, from anywhere in it."""
        room = self.lengths[positions] - self.crop + 1
        first = (torch.rand(len(positions), generator=rng, dtype=torch.float64) * room).long()
        return self._taken(self.starts[positions] + first, self.crop, device)

    def whole(self, positions: Tensor, device: torch.device) -> Tensor:
        """(n, rows, ...) clips of one length, whole."""
        return self._taken(self.starts[positions], int(self.lengths[positions[0]]), device)

    def alike(self, positions: Tensor, most: int) -> Iterator[Tensor]:
        """The positions in batches of clips of one length, each of about as many rows as `most` crops."""
        for length in torch.unique(self.lengths[positions]):
            same = positions[self.lengths[positions] == length]
            yield from torch.split(same, max(1, most * self.crop // int(length)))

    def _taken(self, first: Tensor, rows: int, device: torch.device) -> Tensor:
        index = first[:, None] + torch.arange(rows)
        return self.values[index.to(self.values.device)].to(device, non_blocking=True)

    def on(self, device: torch.device) -> Bank:
        """The bank with its values on a device, where they take no more than half of its free memory."""
        if device.type != "cuda" or self.values.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
            return self
        moved = self.values.to(device)
        return replace(self, values=moved)


def bank(
    task: Task, front: Front | None, sample_rate: int, policy: WindowPolicy, *,
    keep: bool, strict: bool, progress: bool,
) -> Bank:  # fmt: skip
    """Read every clip of a task, filled up by the policy, and hear it through the front end.

    Args:
        task: the clips.
        front: what hears; None, or `keep=False`, leaves waveforms.
        sample_rate: Hz.
        policy: its `min_seconds` is how long a crop is.
        keep: whether levels are kept, and not waveforms.
        strict: raise on a clip that cannot be read.
        progress: show a bar on a terminal.

    Raises:
        AudioError: in `strict` mode, for a clip that cannot be read.
        SoundmarkError: if no clip at all could be read.
    """
    crop = samples_of(max(policy.min_seconds, policy.window_seconds), sample_rate)
    hears = front if keep else None

    def one(clip: Clip) -> Tensor | str:
        try:
            samples, _ = audio.read(task.path(clip), sample_rate, start=clip.start, end=clip.end)
            waveform = torch.from_numpy(np.ascontiguousarray(policy.prepare(samples, sample_rate)))
        except SoundmarkError as error:
            return str(error)
        with torch.inference_mode():
            heard = waveform if hears is None else hears(waveform[None])[0]
        if not bool(torch.isfinite(heard).all()):
            return f"{task.path(clip)} is far beyond [-1, 1]: scale it down"
        return heard

    clips = tuple(dict.fromkeys(task.clips))
    rows = crop if hears is None else 1 + crop // hears.hop
    shape = () if hears is None else (hears.bands,)
    store = _Store(shape, len(clips) * rows)
    places: dict[Clip, int] = {}
    bad: dict[Clip, str] = {}
    title = f"{task.full_name}: {'waveforms' if hears is None else 'spectrograms'}"
    with tqdm(total=len(clips), desc=title, unit="clip", disable=None if progress else True) as bar:
        for clip, heard in zip(clips, _each(one, clips), strict=True):
            if isinstance(heard, str):
                bad[clip] = heard
                if strict:
                    raise AudioError(heard)
            else:
                places[clip] = len(places)
                store.add(heard)
            bar.update()
    if not places:
        first = next(iter(bad.values()), "the task has no clips")
        raise SoundmarkError(f"no clip of {task.full_name} could be read; the first says: {first}")
    lengths = torch.tensor(store.lengths)
    return Bank(
        store.values(), lengths.cumsum(0) - lengths, lengths, places, bad, min(rows, int(lengths.min())), policy,
        _digest(task, tuple(places)),
    )  # fmt: skip


def _digest(task: Task, clips: Sequence[Clip]) -> str:
    """By the files' content, not by what is heard in it, which differs in the last bit from machine to machine."""
    paths = list(dict.fromkeys(task.path(clip) for clip in clips))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(file_digest, paths))
    return hashlib.blake2b("".join(found).encode(), digest_size=16).hexdigest()


def _each(work: Callable[[Clip], Tensor | str], clips: Sequence[Clip]) -> Iterator[Tensor | str]:
    threads = os.cpu_count() or 1
    # One thread of PyTorch's own per worker: the clips are the parallelism.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = iter(clips)
        while some := list(islice(waiting, _AHEAD)):
            yield from pool.map(work, some)


class _Store:
    """Rows that come one clip at a time, in memory or, where there are many, in an unnamed file."""

    def __init__(self, shape: tuple[int, ...], expected: int) -> None:
        self.shape, self.used, self.lengths = shape, 0, list[int]()
        self.room = max(1, expected)
        self.file: Any = None
        if 4 * self.room * math.prod(shape) > IN_MEMORY:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the values
        self.held = self._made(self.room)

    def _made(self, rows: int) -> np.ndarray:
        if self.file is None:
            return np.empty((rows, *self.shape), np.float32)
        self.file.truncate(4 * rows * math.prod(self.shape))
        return np.memmap(self.file, np.float32, "r+", shape=(rows, *self.shape))

    def add(self, rows: Tensor) -> None:
        end = self.used + len(rows)
        if end > self.room:
            self.room = max(end, self.room + self.room // 4)
            grown = self._made(self.room)
            if self.file is None:
                grown[: self.used] = self.held[: self.used]
            self.held = grown
        self.held[self.used : end] = rows.numpy()
        self.lengths.append(len(rows))
        self.used = end

    def values(self) -> Tensor:
        if self.file is not None:
            self.file.close()  # what is mapped stays so
        return torch.from_numpy(self.held[: self.used])
