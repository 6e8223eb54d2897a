"""What a model file says of itself, from what the protocol measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from soundmark import metadata, metrics, tasks
from soundmark.detection import balancing_threshold, choose_threshold
from soundmark.results import Predictions
from soundmark.tasks.base import Task
from soundmark.trained import Trained


class Learner:
    """Says what it is, and no more."""

    def describe(self) -> dict[str, str]:
        return {"encoder": "logmel", "pooling": "mean", "head": "svm"}


def made(task: Task) -> Predictions:
    """Predictions that are right two times of three."""
    rng, targets = np.random.default_rng(3), np.asarray(task.targets())
    scores = rng.random((len(targets), len(task.classes))) + 0.8 * np.eye(len(task.classes))[targets]
    folds = np.empty(len(targets), dtype=object)
    for part in task.rounds:
        folds[list(part.test)] = part.name
    return Predictions(
        clips=[clip.path for clip in task.clips], paths=[clip.path for clip in task.clips],
        starts=[0.0] * len(targets), ends=[None] * len(targets), groups=[clip.group for clip in task.clips],
        folds=folds.tolist(), targets=targets, probabilities=scores / scores.sum(1, keepdims=True),
        classes=task.classes,
    )  # fmt: skip


def said(task: Task, alarms: dict[str, float] | None = None) -> dict[str, Any]:
    predictions = made(task)
    summary = metrics.summary(predictions, metric="accuracy", n=20)
    return metadata.metadata(task, Learner(), predictions, summary, alarms or {}, [1.0, 2.0, 6.0])  # type: ignore[arg-type]


def test_it_holds_what_the_protocol_measured() -> None:
    task = tasks.load("toy")
    found = said(task)
    assert found["labels"] == list(task.classes)
    assert found["clip_seconds"] == {"median": 2.0, "max": 6.0}
    assert found["metrics"]["scores"]["accuracy"]["value"] == found["metrics"]["headline"]["value"]
    assert [row["label"] for row in found["metrics"]["per_class"]] == list(task.classes)
    assert all(set(row) == {"label", "clips", "precision", "recall", "f1"} for row in found["metrics"]["per_class"])
    assert 0 < len(found["metrics"]["confused"]) <= metadata.CONFUSED
    assert (found["licence"], found["code_licence"]) == (task.licence, "MIT")
    assert found["training_data"]["licence"] == task.licence


def test_each_label_has_the_threshold_of_its_best_f1() -> None:
    task = tasks.load("toy")
    predictions, found = made(task), said(task)
    for place, label in enumerate(task.classes):
        wanted = balancing_threshold(predictions.probabilities[:, place], predictions.targets == place)
        assert found["thresholds"][label] == pytest.approx(min(1.0, wanted))


def test_views_that_look_for_a_class_bring_their_thresholds() -> None:
    task = tasks.load("toy")
    predictions, found = made(task), said(task)
    view = tasks.load_view("danger", "toy")
    assert set(found["views"]) == {"danger"}
    matrix, labels = view.matrix(task.classes)
    scores = (predictions.probabilities @ matrix)[:, labels.index(view.positive)]
    positive = matrix[predictions.targets].argmax(1) == labels.index(view.positive)
    about = found["views"][view.name]
    for rate in (0.05, 0.01):
        assert about["alarm_thresholds"][str(rate)] == pytest.approx(choose_threshold(scores, positive, rate))
    assert about["thresholds"] == {view.positive: about["alarm_thresholds"]["0.05"]}
    assert [row["max_false_alarm"] for row in about["alarm"]] == [0.05, 0.01]
    assert all("thresholds" not in row for row in about["alarm"])


def test_a_task_seen_through_a_view_has_no_further_views() -> None:
    assert said(tasks.load("toy:danger"), {"0.05": 0.3, "0.01": 0.6})["views"] == {}


def test_views_that_do_not_fit_the_classes_are_left_out() -> None:
    task = tasks.load("toy")
    predictions = made(task)
    renamed = replace(predictions, classes=tuple(f"other {name}" for name in predictions.classes))
    assert metadata._views(task, renamed) == {}


def test_the_class_looked_for_has_its_alarms_threshold() -> None:
    task = tasks.load("toy:danger")
    assert said(task, {"0.05": 0.3, "0.01": 0.6})["thresholds"] == {task.positive: 0.3}
    assert said(task)["thresholds"] == {}


def test_who_taught_is_among_what_was_pretrained() -> None:
    taught = Trained("cnn", teacher=Trained("mlp", teacher=None), teacher_name="some recipe")
    assert metadata._pretrained(taught) == ["cnn", "mlp"]
    assert metadata._pretrained(Learner()) == ["logmel"]  # type: ignore[arg-type]
