"""A run's folder: what was predicted, how it scored, and what is needed to do it again.

    recipe.toml         the task, the learner and the seed: running it again gives the same predictions
    predictions.parquet one row per clip of the test sides; predictions.csv is the same for people
    metrics.json        see `soundmark.metrics.summary`
    environment.json    see `soundmark.environment.environment`
    history.csv         of a trained network only: one row per epoch of every fold
    report.html, figures/, model.onnx    made from the rest

A row of predictions holds clip (its key), path, start, end (null: the file's end), group, fold, label, prediction, and
one column "p:CLASS" for each class, in the order of the classes.

A row of the history holds fold, stage, epoch (from 1), rate (the highest learning rate), train_loss, train_accuracy,
valid_loss, valid_accuracy and seconds. Stage "choose" trains on a part of the fold's training side and watches the
rest; stage "fit" trains on all of it for the number of epochs that was best, and watches nothing (empty).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from soundmark import comparing, files
from soundmark.environment import environment
from soundmark.errors import ResultsError
from soundmark.intervals import RESAMPLES
from soundmark.metrics import METRICS as MEASURES

PREDICTIONS = "predictions.parquet"
PREDICTIONS_CSV = "predictions.csv"
RECIPE = "recipe.toml"
METRICS = "metrics.json"
ENVIRONMENT = "environment.json"
HISTORY = "history.csv"

_PREFIX = "p:"
_EPOCH = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "seconds")
_COLUMNS = ("clip", "path", "start", "end", "group", "fold", "label", "prediction")


@dataclass(frozen=True)
class Predictions:
    """What was predicted for every clip of the test sides, each clip once.

    Attributes:
        clips: (n,) keys of the clips, all different.
        paths: (n,) their files, relative to the task's root.
        starts: (n,) first seconds.
        ends: (n,) last seconds, None for the file's end.
        groups: (n,) what must not straddle a split; "" is a group of its own.
        folds: (n,) the round in which the clip was tested.
        targets: (n,) int, the true class.
        probabilities: (n, classes) float64.
        classes: names of the classes.

    Raises:
        ResultsError: if the parts do not fit together.
    """

    clips: Sequence[str]
    paths: Sequence[str]
    starts: Sequence[float]
    ends: Sequence[float | None]
    groups: Sequence[str]
    folds: Sequence[str]
    targets: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.clips)
        parts = {
            "paths": self.paths,
            "starts": self.starts,
            "ends": self.ends,
            "groups": self.groups,
            "folds": self.folds,
        }
        lengths = {name: len(part) for name, part in parts.items()} | {"targets": len(self.targets)}
        if wrong := [f"{length} {name}" for name, length in lengths.items() if length != n]:
            raise ResultsError(f"predictions of {n} clips cannot have {', '.join(wrong)}")
        if self.probabilities.shape != (n, len(self.classes)):
            raise ResultsError(
                f"probabilities of {n} clips and {len(self.classes)} classes cannot be {self.probabilities.shape}"
            )
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ResultsError(f"there must be two or more different classes, not: {', '.join(self.classes) or 'none'}")
        if len(set(self.clips)) != n:
            raise ResultsError("a clip was predicted twice; every clip is tested once")
        if n and (np.min(self.targets) < 0 or np.max(self.targets) >= len(self.classes)):
            raise ResultsError(f"targets must be class numbers from 0 to {len(self.classes) - 1}")
        if not np.isfinite(self.probabilities).all():
            raise ResultsError("some probabilities are not finite numbers; the learner's output is broken")

    def predicted(self) -> NDArray[np.intp]:
        """The class of highest probability of each clip, (n,)."""
        return np.asarray(np.argmax(self.probabilities, axis=1))

    def table(self) -> pa.Table:
        """The predictions as an Arrow table, one row per clip."""
        columns: dict[str, Any] = {
            "clip": pa.array(self.clips, pa.string()),
            "path": pa.array(self.paths, pa.string()),
            "start": pa.array(self.starts, pa.float64()),
            "end": pa.array(self.ends, pa.float64()),
            "group": pa.array(self.groups, pa.string()),
            "fold": pa.array(self.folds, pa.string()),
            "label": pa.array([self.classes[c] for c in self.targets], pa.string()),
            "prediction": pa.array([self.classes[c] for c in self.predicted()], pa.string()),
        }
        probabilities = np.asarray(self.probabilities, dtype=np.float64)
        columns |= {_PREFIX + label: pa.array(probabilities[:, c]) for c, label in enumerate(self.classes)}
        return pa.table(columns)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write predictions.parquet and predictions.csv into a run's folder, each whole or not at all."""
        table = self.table()
        with files.atomic_path(Path(folder) / PREDICTIONS) as temporary:
            parquet.write_table(table, temporary)
        with files.atomic_path(Path(folder) / PREDICTIONS_CSV) as temporary:
            csv.write_csv(table, temporary)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Predictions:
        """Read predictions.parquet of a run's folder.

        Raises:
            ResultsError: if it is missing, broken, or not ours.
        """
        path = _part(folder, PREDICTIONS)
        try:
            table = parquet.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise ResultsError(
                f"{path} is not a readable Parquet file ({_line(error)}); run the recipe again"
            ) from None
        missing = [name for name in _COLUMNS if name not in table.column_names]
        classes = tuple(name.removeprefix(_PREFIX) for name in table.column_names if name.startswith(_PREFIX))
        if missing or not classes:
            lacking = ", ".join(missing or [f"{_PREFIX}CLASS"])
            raise ResultsError(f"{path} was not written by Soundmark: it lacks the columns {lacking}")
        try:
            return cls._from_table(table, classes)
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise ResultsError(f"{path} is damaged: {_line(error)}; run the recipe again") from None

    @classmethod
    def _from_table(cls, table: pa.Table, classes: tuple[str, ...]) -> Predictions:
        column = {name: table[name].to_pylist() for name in _COLUMNS}
        texts = ("clip", "path", "group", "fold", "label")
        if not all(isinstance(value, str) for name in texts for value in column[name]):
            raise TypeError("a column of text holds something else")
        number = {label: c for c, label in enumerate(classes)}
        if unknown := set(column["label"]) - set(classes):
            raise ValueError(f"it has no column of probabilities for the label {min(unknown)!r}")
        return cls(
            clips=column["clip"],
            paths=column["path"],
            starts=[float(start) for start in column["start"]],
            ends=[None if end is None else float(end) for end in column["end"]],
            groups=column["group"],
            folds=column["fold"],
            targets=np.array([number[label] for label in column["label"]], dtype=np.int64),
            probabilities=np.column_stack([table[_PREFIX + label].to_numpy().astype(np.float64) for label in classes]),
            classes=classes,
        )


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and everything read from it."""

    folder: Path
    recipe: dict[str, Any]
    predictions: Predictions
    metrics: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Run:
        """Read a run's folder.

        Raises:
            ResultsError: if the folder or one of its files is missing, broken, or not ours.
        """
        metrics = read_json(folder, METRICS)
        head = metrics.get("headline")
        if (
            metrics.get("format") != 1
            or not isinstance(head, dict)
            or head.get("metric") not in list(MEASURES)
            or not isinstance(head.get("value"), int | float)
        ):
            raise ResultsError(
                f"{Path(folder) / METRICS} is damaged, or of another version of Soundmark; update, or run it again"
            )
        return cls(Path(folder), read_recipe(folder), Predictions.read(folder), metrics, read_json(folder, ENVIRONMENT))

    def write(self) -> None:
        """Write every part into the folder, each file whole or not at all."""
        self.predictions.write(self.folder)
        write_recipe(self.folder, self.recipe)
        files.write_json(self.folder / ENVIRONMENT, self.environment)
        files.write_json(self.folder / METRICS, self.metrics)  # last: a folder that has metrics is complete


def write_recipe(folder: str | os.PathLike[str], recipe: dict[str, Any]) -> None:
    """Write recipe.toml of a run's folder."""
    import tomli_w

    files.write_text(Path(folder) / RECIPE, tomli_w.dumps(recipe))


