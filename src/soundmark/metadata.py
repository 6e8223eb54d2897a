"""What a model file says of itself: labels, thresholds, what was measured, what it learnt from, under which licence.

Scores, and the thresholds that are not those of a class looked for, come from the protocol's predictions, each by a
learner that had not heard the clip: to a model fitted on all clips they are what out-of-fold scores are to a training
side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from soundmark.detection import FALSE_ALARM_RATES, accepting_threshold, balancing_threshold
from soundmark.encoders import weights
from soundmark.errors import TaskError
from soundmark.learners import Learner
from soundmark.results import Predictions
from soundmark.tasks.base import Task
from soundmark.tasks.view import views
from soundmark.trained import Trained
from soundmark.viewed import alarms_of

CODE_LICENCE = "MIT"
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "calibration_error")
CONFUSED = 10  # pairs of classes that are told
DIGITS = 4


def metadata(
    task: Task, learner: Learner, predictions: Predictions, summary: dict[str, Any], alarms: dict[str, float],
    lengths: Sequence[float],
) -> dict[str, Any]:  # fmt: skip
    """Everything but format, sample rate, window policy and version, which export adds.

    Args:
        task: all of whose clips the learner was fitted on.
        learner: fitted.
        predictions: of the protocol.
        summary: of the protocol, as in `metrics.json`.
        alarms: thresholds by rate of false alarms, where a class is looked for.
        lengths: (clips,) seconds.
    """
    return {
        "labels": list(task.classes),
        "kind": task.kind,
        "task": task.name,
        "view": task.view,
        "clip_seconds": {"median": float(np.median(lengths)), "max": float(np.max(lengths))},
        "thresholds": _thresholds(task, alarms, predictions),
        "alarm_thresholds": alarms,
        "unknown_below": float(np.clip(accepting_threshold(predictions.probabilities.max(axis=1)), 0.0, 1.0)),
        "views": {} if task.view else _views(task, predictions),
        "metrics": {
            "protocol": task.protocol,
            "headline": summary["headline"],
            "scores": {name: summary["metrics"][name] for name in SCORES if name in summary["metrics"]},
            "alarm": summary.get("alarm", []),
            "per_class": [_class(row) for row in summary["per_class"]],
            "confused": summary["confused_pairs"][:CONFUSED],
        },
        "training_data": {
            "title": task.title,
            "clips": len(task.clips),
            "source": task.source,
            "licence": task.licence,
            "notes": list(task.notes),
        },
        "licence": task.licence,
        "code_licence": CODE_LICENCE,
        "learner": dict(learner.describe()),
        "pretrained": weights.provenance(_pretrained(learner)),
    }


def _pretrained(learner: Learner) -> list[str]:
    """What published weights may have had a part in it: its own, and those of who taught it."""
    said = learner.describe()
    teacher = learner.teacher if isinstance(learner, Trained) else None
    return [said.get("encoder") or said["network"], *(_pretrained(teacher) if teacher else [])]


def _class(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: row[key] for key in ("precision", "recall", "f1")}
    return {"label": row["label"], "clips": row["clips"]} | {
        key: None if value is None else round(value, DIGITS) for key, value in numbers.items()
    }


def _thresholds(task: Task, alarms: dict[str, float], predictions: Predictions) -> dict[str, float]:
    """From which score on a label is said to be there: of the class looked for its alarm's, else by the best F1."""
    if task.positive:
        return {task.positive: min(1.0, alarms[str(max(FALSE_ALARM_RATES))])} if alarms else {}
    return {
        label: min(1.0, balancing_threshold(predictions.probabilities[:, place], predictions.targets == place))
        for place, label in enumerate(predictions.classes)
        if (predictions.targets == place).any()
    }


def _views(task: Task, predictions: Predictions) -> dict[str, Any]:
    """For the shipped views of the task in which a class is looked for: when it is there, and what alarms would do."""
    found = {}
    for view in views(task.name.partition("?")[0]):
        try:
            said = alarms_of(predictions, view) if view.positive else None
        except TaskError:  # a part of the task's classes, which the view does not fit
            continue
        if said:
            label = {view.positive: min(1.0, said["alarm_thresholds"][str(max(FALSE_ALARM_RATES))])}
            found[view.name] = {"title": view.title, "positive": view.positive, "thresholds": label} | said
    return found
