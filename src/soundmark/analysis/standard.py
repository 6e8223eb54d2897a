"""Vectors made comparable: every component on one scale, and lengths that do not count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_CONSTANT = 1e-6  # a deviation below this share of the component's size is float32's rounding


@dataclass(frozen=True)
class Scale:
    """What vectors are standardised by.

    Attributes:
        mean: (dim,) float64.
        deviation: (dim,) float64; infinite for a component that does not vary, which therefore says nothing.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (n, dim) with mean 0 and standard deviation 1 in every component, (n, dim) float64."""
        scaled: np.ndarray = (vectors - self.mean) / self.deviation
        return scaled


def scale_of(*collections: np.ndarray) -> Scale:
    """The mean and deviation over the finite vectors of all collections, each counting the same however large it is.

    Args:
        collections: (n, dim) each.
    """
    finite = [each[np.isfinite(each).all(axis=1)].astype(np.float64) for each in collections]
    finite = [each for each in finite if len(each)]
    if not finite:
        dim = collections[0].shape[1]
        return Scale(np.zeros(dim), np.full(dim, np.inf))
    mean = np.mean([each.mean(axis=0) for each in finite], axis=0)
    deviation = np.sqrt(np.mean([np.square(each - mean).mean(axis=0) for each in finite], axis=0))
    size = np.max([np.abs(each).max(axis=0) for each in finite], axis=0)
    return Scale(mean, np.where(deviation > _CONSTANT * size, deviation, np.inf))


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
