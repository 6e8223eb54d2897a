"""Sound events of a model, its alarm among them: by the same rules for recordings and for streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from soundmark import eventrules, events
from soundmark.errors import EventError
from soundmark.serve.models import Served
from soundmark.serve.problems import Problem


class Hearing:
    """What of a model's labels is looked for, and how.

    Args:
        model: which.
        threshold: from which score on a label is there; None takes the model's own, label by label.
        labels: look for these alone; none looks for all. The alarm is looked for in any case.
        window: seconds; None takes what suits the model.
        hop: seconds; None takes what suits the model.
        min_seconds: shorter events are dropped.

    Raises:
        Problem: 422 if a setting is not possible with this model.
    """

    def __init__(
        self, model: Served, threshold: float | None = None, labels: Sequence[str] = (), window: float | None = None,
        hop: float | None = None, min_seconds: float = 0.0,
    ) -> None:  # fmt: skip
        classifier, self.alarm = model.classifier, model.alarm
        try:
            settings = events.settings_for(
                classifier, threshold=threshold, labels=tuple(labels), window_seconds=window, hop_seconds=hop,
                min_seconds=min_seconds,
            )  # fmt: skip
        except EventError as error:
            raise Problem(422, "bad_setting", str(error)) from None
        self.labels = classifier.labels
        if self.alarm is not None:
            if self.alarm.label not in self.labels:
                self.labels = (*self.labels, self.alarm.label)
            # Where the rate of false alarms allows everything, 0 is the threshold; an event needs one above.
            least = max(self.alarm.threshold, eventrules.LEAST_THRESHOLD)
            settings = replace(settings, thresholds={**settings.thresholds, self.alarm.label: least})
        self.settings = settings

    def detector(self) -> events.Detector:
        """A detector for rows as `extended` gives them."""
        return events.Detector(self.labels, self.settings)

    def extended(self, rows: np.ndarray) -> np.ndarray:
        """(windows, labels) probabilities with a column for the alarm, where the model has no label for it."""
        if self.alarm is None or rows.shape[1] == len(self.labels):
            return rows
        return np.column_stack([rows, self.alarm.score(rows)])

    def is_alarm(self, label: str) -> bool:
        """Whether an event of this label is the alarm."""
        return self.alarm is not None and label == self.alarm.label
