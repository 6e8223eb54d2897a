"""`soundmark.Embed`: an encoder as a scikit-learn transformer, so that anyone's pipeline can start with recordings.

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from soundmark import Embed

recognise = make_pipeline(Embed("logmel", pooling="mean+std"), LogisticRegression()).fit(paths, labels)
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from soundmark import audio, embeddings, encoders, spool
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.encoders.vectors import Vectors
from soundmark.errors import AudioError
from soundmark.tasks.base import Clip, Task

HELD = 2  # encoders kept loaded, so that the clones of a cross-validation share one


class Embed(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """One vector per recording, from a frozen encoder: there is nothing to fit.

    Args:
        encoder: name in the grammar, such as `logmel?bands=128`.
        pooling: statistics over time joined with `+`, such as `mean+std`.
        workers: threads; by default one per core.
        cache: take vectors of files from the user's cache, and keep them there.

    Raises:
        SpecError: when it is first used, for an unknown encoder or pooling.
    """

    def __init__(
        self, encoder: str = "logmel", pooling: str = "mean", workers: int | None = None, cache: bool = True
    ) -> None:
        self.encoder = encoder
        self.pooling = pooling
        self.workers = workers
        self.cache = cache

    def fit(self, X: Any, y: Any = None) -> Embed:
        """Do nothing but see whether encoder and pooling can be had."""
        Pooling(self.pooling).output_dim(_loaded(self.encoder).dim)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Vectors of recordings, (n, dim) float32.

        Args:
            X: paths, or (array, sample rate) pairs with arrays (samples,) or (samples, channels), or both; a list, an
                array of paths, or a table of one column.

        Raises:
            AudioError: for the first recording that cannot be read, which it names.
        """
        recordings = _listed(X)
        encoder, pooling = _loaded(self.encoder), Pooling(self.pooling).eval()
        vectors = np.empty((len(recordings), pooling.output_dim(encoder.dim)), dtype=np.float32)
        files = [i for i, each in enumerate(recordings) if isinstance(each, str)]
        if files:
            clips = tuple(Clip(recordings[i], ("",)) for i in files)
            task = Task("recordings", Path(), clips, ("",), protocol="", rounds=())
            known = embeddings.embed(
                task, encoder, self.pooling, workers=self.workers, cache=self.cache, strict=True, progress=False
            )
            vectors[files] = known.vectors
        for i in set(range(len(recordings))) - set(files):
            try:
                vectors[i] = _vector(recordings[i], Vectors(encoder, pooling))
            except AudioError as error:
                raise AudioError(f"recording {i}: {error}") from None
        return vectors

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the vector's components, (dim,)."""
        encoder = _loaded(self.encoder)
        names = encoder.feature_names or [f"{i:04d}" for i in range(encoder.dim)]
        return np.asarray(Pooling(self.pooling).feature_names(names), dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


@lru_cache(maxsize=HELD)
def _loaded(name: str) -> Encoder:
    return encoders.load(name)


def _listed(X: Any) -> list[Any]:
    """Paths as text and (array, rate) pairs, from whatever held them."""
    if isinstance(X, str | os.PathLike | bytes):
        raise AudioError(f"give a list of recordings, not one ({X!r})")
    values = X.to_numpy() if hasattr(X, "to_numpy") else X
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return [_recording(each, i) for i, each in enumerate(values)]


def _recording(given: Any, i: int) -> Any:
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    if isinstance(given, Sequence) and len(given) == 2 and isinstance(given[0], np.ndarray):
        return given[0], int(given[1])
    raise AudioError(f"recording {i} is {type(given).__name__}: give a path, or an (array, sample rate) pair")


def _vector(recording: tuple[np.ndarray, int], vectors: Vectors) -> np.ndarray:
    """(dim,) vector of samples in memory, as that of a file that holds them."""
    pieces = _features(recording, vectors.encoder)
    first = next(pieces)
    second = next(pieces, None)
    with torch.inference_mode():
        if second is None:
            vector: np.ndarray = vectors.pool(first)[0].numpy()
        else:
            vector = spool.pooled(vectors, itertools.chain([first, second], pieces))
    if not np.isfinite(vector).all():
        raise AudioError("gives features that are not finite: its samples are far beyond [-1, 1]; scale it down")
    return vector


def _features(recording: tuple[np.ndarray, int], encoder: Encoder) -> Iterator[torch.Tensor]:
    """Features (1, frames, inner) of one piece after another."""
    for piece in audio.windows(recording, encoder.sample_rate, encoder.piece_seconds):
        samples = encoder.policy.prepare(piece.waveform, encoder.sample_rate)
        with torch.inference_mode():
            features = encoder.features(torch.from_numpy(samples)[None])
        yield features  # not from within: the mode would stay on for the caller
