"""Pooling recordings of any length in constant memory: frames wait on disk, component by component."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from soundmark.encoders.pooling import Pooling
from soundmark.encoders.vectors import Vectors

_BLOCK_BYTES = 16 << 20  # of frames in memory at once


def pooled(vectors: Vectors, pieces: Iterable[Tensor]) -> np.ndarray:
    """The vector of one recording, (dim of the vector,) float32, as if all its features stood in memory.

    Args:
        vectors: the encoder and the pooling.
        pieces: features (1, frames, inner) of one piece after another.
    """
    encoder, pooling = vectors.encoder, vectors.pooling
    total, frames, peak = None, 0, None
    with Spool(encoder.dim) as spool, torch.inference_mode():
        for features in pieces:
            if set(pooling.names) != {"scene"}:
                spool.add(encoder.moments(features)[0].numpy())
            part, high = features.double().sum(1), features.amax(1)
            total, peak = (part, high) if total is None or peak is None else (total + part, torch.maximum(peak, high))
            frames += features.shape[1]
        if total is None or peak is None:
            raise ValueError("a recording without pieces has no vector")
        scene = encoder.scene((total / frames).float(), peak)
        parts = [
            scene[0].numpy() if name == "scene" else spool.covariance() if name == "cov" else spool.statistic(name)
            for name in pooling.names
        ]
    return np.concatenate(parts)


class Spool:
    """Frames of one recording, in a temporary file that is gone with it.

    Args:
        dim: components of a frame.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.counts: list[int] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, frames: np.ndarray) -> None:
        """Keep (frames, dim) more."""
        self._file.write(np.ascontiguousarray(frames.T, np.float32).tobytes())
        self.counts.append(len(frames))

    def statistic(self, name: str) -> np.ndarray:
        """One statistic of every component over the whole recording, as `Pooling` computes it."""
        pool = Pooling(name)
        rows = pool.output_dim(1)  # modulation gives several numbers of a component
        found = np.empty((rows, self.dim), np.float32)
        step = max(1, _BLOCK_BYTES // (4 * sum(self.counts)))
        for low in range(0, self.dim, step):
            high = min(low + step, self.dim)
            block = torch.from_numpy(self._columns(low, high).T[None])
            with torch.inference_mode():
                found[:, low:high] = pool(block)[0].numpy().reshape(rows, high - low)
        return found.reshape(-1)

    def covariance(self) -> np.ndarray:
        """Upper triangle of the covariance of all frames."""
        centre = (self.statistic("mean") if self.counts else np.zeros(self.dim)).astype(np.float64)
        square = np.zeros((self.dim, self.dim))
        position = 0
        for count in self.counts:
            self._file.seek(position)
            piece = np.frombuffer(self._file.read(4 * count * self.dim), np.float32).reshape(self.dim, count)
            apart = piece - centre[:, None]
            square += apart @ apart.T
            position += 4 * count * self.dim
        found: np.ndarray = (square / sum(self.counts))[np.triu_indices(self.dim)].astype(np.float32)
        return found

    def _columns(self, low: int, high: int) -> np.ndarray:
        """(high - low, frames) of the components from `low` to `high`."""
        rows, position = [], 0
        for count in self.counts:
            self._file.seek(position + 4 * count * low)
            rows.append(np.frombuffer(self._file.read(4 * count * (high - low)), np.float32).reshape(-1, count))
            position += 4 * count * self.dim
        return np.concatenate(rows, axis=1)
