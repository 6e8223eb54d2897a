"""Cells of a grid on disk: a small JSON file each, and beside it what was predicted for every clip.

    NAME.json       what was measured, a part of a run's summary (see `soundmark.metrics.summary`)
    NAME.parquet    clip, group, fold, and as class numbers target and predicted; the classes stand in its metadata

The second is what paired comparisons need. It takes some ten bytes per clip; cells of older versions lack it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from soundmark.errors import ResultsError, SpecError
from soundmark.files import atomic_path
from soundmark.recipe import PROBE, Recipe
from soundmark.results import Predictions

_CLASSES = b"soundmark.classes"
_TEXTS, _NUMBERS = ("clip", "group", "fold"), ("target", "predicted")
_MEASURED_ON_LESS = re.compile(r"^\d+ of \d+ files are missing")  # in the notes of a user's own table


@dataclass(frozen=True)
class Answers:
    """What was predicted for every test clip of a cell.

    Attributes:
        clips, groups, folds: (n,) names.
        targets, predicted: (n,) class numbers.
        classes: their names, in order.
    """

    clips: tuple[str, ...]
    groups: tuple[str, ...]
    folds: tuple[str, ...]
    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """A measured cell.

    Attributes:
        path: its JSON file.
        content: what that holds.
        recipe: what it says was measured.
    """

    path: Path
    content: dict[str, Any]
    recipe: Recipe

    @property
    def clips(self) -> int:
        """How many clips its protocol tests, those that could not be read among them."""
        return int(sum(fold["clips"] for fold in self.content["folds"])) + len(self.content.get("bad_clips", []))

    @property
    def question(self) -> tuple[str, str, int]:
        """What it shares with all cells that it may be compared with: task, protocol and number of clips."""
        return self.content["task"], self.content["protocol"], self.clips

    @property
    def learner(self) -> tuple[str, str, str]:
        """Encoder, pooling and head, as names in the grammar, in whatever order their settings were given."""
        names = self.content.get("learner", {})
        if "candidates" in names:  # among which every fold chose, and which only the recipe lists
            return self.recipe.encoder, self.recipe.pooling, self.recipe.head
        encoder, pooling, head = (names.get(key, getattr(self.recipe, key)) for key in PROBE)
        return encoder, pooling, head

    @property
    def part(self) -> str:
        """What of the data set was measured: "" for all of it, else "sample", "incomplete" or "some folds"."""
        protocol = self.content["protocol"]
        if protocol.startswith("sample"):
            return "sample"
        if ", incomplete" in protocol or any(map(_MEASURED_ON_LESS.match, self.content.get("notes", []))):
            return "incomplete"
        return "some folds" if re.search(r", folds? .* only$", protocol) else ""

    def answers(self) -> Answers | None:
        """What was predicted for every clip; None where that was not kept.

        Raises:
            ResultsError: if the file is damaged.
        """
        return read_answers(answers_path(self.path))


def answers_path(path: Path) -> Path:
    """Where the answers of the cell at `path` are."""
    return path.with_suffix(".parquet")


def write_answers(path: Path, said: Predictions) -> None:
    """Write what was predicted beside the cell at `path`, whole or not at all."""
    classes = json.dumps(list(said.classes), ensure_ascii=False).encode()
    kind = pa.int16() if len(said.classes) < 2**15 else pa.int32()
    table = pa.table(
        {
            "clip": pa.array(said.clips, pa.string()),
            "group": pa.array(said.groups, pa.string()),
            "fold": pa.array(said.folds, pa.string()),
            "target": pa.array(np.asarray(said.targets), kind),
            "predicted": pa.array(said.predicted(), kind),
        }
    ).replace_schema_metadata({_CLASSES: classes})
    with atomic_path(answers_path(path)) as temporary:
        parquet.write_table(table, temporary, compression="zstd", compression_level=19, write_statistics=False)


def read_answers(path: Path) -> Answers | None:
    """What `write_answers` wrote; None where there is no such file.

    Raises:
        ResultsError: if it is damaged, or not ours.
    """
    if not path.exists():
        return None
    try:
        table = parquet.read_table(path)
        classes = json.loads(table.schema.metadata[_CLASSES])
        clips, groups, folds = texts = [tuple(table[name].to_pylist()) for name in _TEXTS]
        targets, predicted = numbers = [table[name].to_numpy().astype(np.int64) for name in _NUMBERS]
        if not all(isinstance(text, str) for text in (*classes, *(text for column in texts for text in column))):
            raise TypeError("a column of text holds something else")
        if any(len(each) and not 0 <= each.min() <= each.max() < len(classes) for each in numbers):
            raise ValueError("it has class numbers without a class")
        return Answers(clips, groups, folds, targets, predicted, tuple(classes))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ResultsError(
            f"{path} does not hold the predictions of a cell ({reason}); delete it and the .json beside it, and "
            "measure the cell again"
        ) from None


def read(path: Path) -> dict[str, Any]:
    """A cell's JSON file.

    Raises:
        ResultsError: if it is not one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        head = content["headline"]
        fit = (
            all(isinstance(head[key], int | float) for key in ("value", "low", "high"))
            and all(isinstance(content[key], str) for key in ("task", "protocol", "command"))
            and all(isinstance(fold["clips"], int) for fold in content["folds"])
        )
        if not (fit and isinstance(head["metric"], str)):
            raise TypeError("an entry is of another kind")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ResultsError(f"{path} is not a result of a benchmark ({reason}); delete it and run again") from None
    return dict(content)


