"""How alike sets of vectors are: Fréchet distances, centred kernel alignment, cosines of class means.

Arrays in, numbers out, all of it in float64. What is asked of them is in `soundmark.analysis.similarity`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundmark.errors import SoundmarkError
from soundmark.intervals import Floats, group_index

Ints = NDArray[np.intp]

LEAST_FOR_DEBIASED = 4  # clips: the unbiased estimate divides by n - 3
_CONSTANT = 1e-7  # of its size, a spread that float32 could have made out of nothing
_NO_STRUCTURE = 1e-12  # of a kernel's own HSIC, the same
_CHUNK_CELLS = 4_000_000  # of a kernel matrix held at once


def halves(groups: Sequence[str], draws: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Divide clips into halves at random, groups kept whole: each group goes to the half that has fewer clips so far.

    Args:
        groups: (n,) group of every clip; "" is a group of its own.
        draws: how many divisions.
        seed: of the draws.

    Yields:
        The positions of both halves, sorted; nothing where there is one group only.
    """
    index, count = group_index(groups)
    if count < 2:
        return
    sizes = np.bincount(index, minlength=count)
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        second, filled = np.zeros(count, dtype=bool), [0, 0]
        for group in rng.permutation(count):
            side = int(filled[1] < filled[0])
            second[group], filled[side] = bool(side), filled[side] + int(sizes[group])
        yield np.flatnonzero(~second[index]), np.flatnonzero(second[index])


# --- Fréchet distance --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gaussian:
    """What a Fréchet distance needs to know of a set of vectors.

    Attributes:
        mean: (dim,).
        root: (at most dim, dim), whose product with itself, transposed first, is the covariance.
    """

    mean: Floats
    root: Floats


