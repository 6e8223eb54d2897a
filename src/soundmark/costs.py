"""What an answer costs: time and memory for one clip, and the numbers that encoder and head consist of.

Clips are taken one at a time from memory, already decoded and at the encoder's rate, as a listening device has them.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch.utils._python_dispatch import TorchDispatchMode

from soundmark import embeddings, heads
from soundmark.encoders.fused import learnt
from soundmark.encoders.vectors import Vectors
from soundmark.errors import SoundmarkError
from soundmark.head_graphs import has_graph, head_graph
from soundmark.learners import Heard
from soundmark.rows import Rows
from soundmark.tasks.base import Task

CLIPS = 5  # that the time of an encoder is taken on
ROWS = 50  # that the time of a head is taken on
_MEGABYTE = 1e6


def of_encoder(task: Task, heard: Heard, clips: int = CLIPS) -> dict[str, Any]:
    """What it costs to encode a clip of a task, and the encoder's parameters.

    Args:
        task: whose clips are encoded, spread over all of it; of long ones, a piece.
        heard: encoder and pooling.
        clips: how many.

    Returns:
        `encoder_parameters`; `encode_ms`, the median time from waveform to vector; `encode_mb`, the most that tensors
        take at a time on the way, weights apart, in megabytes. What cannot be known, as within another engine or where
        no clip can be read, is None.
    """
    numbers = learnt(heard.encoder)
    waveforms = []
    for i in np.unique(np.linspace(0, len(task.clips) - 1, min(clips, len(task.clips))).astype(int)):
        try:
            waveforms.append(torch.from_numpy(embeddings.beginning(task, task.clips[i], heard.encoder))[None])
        except SoundmarkError:  # the protocol lists the clips that cannot be read
            continue
    if not waveforms:
        return {"encoder_parameters": numbers, "encode_ms": None, "encode_mb": None}
    module = Vectors(heard.encoder, heard.pooling).eval()
    seconds = []
    with torch.inference_mode():
        with Watch() as watch:
            module(waveforms[0])
        for waveform in waveforms:
            started = time.perf_counter()
            module(waveform)
            seconds.append(time.perf_counter() - started)
    hidden = heard.encoder.traceable is not heard.encoder  # another engine computes, out of sight
    return {
        "encoder_parameters": learnt(heard.encoder.traceable) if hidden else numbers,
        "encode_ms": round(1000 * median(seconds), 3),
        "encode_mb": None if hidden or not watch.peak else round(watch.peak / _MEGABYTE, 3),
    }


def of_head(estimator: Any, vectors: np.ndarray | Rows, classes: int, rows: int = ROWS) -> dict[str, Any]:
    """What it costs to classify a vector, and the head's parameters.

    Args:
        estimator: a fitted head.
        vectors: (clips, dim) float32, of which some are classified.
        classes: how many there are.
        rows: how many vectors.

    Returns:
        `head_parameters`, the fractions that its graph in a model file holds, its scaler's among them (of trees the
        thresholds and leaves, of nearest neighbours their vectors); None where it has no graph. `head_ms`, the median
        time for one vector.
    """
    seconds = []
    with heads.one_thread():
        for row in vectors[:rows]:
            started = time.perf_counter()
            estimator.predict_proba(row[None])
            seconds.append(time.perf_counter() - started)
    return {
        "head_parameters": _parameters(estimator, classes),
        "head_ms": round(1000 * median(seconds), 4) if seconds else None,
    }


def _parameters(estimator: Any, classes: int) -> int | None:
    if not has_graph(estimator):
        return None
    floats = [each for each in head_graph(estimator, classes).constants if each.data_type == TensorProto.FLOAT]
    return int(sum(np.prod(each.dims) for each in floats))


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches what tensors are made within it, and how many bytes of them there are at a time.

    It sees tensors and not the workspaces within an operation, so its numbers are the same on every machine.

    Attributes:
        peak: the most bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # What comes from outside, such as weights, is known already, and so are views of it.
        self._known.update(storage.data_ptr() for storage in _storages(args))
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made if isinstance(made, tuple | list) else (made,)):
            self._see(storage)
        return made

    def _see(self, storage: torch.UntypedStorage) -> None:
        # A view shares its storage, which is freed with the last of them: what is counted is the memory, once.
        place, size = storage.data_ptr(), storage.nbytes()
        if not size or place in self._known:
            return
        self._known.add(place)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._now -= size


def _storages(values: Iterable[Any]) -> Iterator[torch.UntypedStorage]:
    for value in values:
        for each in value if isinstance(value, tuple | list) else (value,):
            # Weights that were laid out for oneDNN have no storage to be seen.
            if isinstance(each, torch.Tensor) and each.layout is torch.strided:
                yield each.untyped_storage()
