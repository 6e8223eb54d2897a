"""Rows of numbers that stay on disk, for what is larger than memory: read by position, a block at a time."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from soundmark.files import cache_dir

BLOCK_BYTES = 16 << 20

Change = Callable[[np.ndarray], np.ndarray]


class Rows:
    """Float32 rows in a temporary file without a name, which is gone with the last view of it.

    A view may have other rows, in another order, and may change them as they are read. Several threads may read.

    Attributes:
        shape: (rows, dim).
        nbytes: what they would take in memory.
    """

    def __init__(self, scratch: _Scratch, dim: int, positions: np.ndarray, change: Change | None = None) -> None:
        self._scratch, self._positions, self._change = scratch, positions, change
        self.shape = len(positions), dim
        self.nbytes = 4 * len(positions) * dim

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray], dim: int) -> Rows:
        """Put blocks of (some, dim) float32 on disk, one after the other.

        The file is in the user's cache: where temporary files are usually kept may be memory.
        """
        scratch, count = _Scratch(), 0
        for block in blocks:
            if block.ndim != 2 or block.shape[1] != dim:
                raise ValueError(f"a block of shape {block.shape} among rows of {dim}")
            scratch.file.write(np.ascontiguousarray(block, "<f4").data)
            count += len(block)
        scratch.file.flush()
        return cls(scratch, dim, np.arange(count))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """(some, dim) rows by positions, a mask or a slice; (dim,) one row by its position."""
        wanted = self._positions[index]
        found = self._read(np.atleast_1d(wanted))
        found = found if self._change is None else self._change(found)
        row: np.ndarray = found[0] if np.ndim(wanted) == 0 else found
        return row

    def subset(self, positions: Any) -> Rows:
        """A view of these rows, in this order."""
        return Rows(self._scratch, self.shape[1], self._positions[np.asarray(positions, dtype=np.int64)], self._change)

    def changed(self, change: Change) -> Rows:
        """A view whose rows are changed as they are read; `change` takes and gives (some, dim)."""
        before = self._change
        both = change if before is None else lambda rows: change(before(rows))
        return Rows(self._scratch, self.shape[1], self._positions, both)

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in order, (some, dim) at a time."""
        step = max(1, BLOCK_BYTES // (4 * max(1, self.shape[1])))
        for low in range(0, len(self), step):
            yield self[low : low + step]

    def _read(self, wanted: np.ndarray) -> np.ndarray:
        found = np.empty((len(wanted), self.shape[1]), np.float32)
        if not len(wanted):
            return found
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        # Rows that follow each other are read at once.
        runs = np.flatnonzero(np.diff(ascending, prepend=ascending[:1] - 2) != 1)
        for low, high in zip(runs, [*runs[1:], len(order)], strict=True):
            some = np.frombuffer(self._bytes(int(ascending[low]), int(high - low)), "<f4")
            found[order[low:high]] = some.reshape(-1, self.shape[1])
        return found

    def _bytes(self, first: int, count: int) -> bytes:
        width = 4 * self.shape[1]
        if hasattr(os, "pread"):
            return os.pread(self._scratch.file.fileno(), count * width, first * width)
        with self._scratch.lock:  # Windows: the place in the file is shared
            self._scratch.file.seek(first * width)
            content: bytes = self._scratch.file.read(count * width)
            return content


class _Scratch:
    """A temporary file that is closed, and so gone, when nobody refers to it any more."""

    def __init__(self) -> None:
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        self.file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the next line
        self._closed = weakref.finalize(self, self.file.close)
        self.lock = threading.Lock()
