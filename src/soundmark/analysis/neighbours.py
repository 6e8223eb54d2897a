"""Which clips are alike: the nearest to a recording, and pairs that are nearly the same where they should not be.

Alike is the cosine of the angle between standardised vectors: 1 for the same direction, about 0 for two clips that have
nothing to do with each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from soundmark import embeddings
from soundmark.analysis.standard import directions, scale_of
from soundmark.errors import SpecError
from soundmark.files import file_digest
from soundmark.remote import Place
from soundmark.tasks.base import Clip, Task, counted

TOP, ABOVE, LISTED = 10, 0.99, 1000
SAME_FILE = 0.999  # only files whose vectors are so near are compared byte by byte
Digest = Callable[[Place], str | None]
_ROUNDING = 2e-6  # of float32 products: equal vectors stay equal
_HELD = 1 << 22  # similarities held at a time


def similar(
    task: Task, recordings: Sequence[str | os.PathLike[str]], *, encoder: str = "logmel", pooling: str = "mean+std",
    top: int = TOP, progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """The clips of a task that are nearest to recordings.

    Args:
        task: what is searched.
        recordings: paths; a long one is heard whole.
        encoder, pooling: names in the grammar; the scaler is that of the task's clips.
        top: how many clips for each.
        progress: show a bar on a terminal.

    Returns:
        `task`, `encoder`, `pooling`, `clips`, how many were searched; `left_out`; and `recordings`, each with `file`
        and `nearest`, best first: `similarity`, `same_file` (its content is the recording's), `clip`, `label`, `group`,
        `fold` and `path`.

    Raises:
        SpecError: if there is no recording, or `top` is below 1.
        AudioError: for the first recording that cannot be read.
        SoundmarkError: if no clip of the task can be read.
    """
    if not recordings:
        raise SpecError("nothing to compare: give one recording or more")
    if top < 1:
        raise SpecError(f"the number of clips should be 1 or more, not {top}")
    names = [os.fspath(each) for each in recordings]
    asked = Task("recordings", Path(), tuple(Clip(name, ("",)) for name in names), ("",), protocol="", rounds=())
    heard = embeddings.embed(asked, encoder, pooling, strict=True, progress=False)
    known = embeddings.embed(task, encoder, pooling, progress=progress)
    scale = scale_of(known.vectors)
    found, likeness = nearest(directions(scale.apply(heard.vectors)), directions(scale.apply(known.vectors)), top)
    content, digest = _about(task, encoder, pooling, known), _digests()
    content["recordings"] = [
        {
            "file": name,
            "nearest": [
                {
                    "similarity": round(float(alike), 6),
                    "same_file": bool(alike >= SAME_FILE) and _whole(known.clips[i]) and
                    digest(Path(name)) == digest(task.path(known.clips[i])),
                    **_row(task, known.clips[i]),
                }
                for i, alike in zip(found[row], likeness[row], strict=True)
            ],
        }
        for row, name in enumerate(names)
    ]  # fmt: skip
    return content


def nearest(queries: np.ndarray, clips: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and similarities of the clips nearest to each query, best first; of equal ones the first in the task.

    Args:
        queries: (m, dim) directions, see `soundmark.analysis.standard.directions`.
        clips: (n, dim) directions.
        top: how many; all where there are fewer.

    Returns:
        (m, top) int64 and (m, top) float32, in [-1, 1]. Memory grows with m and top, not with n.
    """
    found = np.empty((len(queries), 0), dtype=np.int64)
    likeness = np.empty((len(queries), 0), dtype=np.float32)
    step = max(1, _HELD // max(1, len(queries)))
    for begin in range(0, len(clips), step):
        some = clips[begin : begin + step]
        places = np.broadcast_to(np.arange(begin, begin + len(some)), (len(queries), len(some)))
        found = np.hstack([found, places])
        likeness = np.hstack([likeness, np.clip(queries @ some.T, -1, 1)])
        best = np.argsort(-likeness, axis=1, kind="stable")[:, :top]
        found = np.take_along_axis(found, best, axis=1)
        likeness = np.take_along_axis(likeness, best, axis=1)
    return found, likeness


# --- Inside a task -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """Pairs of clips that are alike and lie apart.

    Attributes:
        left, right: (pairs,) positions, left before right; the most alike first.
        likeness: (pairs,) float32.
        total: how many there are, of which these are the most alike.
        leaking: how many of all stand on the training and the test side of one round.
        tested: how many clips a round tests after training on one that is alike.
    """

    left: np.ndarray
    right: np.ndarray
    likeness: np.ndarray
    total: int
    leaking: int
    tested: int


class Apart:
    """Whether two clips of a task lie apart: across a round's sides, in different folds, or in different groups."""

    def __init__(self, clips: Sequence[Clip], task: Task) -> None:
        self.folds = np.unique([clip.fold for clip in clips], return_inverse=True)[1]
        # A clip without a group is a group of its own.
        groups = [clip.group or f"\0{i}" for i, clip in enumerate(clips)]
        numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
        self.groups = np.array([numbers[group] for group in groups])
        self.rounds = [each.name for each in task.rounds]
        self.trained, self.tested = (np.zeros((len(task.rounds), len(clips)), dtype=bool) for _ in range(2))
        for r, each in enumerate(task.rounds):
            for side, positions in ((self.trained, each.train), (self.tested, each.test)):
                side[r, list(positions)] = True

    def across(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(rounds, pairs) whether one of a pair is trained on and the other tested."""
        return np.asarray(
            (self.trained[:, left] & self.tested[:, right]) | (self.tested[:, left] & self.trained[:, right])
        )

    def __call__(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(pairs,) whether they lie apart in any of the three ways."""
        differ = (self.folds[left] != self.folds[right]) | (self.groups[left] != self.groups[right])
        return np.asarray(differ | self.across(left, right).any(axis=0))


def close_pairs(clips: np.ndarray, apart: Apart, above: float, most: int = LISTED) -> Pairs:
    """Pairs of clips that are alike and lie apart, each once.

    Args:
        clips: (n, dim) directions, see `soundmark.analysis.standard.directions`.
        apart: which pairs count.
        above: least similarity.
        most: how many are kept; all are counted.

    Returns:
        The pairs. Similarities are computed in blocks: memory does not grow with the square of the clips.
    """
    count = len(clips)
    left = right = np.empty(0, dtype=np.int64)
    likeness = np.empty(0, dtype=np.float32)
    total = leaking = 0
    tested = np.zeros(count, dtype=bool)
    step = max(1, _HELD // max(1, count))
    for begin in range(0, count, step):
        block = clips[begin : begin + step] @ clips[begin:].T
        i, j = np.nonzero(np.triu(block >= above - _ROUNDING, 1))
        alike, i, j = np.clip(block[i, j], -1, 1), i + begin, j + begin
        wanted = apart(i, j)
        i, j, alike = i[wanted], j[wanted], alike[wanted]
        total += len(i)
        for one, other in ((i, j), (j, i)):
            given_away = (apart.trained[:, one] & apart.tested[:, other]).any(axis=0)
            tested[other[given_away]] = True
        leaking += int(apart.across(i, j).any(axis=0).sum())
        left, right = np.concatenate([left, i]), np.concatenate([right, j])
        likeness = np.concatenate([likeness, alike])
        best = np.lexsort((right, left, -likeness))[:most]
        left, right, likeness = left[best], right[best], likeness[best]
    return Pairs(left, right, likeness, total, leaking, int(tested.sum()))


def duplicates(
    task: Task, *, encoder: str = "logmel", pooling: str = "mean+std", above: float = ABOVE, most: int = LISTED,
    progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Pairs of a task's clips that are nearly the same, and lie where nothing the same should: they tell of leaks.

    What counts as apart are the training and the test side of a round, different folds, and different groups (a clip
    without group being one of its own): a pair within one group and fold is as it should be.

    Args:
        task: the clips and rounds.
        encoder, pooling: names in the grammar.
        above: least cosine similarity, above 0 and up to 1.
        most: how many pairs are listed, the most alike first; all are counted.
        progress: show a bar on a terminal.

    Returns:
        `task`, `encoder`, `pooling`, `clips`, `left_out`, `above`; `total`, pairs; `leaking`, those of them that some
        round trains on and tests; `tested`, clips that are so given away; `pairs`, each with `similarity`, `same_file`
        (same bytes, or the same seconds of them), `same_label`, `rounds` it leaks in, `across` (`train/test`, `folds`,
        `groups`) and `clips`, the two with `clip`, `label`, `group`, `fold` and `path`.

    Raises:
        SpecError: if `above` or `most` is out of bounds.
        SoundmarkError: if no clip of the task can be read.
    """
    if not 0 < above <= 1:
        raise SpecError(f"a least similarity should be above 0 and up to 1, not {above}")
    if most < 1:
        raise SpecError(f"the number of pairs should be 1 or more, not {most}")
    known = embeddings.embed(task, encoder, pooling, progress=progress)
    kept = task.drop(known.bad)
    apart = Apart(kept.clips, kept)
    found = close_pairs(directions(scale_of(known.vectors).apply(known.vectors)), apart, above, most)
    content = _about(task, encoder, pooling, known)
    content |= {"above": above, "total": found.total, "leaking": found.leaking, "tested": found.tested, "pairs": []}
    rounds, digest = apart.across(found.left, found.right), _digests()
    for n, (i, j) in enumerate(zip(found.left.tolist(), found.right.tolist(), strict=True)):
        one, other = kept.clips[i], kept.clips[j]
        leaks = [apart.rounds[r] for r in np.flatnonzero(rounds[:, n])]
        ways = {"train/test": bool(leaks), "folds": one.fold != other.fold,
                "groups": bool(apart.groups[i] != apart.groups[j])}  # fmt: skip
        content["pairs"].append(
            {
                "similarity": round(float(found.likeness[n]), 6),
                "same_file": bool(found.likeness[n] >= SAME_FILE) and _same(task, one, other, digest),
                "same_label": one.labels == other.labels,
                "rounds": leaks,
                "across": [way for way, so in ways.items() if so],
                "clips": [_row(task, one), _row(task, other)],
            }
        )
    return content


def _about(task: Task, encoder: str, pooling: str, known: embeddings.Embeddings) -> dict[str, Any]:
    return {
        "task": task.full_name,
        "encoder": encoder,
        "pooling": pooling,
        "clips": len(known.clips),
        "left_out": [{"clip": clip.key, "error": error} for clip, error in known.bad.items()],
    }


def _row(task: Task, clip: Clip) -> dict[str, str]:
    return {
        "clip": clip.key,
        "label": "|".join(clip.labels),
        "group": clip.group,
        "fold": clip.fold,
        "path": str(task.path(clip)),
    }


def _same(task: Task, one: Clip, other: Clip, digest: Digest) -> bool:
    """Whether two clips are the same seconds of the same bytes."""
    if (one.start, one.end) != (other.start, other.end):
        return False
    found = digest(task.path(one))
    return found is not None and found == digest(task.path(other))


def _whole(clip: Clip) -> bool:
    return clip.start == 0 and clip.end is None


def _digests() -> Digest:
    """Digests of files' content, each file read once; None for one that cannot be read."""

    @cache
    def digest(path: Place) -> str | None:
        try:
            return file_digest(path)
        except OSError:
            return None

    return digest


# --- In words ----------------------------------------------------------------------------------------------------


def nearest_table(content: dict[str, Any]) -> str:
    """What `similar` found, as text."""
    lines = []
    for each in content["recordings"]:
        lines.append(f"{each['file']}: nearest of {counted(content['clips'], 'clip')} of {content['task']}")
        rows = each["nearest"]
        width = max(len("label"), *(len(row["label"]) for row in rows))
        lines.append(f"{'similarity':>10}  {'label':<{width}}  {'fold':<5}  path")
        for row in rows:
            same = "  (same file)" if row["same_file"] else ""
            lines.append(f"{row['similarity']:10.4f}  {row['label']:<{width}}  {row['fold']:<5}  {row['path']}{same}")
    return "\n".join(lines)


def duplicates_table(content: dict[str, Any]) -> str:
    """What `duplicates` found, as text."""
    lines = [
        f"{content['task']}: {counted(content['total'], 'pair')} of {counted(content['clips'], 'clip')} at "
        f"{content['above']:g} or above that lie apart"
    ]
    if content["leaking"]:
        lines.append(
            f"{content['leaking']} of them across a round's training and test side: "
            f"{counted(content['tested'], 'clip')} tested by what was trained on one alike"
        )
    for pair in content["pairs"]:
        kind = "same file" if pair["same_file"] else "alike"
        labels = "" if pair["same_label"] else "; labels differ"
        lines.append(f"{pair['similarity']:.4f}  {kind}, across {', '.join(pair['across'])}{labels}")
        lines += [
            f"        {clip['label']}, fold {clip['fold'] or '–'}, group {clip['group'] or '–'}: {clip['path']}"
            for clip in pair["clips"]
        ]
    if content["total"] > len(content["pairs"]):
        lines.append(f"and {content['total'] - len(content['pairs'])} more, less alike")
    return "\n".join(lines)
