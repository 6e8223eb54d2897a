"""The models of a service: each under a name, and the alarm that it can give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soundmark.errors import ModelError
from soundmark.model import Classifier, View

ALARM_VIEW = "danger"


@dataclass(frozen=True)
class Alarm:
    """A class that is looked for, and from which score on it is taken to be there.

    Attributes:
        label: its name, such as `danger`.
        title: of the view that joins it, for people; "" where the model has it as a label.
        sounds: the model's labels that it consists of.
        threshold: from 0 to 1.
        weights: (labels,) zeros and ones: the probabilities that are summed.
    """

    label: str
    title: str
    sounds: tuple[str, ...]
    threshold: float
    weights: np.ndarray

    def score(self, probabilities: np.ndarray) -> np.ndarray:
        """(windows,) scores of (windows, labels) probabilities."""
        scores: np.ndarray = np.minimum(probabilities @ self.weights, 1.0)
        return scores


@dataclass(frozen=True)
class Served:
    """A model under its name."""

    name: str
    classifier: Classifier
    alarm: Alarm | None = None


def served(classifier: Classifier, name: str | None = None, view: View | None = None) -> Served:
    """A model to serve.

    Args:
        classifier: loaded.
        name: in requests; None takes what the file says, or its own name without an ending.
        view: with the class that gives alarm; None where the model has no such class, or has it as a label.

    Raises:
        TaskError: if the view names classes that the model lacks.
        ModelError: if the file holds no threshold for the view.
    """
    return Served(name or _name(classifier), classifier, alarm_of(classifier, view))


def _name(classifier: Classifier) -> str:
    said = classifier.metadata.get("name")
    if isinstance(said, str) and said and len(said) <= 80 and said.isprintable():
        return said
    path = Path(os.fspath(classifier.name))
    return (path.parent.name if path.name == "model.onnx" and path.parent.name else path.stem) or "model"


def alarm_of(classifier: Classifier, view: View | None) -> Alarm | None:
    """The alarm that a model can give, through a view or by a label of its own."""
    if view is not None:
        seen = classifier.with_view(view)
        if len(seen.thresholds) != 1:
            raise ModelError(f"{classifier.name} holds no threshold for the view {view.name!r}: leave it out")
        ((label, threshold),) = seen.thresholds.items()
        matrix, labels = view.matrix(classifier.labels)
        column = matrix[:, labels.index(label)].astype(np.float32)
        sounds = tuple(name for name, part in zip(classifier.labels, column, strict=True) if part)
        return Alarm(label, str(getattr(view, "title", "")), sounds, threshold, column)
    if not classifier.metadata.get("alarm_thresholds") or len(classifier.thresholds) != 1:
        return None
    ((label, threshold),) = classifier.thresholds.items()
    return Alarm(label, "", (label,), threshold, (np.asarray(classifier.labels) == label).astype(np.float32))


def alarm_view(classifier: Classifier, name: str | None) -> str | None:
    """Which of the views that a model file knows gives the alarm: the one asked for, or `ALARM_VIEW`.

    Raises:
        ModelError: if the one asked for is not among those that the file has thresholds for.
    """
    known = [key for key, thresholds in classifier.facts.view_thresholds.items() if len(thresholds) == 1]
    if name is None:
        return ALARM_VIEW if ALARM_VIEW in known else None
    if name not in known:
        raise ModelError(
            f"{classifier.name} has no thresholds for a view {name!r}; it has them for: {', '.join(known) or 'none'}"
        )
    return name


def described(model: Served) -> dict[str, Any]:
    """What a service says of a model: what it hears, how good it is, what it may be used for."""
    said, alarm = model.classifier.metadata, model.alarm
    measured = said.get("metrics") if isinstance(said.get("metrics"), dict) else {}
    return {
        "name": model.name,
        "labels": list(model.classifier.labels),
        "kind": model.classifier.facts.kind,
        "sample_rate": model.classifier.sample_rate,
        "policy": model.classifier.policy.to_dict(),
        "clip_seconds": dict(zip(("median", "max"), model.classifier.facts.clip_seconds, strict=True)),
        "unknown_below": model.classifier.facts.unknown_below,
        "alarm": alarm
        and {"label": alarm.label, "title": alarm.title, "threshold": alarm.threshold, "sounds": list(alarm.sounds)},
        "about": _text(said.get("about")),
        "task": _text(said.get("task")),
        "headline": (measured or {}).get("headline"),
        "licence": _text(said.get("licence")),
        "soundmark_version": _text(said.get("soundmark_version")),
    }


def by_name(models: Sequence[Served]) -> dict[str, Served]:
    """The models by name; the first is the one that answers where none is asked for.

    Raises:
        ModelError: if there are none, or two of one name.
    """
    if not models:
        raise ModelError("there is no model to serve: name one with --model")
    table: dict[str, Served] = {}
    for model in models:
        if model.name in table:
            raise ModelError(f"two models are called {model.name!r}: name one of them, as in --model NAME=FILE")
        table[model.name] = model
    return table


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