def gaussian(vectors: NDArray[Any]) -> Gaussian:
    """The Gaussian of some vectors, (n, dim); its covariance divides by n - 1.

    Raises:
        SoundmarkError: if there are fewer than two vectors.
    """
    n = len(vectors)
    if n < 2:
        raise SoundmarkError(f"a covariance needs two vectors or more, not {n}: add clips")
    exact = np.asarray(vectors, dtype=np.float64)
    mean = exact.mean(axis=0)
    centred = (exact - mean) / np.sqrt(n - 1)
    # Of more clips than components the triangle of a QR says the same of the covariance, and is smaller.
    return Gaussian(mean, centred if n <= exact.shape[1] else np.asarray(np.linalg.qr(centred, mode="r")))


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Fréchet distance between two Gaussians, squared, as it is usually published.

    |mean_a - mean_b|² + tr C_a + tr C_b - 2 tr (C_a C_b)^½. With roots A and B of the covariances, the last trace is
    the sum of the singular values of A Bᵀ. That needs no root of a product of covariances, which are singular where
    there are fewer clips than components, and whose computed root is then complex or wrong.

    With few clips the estimate is too large (Chong & Forsyth 2020), and the more so the fewer.

    Source: D. C. Dowson, B. V. Landau, J. Multivariate Analysis 12, 1982; M. Heusel et al., NeurIPS 2017 (FID);
    K. Kilgour et al., Interspeech 2019 (Fréchet Audio Distance).
    """
    apart = float(np.square(a.mean - b.mean).sum())
    shared = float(np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum())
    return max(0.0, apart + float(np.square(a.root).sum() + np.square(b.root).sum()) - 2 * shared)


def between_halves(vectors: NDArray[Any], groups: Sequence[str], draws: int, seed: int) -> tuple[float, float]:
    """Fréchet distance between random halves of the same vectors: what is owed to their number alone.

    Args:
        vectors: (n, dim).
        groups: (n,) see `halves`.
        draws: how many divisions.
        seed: of the divisions.

    Returns:
        Its mean and standard deviation (that of a sample) over draws; NaN where it is undefined.
    """
    found = [
        frechet(gaussian(vectors[first]), gaussian(vectors[second]))
        for first, second in halves(groups, draws, seed)
        if min(len(first), len(second)) > 1
    ]
    if not found:
        return np.nan, np.nan
    return float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else np.nan


# --- Centred kernel alignment ------------------------------------------------------------------------------------


def cka(parts: Sequence[NDArray[Any]]) -> tuple[Floats, Floats]:
    """Linear centred kernel alignment between all pairs of descriptions of the same clips, plain and debiased.

    Neither changes when a description is rotated, mirrored, moved or scaled as a whole. The plain one (Kornblith et al.
    2019) is from 0 to 1, and large for descriptions that have nothing to do with each other as soon as their components
    are not far fewer than the clips. The debiased one takes the unbiased estimate of HSIC (Song et al. 2012; Nguyen
    et al. 2021): about 0 there, and slightly negative as often as positive.

    Args:
        parts: (n, dim) each, with dims of their own; row i of all is the same clip.

    Returns:
        Two (parts, parts) matrices; NaN for a description that is the same for every clip.

    Raises:
        SoundmarkError: if there are fewer than four clips, or the parts differ in their number.

    Source: S. Kornblith et al., ICML 2019; L. Song et al., JMLR 13, 2012; T. Nguyen et al., ICLR 2021.
    """
    lengths = {len(part) for part in parts}
    if len(lengths) != 1 or min(lengths) < LEAST_FOR_DEBIASED:
        listed = ", ".join(map(str, sorted(lengths))) or "no"
        raise SoundmarkError(
            f"an alignment needs the same {LEAST_FOR_DEBIASED} clips or more in every description, not {listed}"
        )
    m = len(parts)
    plain, debiased = np.full((m, m), np.nan), np.full((m, m), np.nan)
    for i in range(m):
        x = _centred(parts[i])
        for j in range(i + 1):
            y = x if i == j else _centred(parts[j])
            if x is not None and y is not None:
                plain[i, j], debiased[i, j] = _hsic(x, y)
    return _aligned(plain, 0.0), _aligned(debiased, -1.0)


def alignment_error(
    parts: Sequence[NDArray[Any]], debiased: Floats, groups: Sequence[str], draws: int, seed: int
) -> Floats:
    """Standard error of debiased alignments, by random halves.

    A half of the clips differs from all of them about as much as these differ from endlessly many (half-sampling,
    McCarthy 1969). Resampling with replacement would not do: a clip that comes twice is aligned with itself.

    Args:
        parts: what was compared, see `cka`.
        debiased: (parts, parts), what came out.
        groups: (n,) see `halves`.
        draws: how many halves.
        seed: of the halves.

    Returns:
        (parts, parts); NaN where it is undefined.
    """
    apart = [
        np.square(cka([part[half] for part in parts])[1] - debiased)
        for half, _ in halves(groups, draws, seed)
        if len(half) >= LEAST_FOR_DEBIASED
    ]
    return np.sqrt(np.mean(apart, axis=0)) if apart else np.full(debiased.shape, np.nan)


def _centred(part: NDArray[Any]) -> Floats | None:
    """Of mean 0 and of size 1 as a whole, so that no power under- or overflows; None for a constant."""
    exact = np.asarray(part, dtype=np.float64)
    largest = float(np.abs(exact).max(initial=0.0))
    if not largest:
        return None
    exact = exact / largest
    exact -= exact.mean(axis=0)
    size = float(np.linalg.norm(exact))
    return exact / size if size > _CONSTANT * np.sqrt(exact.size) else None


def _hsic(x: Floats, y: Floats) -> tuple[float, float]:
    """HSIC of two centred descriptions under linear kernels, plain and unbiased, up to factors that cancel out."""
    n = len(x)
    own_x, own_y = np.square(x).sum(axis=1), np.square(y).sum(axis=1)  # diagonals of the kernels
    both = _product(x, y)
    shared = float(own_x @ own_y)
    # The unbiased estimate leaves the kernels' diagonals out. Rows of a centred kernel sum to 0, so without its
    # diagonal a row sums to what stood there, negated, and everything needed is in the diagonals.
    sums = float(own_x.sum() * own_y.sum())
    return both, both - shared + sums / ((n - 1) * (n - 2)) - 2 * shared / (n - 2)


def _product(x: Floats, y: Floats) -> float:
    """Sum over all pairs of clips of both kernels' product, in whichever form holds fewer numbers."""
    n = len(x)
    if x.shape[1] * y.shape[1] <= n * n:
        return float(np.square(x.T @ y).sum())
    rows = max(1, _CHUNK_CELLS // n)
    return sum(float(((x[i : i + rows] @ x.T) * (y[i : i + rows] @ y.T)).sum()) for i in range(0, n, rows))


def _aligned(lower: Floats, least: float) -> Floats:
    """Each HSIC over the root of the two descriptions' own, both triangles filled."""
    own = np.diagonal(lower).copy()
    own[~(own > _NO_STRUCTURE)] = np.nan
    full = np.where(np.isnan(lower), lower.T, lower) / np.sqrt(own[:, None] * own)
    return np.clip(full, least, 1.0)


# --- Classes -----------------------------------------------------------------------------------------------------


def class_means(vectors: Floats, members: NDArray[np.bool_]) -> Floats:
    """Mean vector of every class, (classes, dim); NaN for one without clips.

    Args:
        vectors: (n, dim).
        members: (n, classes), whether a clip is of a class.
    """
    counts = members.sum(axis=0)[:, None]
    return np.where(counts > 0, members.T.astype(np.float64) @ vectors / np.maximum(counts, 1), np.nan)


def cosines(means: Floats) -> Floats:
    """Cosine of the angle between all pairs of rows, (rows, rows); NaN where a row is 0 or undefined."""
    lengths = np.linalg.norm(means, axis=1)
    lengths[~(lengths > 0)] = np.nan
    units = means / lengths[:, None]
    return np.asarray(np.clip(units @ units.T, -1.0, 1.0))


def nearest(cosines: Floats, owner: NDArray[np.intp], top: int) -> list[tuple[int, int, int]]:
    """For every class, the nearest ones in each other task: (class, other class, rank from 1), nearest first.

    Args:
        cosines: (classes, classes), see `cosines`.
        owner: (classes,) number of each class's task.
        top: how many, where the other task has as many.
    """
    found = []
    for i, own in enumerate(owner):
        for task in np.unique(owner[owner != own]):
            there = np.flatnonzero((owner == task) & np.isfinite(cosines[i]))
            order = there[np.argsort(-cosines[i, there], kind="stable")]
            found += [(i, int(j), rank) for rank, j in enumerate(order[:top], 1)]
    return found


def kept(
    again: Sequence[Floats], found: Sequence[tuple[int, int, int]], owner: NDArray[np.intp], top: int
) -> list[float | None]:
    """How often what was found is found again: for each pair the share of draws, None where its class was in none.

    Args:
        again: cosines of the same classes in every draw.
        found: what `nearest` gave for all clips.
        owner: see `nearest`.
        top: see `nearest`.
    """
    pairs = [{(i, j) for i, j, _ in nearest(cosines, owner, top)} for cosines in again]
    present = [{i for i, _ in each} for each in pairs]
    shares: list[float | None] = []
    for i, j, _ in found:
        drawn = [(i, j) in each for each, here in zip(pairs, present, strict=True) if i in here]
        shares.append(sum(drawn) / len(drawn) if drawn else None)
    return shares
