"""Views: a map from a task's classes to other classes. It relabels clips, and sums a trained model's probabilities.

A view is a small TOML file, which a user can write too:

    title = "Danger or safe"
    task = "esc50"
    positive = "danger"            # in two classes: the one whose recall matters
    metric = "balanced_accuracy"   # the headline's score
    others = "safe"                # the new class of everything not named in [map]; without it, that is left out
    keep = ["siren", "rain"]       # leave out all other classes

    [map]
    siren = "danger"

    [folders]                      # names of the folders that `soundmark data export` makes
    danger = "Danger"

`keep` alone keeps those classes under their own names.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from soundmark.errors import TaskError
from soundmark.tasks.base import Task, leak_notes

FOLDER = Path(__file__).parent / "views"
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
_TYPES: dict[str, type] = {
    "title": str,
    "task": str,
    "positive": str,
    "metric": str,
    "others": str,
    "keep": list,
    "map": dict,
    "folders": dict,
}


@dataclass(frozen=True)
class View:
    """A relabelling of a task's classes.

    Attributes:
        name: as in the grammar, `danger` in `esc50:danger`; the path, for a view from a user's file.
        task: name of the task it belongs to, or "" for any task that has its classes.
        title: for people.
        mapping: old class to new class, for the classes the file names.
        others: new class of all classes that `mapping` does not name; "" leaves them out.
        positive: in a two-class view, the class whose recall matters; else "".
        metric: the headline's score; "" is the task's own.
        folders: new class to the folder's name in an export, where it differs.
    """

    name: str
    task: str
    title: str
    mapping: Mapping[str, str]
    positive: str = ""
    metric: str = ""
    others: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)

    def target(self, label: str) -> str:
        """The new class of an old one, or "" where the view leaves it out."""
        return self.mapping.get(label, self.others)

    def classes(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The new classes, in the order in which `labels` first reach them.

        Raises:
            TaskError: if the view names classes that `labels` lack, or fewer than two classes would remain.
        """
        unknown = sorted(set(self.mapping) - set(labels))
        if unknown:
            near = difflib.get_close_matches(unknown[0], labels, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the classes are: {', '.join(labels)}"
            raise TaskError(f"view {self.name!r} names classes that are not there: {', '.join(unknown)}{hint}")
        new = tuple(dict.fromkeys(target for label in labels if (target := self.target(label))))
        if len(new) < 2:
            raise TaskError(f"view {self.name!r} leaves {len(new)} of the classes; a task needs at least two")
        if self.positive and self.positive not in new:
            raise TaskError(
                f"view {self.name!r} has positive = {self.positive!r}, but its classes are {', '.join(new)}"
            )
        if self.positive and len(new) != 2:
            raise TaskError(f"view {self.name!r} has a positive class and {len(new)} classes; it takes two classes")
        return new

    def matrix(self, labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
        """The matrix that sums probabilities of `labels` into this view's classes.

        Args:
            labels: the old classes, in the order of the probability columns.

        Returns:
            (old, new) float64 of zeros and ones, so `probabilities @ matrix`, and the new labels. The row of a class
            that the view leaves out is zero, so the new probabilities then sum to less than one.

        Raises:
            TaskError: as `classes`.
        """
        new = self.classes(labels)
        place = {label: i for i, label in enumerate(new)}
        matrix = np.zeros((len(labels), len(new)))
        for row, label in enumerate(labels):
            target = self.target(label)
            if target:
                matrix[row, place[target]] = 1.0
        return matrix, new

    def apply(self, task: Task) -> Task:
        """The task with its clips relabelled, and those of classes left out gone from the table and every round.

        Raises:
            TaskError: as `classes`; if the task has a view already, is another task, or no round is left.
        """
        if task.view:
            raise TaskError(f"{task.full_name} is a view already; give one view")
        if self.task and self.task != task.name.partition("?")[0]:
            raise TaskError(f"view {self.name!r} is made for the task {self.task!r}, not for {task.name!r}")
        classes = self.classes(task.classes)
        kept = task.drop(clip for clip in task.clips if not any(map(self.target, clip.labels)))
        clips = tuple(
            replace(clip, labels=tuple(dict.fromkeys(filter(None, map(self.target, clip.labels)))))
            for clip in kept.clips
        )
        rounds = tuple(part for part in kept.rounds if part.train and part.test)
        if not rounds:
            raise TaskError(f"view {self.name!r} leaves no round of {task.name!r} with clips on both sides")
        viewed = replace(
            task,
            clips=clips,
            classes=classes,
            rounds=rounds,
            metric=self.metric or task.metric,
            positive=self.positive,
            view=self.name,
            title=f"{task.title}: {self.title}" if task.title and self.title else self.title or task.title,
        )
        return replace(viewed, notes=(*task.notes, *leak_notes(viewed))) if task.official else viewed


def views(task_name: str) -> list[View]:
    """The views that are shipped for a task, by name."""
    return [_read(path, path.stem) for path in sorted((FOLDER / task_name).glob("*.toml"))]


def load_view(name_or_path: str, task_name: str) -> View:
    """A shipped view by name, or a user's view by the path of its TOML file.

    Args:
        name_or_path: of the view.
        task_name: of its task, with settings or without.

    Raises:
        TaskError: if there is no such view (those there are get listed), or its file is malformed.
    """
    task_name = task_name.partition("?")[0]
    shipped = {view.name: view for view in views(task_name)}
    if name_or_path in shipped:
        return shipped[name_or_path]
    if name_or_path.endswith(".toml"):
        return _read(Path(name_or_path), name_or_path)
    near = difflib.get_close_matches(name_or_path, shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    there = f"there are: {', '.join(shipped)}" if shipped else "it ships with none"
    raise TaskError(
        f"{task_name!r} has no view {name_or_path!r}{hint}; {there}; a view of your own is the path of a .toml file"
    )


def _read(path: Path, name: str) -> View:
    try:
        table = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:  # not there, not text, or not TOML
        raise TaskError(f"cannot read the view {path}: {getattr(error, 'strerror', None) or error}") from None
    return _from_table(table, name, path)


def _from_table(table: Mapping[str, Any], name: str, path: Path) -> View:
    for key, value in table.items():
        if key not in _TYPES:
            raise TaskError(f"{path}: unknown key {key!r}; a view has {', '.join(_TYPES)}")
        if not isinstance(value, _TYPES[key]):
            raise TaskError(f"{path}: {key} should be a {_TYPES[key].__name__}, not {value!r}")
    keep, mapped, folders = table.get("keep", []), table.get("map", {}), table.get("folders", {})
    others = table.get("others", "")
    for key, texts in (("keep", keep), ("map", mapped.values()), ("folders", folders.values())):
        for text in texts:
            if not (isinstance(text, str) and text.strip()):
                raise TaskError(f"{path}: {key} should hold names, not {text!r}")
    if not (keep or mapped):
        raise TaskError(f"{path}: a view needs keep, [map], or both")
    if table.get("metric", METRICS[0]) not in METRICS:
        raise TaskError(f"{path}: unknown metric {table['metric']!r}; there are: {', '.join(METRICS)}")
    outside = sorted(set(mapped) - set(keep)) if keep else []
    if outside:
        raise TaskError(f"{path}: [map] names classes that keep leaves out: {', '.join(outside)}")
    mapping = {label: mapped.get(label, others or label) for label in keep} or dict(mapped)
    return View(
        name=name,
        task=table.get("task", ""),
        title=table.get("title", ""),
        mapping=mapping,
        positive=table.get("positive", ""),
        metric=table.get("metric", ""),
        others="" if keep else others,
        folders=folders,
    )