def write_history(folder: str | os.PathLike[str], training: Sequence[Mapping[str, Any]]) -> None:
    """Write history.csv of a run's folder, whole or not at all.

    Args:
        folder: of the run.
        training: that entry of metrics.json: of every fold its name, `fold`, and its epochs, `history`.
    """
    rows = [(str(each["fold"]), row) for each in training for row in each["history"]]
    kinds = {"stage": pa.string(), "epoch": pa.int64(), "rate": pa.float64()} | dict.fromkeys(_EPOCH, pa.float64())
    columns = {"fold": pa.array([fold for fold, _ in rows], pa.string())}
    columns |= {name: pa.array([row.get(name) for _, row in rows], kind) for name, kind in kinds.items()}
    with files.atomic_path(Path(folder) / HISTORY) as temporary:
        csv.write_csv(pa.table(columns), temporary)


def read_recipe(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read recipe.toml of a run's folder.

    Raises:
        ResultsError: if it is missing or not TOML.
    """
    path = _part(folder, RECIPE)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"cannot read {path}: {_line(error)}; run the job again") from None


def read_json(folder: str | os.PathLike[str], name: str) -> dict[str, Any]:
    """Read one of a run's JSON files.

    Raises:
        ResultsError: if it is missing, or not a JSON object.
    """
    path = _part(folder, name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"cannot read {path}: {_line(error)}; run the recipe again") from None
    if not isinstance(content, dict):
        raise ResultsError(f"{path} was not written by Soundmark: it holds no JSON object")
    return content


def _part(folder: str | os.PathLike[str], name: str) -> Path:
    path = Path(folder)
    if not path.exists():
        raise ResultsError(f"there is no run at {path}: give the folder that `soundmark train` wrote")
    if not path.is_dir():
        raise ResultsError(f"{path} is a file: give the run's folder, which holds {METRICS} and {PREDICTIONS}")
    if not (path / name).is_file():
        present = any((path / part).exists() for part in (PREDICTIONS, RECIPE, METRICS, "folds"))
        why = "the run was not finished; start it again to go on" if present else "it is not the folder of a run"
        raise ResultsError(f"{path} has no {name}: {why}")
    return path / name


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


# --- Two runs ----------------------------------------------------------------------------------------------------


def compare(
    run_a: Run | str | os.PathLike[str], run_b: Run | str | os.PathLike[str], *, seed: int = 0, n: int = RESAMPLES,
    per_class: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Compare two runs on the same clips, paired.

    Args:
        run_a: a run, or its folder.
        run_b: another; differences are b - a.
        seed: of the resampling.
        n: number of resamples.
        per_class: say it of every class too.

    Returns:
        `a`, `b` {name, value}; `metric`, of the first run's headline, with `over` "folds" where that is a mean over
        folds, each run's own; `clips`, `groups`, how many; `difference` (b - a)
        with `low` and `high`, its 95 % interval, whole groups resampled; `both_right`, `only_a`, `only_b`,
        `both_wrong`, clips; `mcnemar` {p, exact}, p being the mid-p value, and `permutation` {p}, which swaps whole
        groups (see `soundmark.intervals`); `notes`, what to bear in mind; and, if asked for, `per_class`, the rows of
        `soundmark.comparing.by_class`.

    Raises:
        ResultsError: if the runs do not hold the same clips, labels and classes; the message says how they differ.
    """
    a, b = (run if isinstance(run, Run) else Run.read(run) for run in (run_a, run_b))
    return comparing.compare(a, b, seed=seed, n=n, per_class=per_class)


__all__ = ["Predictions", "Run", "compare", "environment", "read_json", "read_recipe", "write_history", "write_recipe"]
