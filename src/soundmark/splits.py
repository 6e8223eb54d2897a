"""Splits of one side of a protocol: stratified by class, and never through a group."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from soundmark.errors import SoundmarkError

INNER_FOLDS = 4  # of the split inside a training side, unless said otherwise


def inner_splits(
    targets: Sequence[int] | np.ndarray, groups: Sequence[str], k: int = 5, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split into `k` folds, or fewer where the groups allow no more, that keep groups whole and classes even.

    Every class keeps clips on each training side. A class that has a single group can never be held out, so the clips
    of that group stand on every training side and on no test side; all other clips are tested exactly once.

    Args:
        targets: (n,) class of every clip.
        groups: (n,) group of every clip; "" is a group of its own.
        k: folds wanted, at least 2.
        seed: of the shuffle. Equal arguments give equal splits.

    Returns:
        (train, test) positions of each fold, sorted, int64.

    Raises:
        SoundmarkError: if the groups do not allow two folds.
    """
    wanted, y = k, np.asarray(targets)
    names = [group or f"\0{i}" for i, group in enumerate(groups)]
    codes = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)[1]
    if k < 2 or y.ndim != 1 or len(y) != len(codes):
        raise SoundmarkError(
            f"cannot split {len(y)} clips with {len(codes)} groups into {k} folds; ask for at least two"
        )
    free = _can_be_held_out(y, codes)
    if not free.any():
        raise SoundmarkError(
            "cannot hold out any clips: every class has a single group (recording, speaker, ...); "
            "add recordings from other groups, at least two to a class"
        )
    most = max(len(np.unique(codes[free & (y == label)])) for label in np.unique(y[free]))
    for folds in range(min(wanted, most), 1, -1):
        for attempt in range(5):  # with few groups a shuffle can be unlucky where the next is not
            splits = _split(y, codes, free, folds, seed + attempt * 1_000_003)
            if all(len(test) and np.isin(y[test], y[train]).all() for train, test in splits):
                return splits
    raise SoundmarkError(
        f"cannot split {len(y)} clips into two folds so that every class is on both training sides: the groups hold "
        "too many clips or classes each; use finer groups or add recordings"
    )


def possible_splits(
    targets: Sequence[int] | np.ndarray, groups: Sequence[str], k: int = 5, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`inner_splits`, or none where the groups do not allow two folds, as with one recording per class.

    For what can do without: a calibration then takes scores as they are, and a choice its first candidate.
    """
    try:
        return inner_splits(targets, groups, k, seed)
    except SoundmarkError:
        return []


def _can_be_held_out(y: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mask of clips whose group is not the only one of any class."""
    only = {codes[y == label][0] for label in np.unique(y) if len(np.unique(codes[y == label])) == 1}
    return np.isin(codes, list(only), invert=True)


def _split(
    y: np.ndarray, codes: np.ndarray, free: np.ndarray, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold

    position = np.flatnonzero(free)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed % 2**32)
    splits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer clips than folds: they are checked above
        try:
            parts = list(splitter.split(position, y[position], codes[position]))
        except ValueError:
            return [(position[:0], position[:0])]
    for _, test in parts:
        held = position[np.sort(test)]
        splits.append((np.setdiff1d(np.arange(len(y)), held), held))
    return splits
