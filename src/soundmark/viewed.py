"""A finished run seen through a view: 50 classes were learnt, and danger or safe is what is asked.

A view sums a trained model's probabilities, so what a run predicted answers the coarser question too, with nothing
trained anew.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from soundmark import metrics
from soundmark.detection import FALSE_ALARM_RATES, choose_threshold
from soundmark.errors import ResultsError
from soundmark.results import Predictions, Run
from soundmark.tasks.view import View, load_view

_KEPT = ("title", "protocol", "learner", "seed", "bad_clips", "seconds", "pretrained")


def through(run: Run, name: str, folder: str | os.PathLike[str]) -> Run:
    """Measure a run's predictions on the classes of a view, and write that as a run of its own.

    Clips of classes that the view leaves out are left out. With two classes, one of them looked for, recall is stated
    at rates of false alarms; a fold's threshold is taken from the test clips of all other folds, whose probabilities
    come from models that had not heard them.

    Args:
        run: finished, of a task without a view.
        name: the view's, or the path of a view's file.
        folder: where to write it; a folder that holds anything else is left alone.

    Raises:
        ResultsError: if the run has a view already, or the folder is another run's.
        TaskError: if there is no such view of the run's task, or its classes are not the run's.
    """
    task, _, known = str(run.metrics.get("task", "")).partition(":")
    if known:
        raise ResultsError(f"{run.folder} is a run of the view {known!r} already: give a run of all classes")
    view = load_view(name, task)
    place, full = Path(folder), f"{task}:{view.name}"
    if place.exists() and any(place.iterdir()) and not _is_ours(place, full):
        raise ResultsError(f"{place} holds something else already: name another folder with --out")
    seen = _seen(run.predictions, view)
    head = run.metrics["headline"]
    found = metrics.summary(
        seen, metric=view.metric or head["metric"], positive=view.positive, over=head.get("over", "clips")
    )
    found |= {"task": full} | {key: run.metrics[key] for key in _KEPT if key in run.metrics}
    notes = [*run.metrics.get("notes", ()), _note(run, view)]
    thresholds = _thresholds(seen, view.positive) if view.positive else {}
    if thresholds:
        found["alarm"] = metrics.alarm_rows(seen, view.positive, thresholds)
        found["thresholds_from"] = "the test clips of all other folds"
    found["notes"] = notes
    found["command"] = f"soundmark report {run.folder.as_posix()} --view {name} --out {place.as_posix()}"
    done = Run(place, run.recipe, seen, found, run.environment)
    place.mkdir(parents=True, exist_ok=True)
    done.write()
    return done


def alarms_of(predictions: Predictions, view: View) -> dict[str, Any]:
    """When a class looked for in a view is said to be there, and what such alarms would do.

    Args:
        predictions: of a whole protocol, on the classes that the view joins.
        view: with a positive class.

    Returns:
        `alarm_thresholds` by rate of false alarms, from all clips; and `alarm`, for every rate recall and realised rate
        with their intervals, every fold at the threshold of all others. Empty where no threshold can be taken.

    Raises:
        TaskError: if the view names classes that the predictions lack.
    """
    seen = _seen(predictions, view)
    thresholds = _thresholds(seen, view.positive)
    if not thresholds:
        return {}
    rows = metrics.alarm_rows(seen, view.positive, thresholds)
    return {
        "alarm_thresholds": _at_rates(seen, view.positive, np.full(len(seen.folds), True)),
        "alarm": [{key: value for key, value in row.items() if key != "thresholds"} for row in rows],
    }


def _is_ours(folder: Path, task: str) -> bool:
    try:
        return bool(Run.read(folder).metrics.get("task") == task)
    except ResultsError:
        return False


def _seen(predictions: Predictions, view: View) -> Predictions:
    """The predictions on the view's classes, of the clips that have one."""
    matrix, classes = view.matrix(predictions.classes)
    kept = np.flatnonzero(matrix[predictions.targets].any(axis=1))
    rows: dict[str, Any] = {
        key: [getattr(predictions, key)[i] for i in kept]
        for key in ("clips", "paths", "starts", "ends", "groups", "folds")
    }
    return replace(
        predictions, **rows, targets=matrix[predictions.targets[kept]].argmax(axis=1), classes=classes,
        probabilities=predictions.probabilities[kept] @ matrix,
    )  # fmt: skip


def _thresholds(seen: Predictions, positive: str) -> dict[str, dict[str, float]]:
    """For every fold and rate a threshold, from the other folds' clips; none where those lack safe ones."""
    folds, safe = np.asarray(seen.folds), seen.targets != seen.classes.index(positive)
    found = {}
    for fold in dict.fromkeys(seen.folds):
        others = folds != fold
        if not (others & safe).any():
            return {}
        found[fold] = _at_rates(seen, positive, others)
    return found


def _at_rates(seen: Predictions, positive: str, some: np.ndarray) -> dict[str, float]:
    """A threshold for every rate of false alarms, from some of the clips."""
    place = seen.classes.index(positive)
    scores, is_positive = seen.probabilities[some, place], seen.targets[some] == place
    return {str(rate): choose_threshold(scores, is_positive, rate) for rate in FALSE_ALARM_RATES}


def _note(run: Run, view: View) -> str:
    count = len(run.predictions.classes)
    return f"Learnt were {count} classes; their probabilities are summed into those of the view {view.name}."
