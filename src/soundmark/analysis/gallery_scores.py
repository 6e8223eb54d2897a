"""How well classifiers on spectrograms do, as it was measured: for the gallery, which measures nothing itself.

The package holds ESC-50's scores in `gallery.json`. They are those of the cells under `results/frontends/` of the
repository, which `soundmark benchmark` wrote; `tools/gallery.py` puts them together.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from soundmark import cells, encoders
from soundmark.errors import ResultsError
from soundmark.spec import parse_joined

NOT_MEASURED = "not measured"
SPECTROGRAMS = ("linear", "logfreq", "logmel")
_PACKAGED = "gallery.json"


@dataclass(frozen=True)
class Score:
    """What a classifier on one front end reached.

    Attributes:
        task: it was measured on, by its full name.
        protocol: by which.
        encoder: the front end, every setting spelled out.
        pooling, head: what summed it up over time, and what decided.
        metric: of the score.
        value, low, high: the score and its 95 % interval.
        command: that measured it.
    """

    task: str
    protocol: str
    encoder: str
    pooling: str
    head: str
    metric: str
    value: float
    low: float
    high: float
    command: str


def read(source: str = "") -> list[Score]:
    """Scores of front ends.

    Args:
        source: a folder of cells that `soundmark benchmark` wrote, or a file like the package's own; "" for that.

    Raises:
        ResultsError: if there are none.
    """
    if source and Path(source).is_dir():
        return collect(source)
    try:
        text = (
            Path(source).read_text(encoding="utf-8")
            if source
            else resources.files("soundmark.analysis").joinpath(_PACKAGED).read_text("utf-8")
        )
        return [_score(entry) for entry in json.loads(text)["scores"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{source or _PACKAGED} holds no scores of front ends ({type(error).__name__}: {error}); give a folder "
            "that soundmark benchmark --out wrote"
        ) from None


def _score(entry: Mapping[str, Any]) -> Score:
    found = Score(**entry)
    for each in fields(Score):
        if not isinstance(getattr(found, each.name), str if each.type == "str" else int | float):
            raise TypeError(f"{each.name} is {getattr(found, each.name)!r}")
    return found


def collect(folder: str) -> list[Score]:
    """Scores from a folder of cells.

    Cells differ in pooling and head, and only those of one pair can be held against each other: that which most front
    ends were measured with is taken, by task. Of several seeds the first counts.

    Raises:
        ResultsError: if the folder holds no cells, or none of one front end by itself.
    """
    found = [(done.recipe.seed, score) for done in cells.load([folder]) if not done.part and (score := _of(done))]
    if not found:
        raise ResultsError(f"{folder} holds no cell of a whole task with one encoder, pooling and head")
    kept: list[Score] = []
    for task in sorted({score.task for _, score in found}):
        here = [(seed, score) for seed, score in found if score.task == task]
        pairs = Counter((score.pooling, score.head) for _, score in here)
        pair = min(pairs, key=lambda each: (-pairs[each], each))
        first: dict[str, Score] = {}
        for _, score in sorted(here, key=lambda each: each[0]):
            if (score.pooling, score.head) == pair:
                first.setdefault(score.encoder, score)
        kept += [first[name] for name in sorted(first)]
    return kept


def _of(done: cells.Done) -> Score | None:
    encoder, pooling, head = done.learner
    spelled = "" if done.recipe.network else _spelled(encoder)
    if not spelled:
        return None
    said = done.content["headline"]
    return Score(
        done.content["task"], done.content["protocol"], spelled, pooling, head, said["metric"],
        float(said["value"]), float(said["low"]), float(said["high"]), done.content["command"],
    )  # fmt: skip


def _spelled(encoder: str) -> str:
    """One spectrogram's name with every setting; "" for any other encoder, several joined, or several candidates."""
    try:
        (spec,) = parse_joined(encoder)
        return encoders.load(encoder).spec if spec.name in SPECTROGRAMS else ""
    except ValueError:  # a SpecError is one too
        return ""


def find(scores: Iterable[Score], task: str, encoder: str) -> Score | None:
    """The score of a front end on a task; None where it was not measured on this very task.

    Args:
        scores: that are known.
        task: its full name.
        encoder: a name in the grammar, spelled out or not.
    """
    mine = {score.encoder: score for score in scores if score.task == task}
    return mine.get(_spelled(encoder)) if mine else None


def words(score: Score | None) -> str:
    """`42.4 % (39.8 to 44.8)`, or that it was not measured."""
    if score is None:
        return NOT_MEASURED
    return f"{100 * score.value:.1f} % ({100 * score.low:.1f} to {100 * score.high:.1f})"


def about(scores: Sequence[Score | None]) -> str:
    """What these scores are, in a sentence."""
    found = [score for score in scores if score is not None]
    if not found:
        return "Accuracy: not measured on this task or recording. `soundmark benchmark` measures it; --scores shows it."
    one = found[0]
    metric = one.metric.replace("_", " ").capitalize()
    return (
        f"{metric} on {one.task}, {one.protocol}, with its 95 % interval: the spectrogram's {one.pooling} over time "
        f"under the head {one.head}. It tells front ends apart under a simple classifier, and is no limit of theirs."
    )