def load(folders: Iterable[str | os.PathLike[str]]) -> list[Done]:
    """The cells of several folders, each once.

    Args:
        folders: of cells, such as several machines have measured.

    Raises:
        ResultsError: if a folder is missing or holds no cells, if a file is not a cell, or if two files answer the same
            question differently; both are named then.
    """
    found: dict[tuple[Any, ...], Done] = {}
    for folder in dict.fromkeys(Path(each) for each in folders):
        paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]  # half-written ones
        if not paths:
            what = "no cells" if folder.is_dir() else "no such folder"
            raise ResultsError(f"{folder}: {what}; measure some with soundmark benchmark --out {folder}")
        for path in paths:
            content = read(path)
            done = Done(path, content, recipe_of(content, path))
            key = (*done.question, *done.learner, done.recipe.seed)
            known = found.get(key)
            if known is not None:
                _agree(known, done)
            if known is None or (answers_path(path).exists() and not answers_path(known.path).exists()):
                found[key] = done
    return list(found.values())


def recipe_of(content: dict[str, Any], path: Path) -> Recipe:
    """The recipe that a cell's command line stands for.

    Raises:
        ResultsError: if there is none in it.
    """
    kinds = {each.name: str(each.type) for each in fields(Recipe)}
    try:
        _, _, task, *words = shlex.split(content["command"])
        given: dict[str, Any] = {"task": task}
        while words:
            name = words.pop(0).removeprefix("--").replace("-", "_")
            kind = kinds[name]
            given[name] = True if kind == "bool" else int(words.pop(0)) if kind == "int" else words.pop(0)
        return Recipe.from_dict(given, str(path))
    except (ValueError, KeyError, IndexError, SpecError):
        raise ResultsError(
            f"{path} is not a result of a benchmark: its command {content['command']!r} names no learner; delete it"
        ) from None


def _agree(one: Done, other: Done) -> None:
    """Refuse two answers to one question."""
    # Whether a data set might have been incomplete does not matter once it is known what was there, nor the order in
    # which settings were given.
    recipes = [
        replace(each.recipe, task="", encoder="", pooling="", head="", allow_partial=False) for each in (one, other)
    ]
    if recipes[0] != recipes[1]:
        raise ResultsError(f"{one.path} and {other.path} are of the same cell by different recipes; delete one of them")
    a, b = one.content["headline"], other.content["headline"]
    if a["metric"] != b["metric"] or abs(a["value"] - b["value"]) > 1e-6:
        raise ResultsError(
            f"{one.path} and {other.path} are of the same cell, and one says {a['metric']} {a['value']:.4f}, the other "
            f"{b['metric']} {b['value']:.4f}: look at their environments, and delete the one you trust less"
        )
