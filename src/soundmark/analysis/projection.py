"""From many dimensions to two, and how far the picture is to be trusted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from soundmark.errors import MissingExtra, SoundmarkError, SpecError

METHODS = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}
LEAST = {"tsne": 4, "umap": 8, "pca": 2}  # clips that a method can do anything with
PERPLEXITY, NEIGHBOURS = 30.0, 15  # the defaults of their authors' own programs
REDUCED = 50
TRUSTED = 10  # neighbours that trustworthiness looks at
SAMPLED = 5000  # clips it is measured on
_HELD = 1 << 24  # numbers of a block of comparisons
# The order in which threads add up differs from run to run, and t-SNE makes much of little. On a busy machine one
# thread is faster than two, besides: they wait for each other in every step.
_THREADS = 1


@dataclass(frozen=True)
class Layout:
    """Vectors laid out in a plane.

    Attributes:
        positions: (n, 2) float64, in units that mean nothing.
        settings: what the method was given, or for PCA found: the `explained` share of variance of either axis.
    """

    positions: np.ndarray
    settings: dict[str, Any]


def settings(
    method: str, count: int, *, perplexity: float | None = None, neighbours: int | None = None
) -> dict[str, Any]:
    """The settings of a method for so many clips: those given, checked, or its defaults, fitted to few clips.

    Raises:
        SpecError: for an unknown method, a setting it does not have, or one out of bounds.
        SoundmarkError: for too few clips.
    """
    if method not in METHODS:
        raise SpecError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
    for name, value, owner in (("perplexity", perplexity, "tsne"), ("neighbours", neighbours, "umap")):
        if value is not None and method != owner:
            raise SpecError(f"{name} is a setting of {owner}, and {method} has none: leave it out, or choose {owner}")
    if count < LEAST[method]:
        raise SoundmarkError(
            f"{METHODS[method]} needs {LEAST[method]} clips or more, and there are {count}: add recordings"
            + ("" if method == "pca" else ", or choose pca")
        )
    if method == "tsne":
        # Three times as many neighbours are looked at as the perplexity says; there must be that many.
        most = (count - 1) / 3
        if perplexity is not None and not 1 <= perplexity <= most:
            raise SpecError(
                f"a perplexity for {count} clips should be from 1 to {most:.3g}, a third of the others, "
                f"not {perplexity:g}"
            )
        return {"perplexity": float(min(PERPLEXITY, most) if perplexity is None else perplexity)}
    if method == "umap":
        if neighbours is not None and not 2 <= neighbours < count:
            raise SpecError(f"neighbours among {count} clips should be from 2 to {count - 1}, not {neighbours}")
        return {"neighbours": min(NEIGHBOURS, count - 1) if neighbours is None else neighbours}
    return {}


def project(
    vectors: np.ndarray, method: str = "tsne", *, seed: int = 0, perplexity: float | None = None,
    neighbours: int | None = None,
) -> Layout:  # fmt: skip
    """Lay vectors out in a plane.

    `tsne` is van der Maaten & Hinton (2008), on the first 50 principal components and begun from the first two; `umap`
    is McInnes, Healy & Melville (2018), by the package umap-learn; `pca` the first two principal components.

    Args:
        vectors: (n, dim), standardised.
        method: one of `METHODS`.
        seed: equal seeds give equal maps on the same machine.
        perplexity: of t-SNE: about how many neighbours count as near, from 1 to (n - 1) / 3; without, 30 or fewer.
        neighbours: of UMAP: how many count as near, from 2 to n - 1; without, 15 or fewer.

    Raises:
        MissingExtra: for `umap` without umap-learn.
        SpecError, SoundmarkError: see `settings`; if vectors are not finite, or all the same.
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if not 0 <= seed < 2**32:
        raise SpecError(f"a seed should be from 0 to {2**32 - 1}, not {seed}")
    given = settings(method, len(vectors), perplexity=perplexity, neighbours=neighbours)
    make = _umap() if method == "umap" else None
    if not np.isfinite(vectors).all():
        raise SoundmarkError("some vectors are not finite numbers: leave their clips out")
    if not np.ptp(vectors, axis=0).any():
        raise SoundmarkError(f"all {len(vectors)} clips have the same vector: there is nothing to tell apart on a map")
    if vectors.shape[1] < 2:
        vectors = np.pad(vectors, ((0, 0), (0, 2 - vectors.shape[1])))
    with threadpool_limits(_THREADS):
        if method == "pca":
            found = PCA(2, random_state=seed).fit(vectors)
            positions = found.transform(vectors)
            given = {"explained": [round(float(share), 4) for share in found.explained_variance_ratio_]}
        else:
            parts = min(REDUCED, *vectors.shape)
            reduced = PCA(parts, random_state=seed).fit_transform(vectors) if vectors.shape[1] > parts else vectors
            positions = _tsne(reduced, given, seed) if make is None else _laid(make, reduced, given, seed)
    if not np.isfinite(positions).all():
        raise SoundmarkError(f"{METHODS[method]} found no layout of these vectors: try another method or seed")
    return Layout(np.asarray(positions, dtype=np.float64), given)


