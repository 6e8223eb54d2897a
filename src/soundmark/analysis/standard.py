"""Vectors made comparable: every component on one scale, and lengths that do not count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_CONSTANT = 1e-6  # a deviation below this share of the component's size is float32's rounding


@dataclass(frozen=True)
class Scale:
    """What a collection's vectors are standardised by.

    Attributes:
        mean: (dim,) float64.
        deviation: (dim,) float64; infinite for a component that does not vary, which therefore says nothing.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (n, dim) with mean 0 and standard deviation 1 in every component, (n, dim) float32."""
        return np.asarray((vectors - self.mean) / self.deviation, dtype=np.float32)


def scale_of(vectors: np.ndarray) -> Scale:
    """The mean and deviation of a collection, over its vectors that are finite.

    Args:
        vectors: (n, dim).
    """
    finite = vectors[np.isfinite(vectors).all(axis=1)].astype(np.float64)
    if not len(finite):
        return Scale(np.zeros(vectors.shape[1]), np.full(vectors.shape[1], np.inf))
    deviation = finite.std(axis=0)
    size = np.abs(finite).max(axis=0)
    return Scale(finite.mean(axis=0), np.where(deviation > _CONSTANT * size, deviation, np.inf))


def directions(vectors: np.ndarray) -> np.ndarray:
    """Vectors whose products are cosine similarities, also where a vector has no direction.

    Args:
        vectors: (n, dim), standardised.

    Returns:
        (n, dim + 1) float32 of length 1. A vector of zeros points along the last axis: it is like others of zeros, and
        like nothing else. One with NaN or infinities has length 0, and is like nothing, not even itself.
    """
    good = np.isfinite(vectors).all(axis=1)
    safe = np.where(good[:, None], vectors, 0).astype(np.float32)
    peak = np.abs(safe).max(axis=1, initial=0)  # so that squares neither overflow nor vanish
    safe /= np.where(peak > 0, peak, 1)[:, None]
    length = np.linalg.norm(safe, axis=1)
    safe /= np.where(length > 0, length, 1)[:, None]
    return np.hstack([safe, (good & (length == 0))[:, None].astype(np.float32)])