def _tsne(vectors: np.ndarray, given: dict[str, Any], seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    made = TSNE(perplexity=given["perplexity"], init="pca", learning_rate="auto", random_state=seed)
    return np.asarray(made.fit_transform(np.ascontiguousarray(vectors, dtype=np.float32)))


def _umap() -> Any:
    try:
        with _unwarned():
            from umap import UMAP
    except ImportError:
        raise MissingExtra(
            "the method umap needs umap-learn: pip install 'soundmark[analysis]', or take tsne"
        ) from None
    return UMAP


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without what UMAP warns of and nobody can act on; whether its map is any good is said by trustworthiness."""
    with warnings.catch_warnings():
        # That TensorFlow, which it could use, is not there; and what its dependencies say to its authors.
        for category in (ImportWarning, DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        # Equal or far clips make islands; it then begins from elsewhere.
        for message in ("Graph is not fully connected", "Spectral initialisation failed"):
            warnings.filterwarnings("ignore", message, UserWarning)
        warnings.filterwarnings("ignore", module="numba")  # which compiles it, of threads and caches
        yield


def _laid(make: Any, vectors: np.ndarray, given: dict[str, Any], seed: int) -> np.ndarray:
    with _unwarned():
        made = make(n_components=2, n_neighbors=given["neighbours"], random_state=seed, n_jobs=1)
        return np.asarray(made.fit_transform(vectors))


def trustworthiness(vectors: np.ndarray, positions: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """How far neighbours on the map are neighbours in truth (Venna & Kaski 2001).

    Every clip that the map puts among another's `k` nearest without its being so costs by how far down it stands in the
    true order: 1 is a map that invents no neighbour, and a map at random has about 0.5. `sklearn.manifold` computes the
    same, in memory that grows with the square of the clips.

    Args:
        vectors: (n, dim).
        positions: (n, 2).
        seed: of the `SAMPLED` clips that are looked at where there are more; each is held against all others.

    Returns:
        `value`, from 0 to 1, None for fewer than three clips; `neighbours`, k; `clips`, how many were looked at.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    count = len(vectors)
    k = min(TRUSTED, (count - 1) // 2)
    if k < 1:
        return {"value": None, "neighbours": 0, "clips": count}
    looked_at = np.arange(count)
    if count > SAMPLED:
        looked_at = np.sort(np.random.default_rng(seed).choice(count, SAMPLED, replace=False))
    cost, step = 0, max(1, _HELD // (count * k))
    for begin in range(0, len(looked_at), step):
        some = looked_at[begin : begin + step]
        truly, shown = (euclidean_distances(all_of[some], all_of, squared=True) for all_of in (vectors, positions))
        for distances in (truly, shown):
            distances[np.arange(len(some)), some] = np.inf
        near = np.argpartition(shown, k - 1, axis=1)[:, :k]
        far = np.take_along_axis(truly, near, axis=1)
        rank = 1 + (truly[:, None, :] < far[:, :, None]).sum(axis=2)
        cost += int(np.maximum(rank - k, 0).sum())
    value = 1 - 2 * cost / (len(looked_at) * k * (2 * count - 3 * k - 1))
    return {"value": value, "neighbours": k, "clips": len(looked_at)}
