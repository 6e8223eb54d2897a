"""The rules by which `soundmark.events` finds them: thresholds, windows, smoothing, lengths and gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from soundmark.errors import EventError

if TYPE_CHECKING:
    from soundmark.model import Classifier

DEFAULT_THRESHOLD = 0.5  # where the model file has none at all
LEAST_THRESHOLD = 0.01  # of a file's own: what scores 0 would be there for ever
HOPS_PER_WINDOW = 5  # where the model's policy sets windows end to end, events are looked for more finely
SLACK = 1e-6  # seconds; sums of floats are not exact


@dataclass(frozen=True)
class Settings:
    """How events are found.

    Attributes:
        thresholds: by label, the score from which on it is there. Labels that are not named are not looked for.
        window_seconds: length of the windows that are to be given.
        hop_seconds: time between their starts; at most a window.
        hysteresis: an event goes on down to this share of its threshold; 1 for a single threshold.
        smoothing: `median` of the windows around each (which makes everything known later by half of them), or
            `exponential`, with the weight 2 / (smooth_over + 1) of the newest.
        smooth_over: windows that are smoothed over; 1 for none. Odd for the median.
        min_seconds: shorter events are dropped.
        merge_seconds: gaps up to this are bridged.
        update_seconds: time between updates of an event that goes on; 0 tells of every window.

    Raises:
        EventError: if a setting is out of its range.
    """

    thresholds: Mapping[str, float]
    window_seconds: float
    hop_seconds: float
    hysteresis: float = 0.75
    smoothing: Literal["median", "exponential"] = "median"
    smooth_over: int = 1
    min_seconds: float = 0.0
    merge_seconds: float = 0.0
    update_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise EventError("there is no label to look for: name one with a threshold")
        for label, value in self.thresholds.items():
            if not _within(value, 0, 1) or value == 0:
                raise EventError(f"the threshold of {label!r} is {value!r}: give a score above 0 and up to 1")
        for name in ("window_seconds", "hop_seconds"):
            value = getattr(self, name)
            if not _within(value, 0, math.inf) or value in (0, math.inf):
                raise EventError(f"{name} is {value!r}: give seconds above 0")
        if self.hop_seconds > self.window_seconds + SLACK:
            raise EventError(
                f"a hop of {self.hop_seconds:g} s leaves sounds between windows of {self.window_seconds:g} s unheard:"
                " make it at most a window"
            )
        if not _within(self.hysteresis, 0, 1) or self.hysteresis == 0:
            raise EventError(f"hysteresis is {self.hysteresis!r}: give a share of the threshold above 0 and up to 1")
        if self.smoothing not in ("median", "exponential"):
            raise EventError(f"smoothing is {self.smoothing!r}: use median or exponential")
        if isinstance(self.smooth_over, bool) or not isinstance(self.smooth_over, int) or self.smooth_over < 1:
            raise EventError(f"smooth_over is {self.smooth_over!r}: give a number of windows from 1 up")
        if self.smoothing == "median" and self.smooth_over % 2 == 0:
            raise EventError(f"a median over {self.smooth_over} windows has no middle: give an odd number")
        for name in ("min_seconds", "merge_seconds", "update_seconds"):
            if not _within(getattr(self, name), 0, math.inf):
                raise EventError(f"{name} is {getattr(self, name)!r}: give seconds from 0 up")


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def settings_for(
    classifier: Classifier, *, threshold: float | Mapping[str, float] | None = None, labels: Sequence[str] = (),
    false_alarms: float | None = None, window_seconds: float | None = None, hop_seconds: float | None = None,
    merge_seconds: float | None = None, **more: Any,
) -> Settings:  # fmt: skip
    """Settings that suit a classifier, where it is not said otherwise.

    Args:
        classifier: with a view or without. Its thresholds say which labels are looked for and from which score on;
            where it has none, all labels are, from 0.5 on.
        threshold: one for every label looked for, or by label, which are then looked for too.
        labels: look for these alone.
        false_alarms: take the threshold at this rate of false alarms, of those that the model file holds for the class
            it looks for; "0.05" and "0.01" of all other clips, as measured by its protocol.
        window_seconds: None takes the policy's, or the length of the median training clip.
        hop_seconds: None takes the policy's, or a fifth of the window.
        merge_seconds: None takes a hop, so that a single window below the threshold does not end an event.
        more: other attributes of `Settings`.

    Raises:
        EventError: if a label is none of the classifier's, or a setting is out of its range.
    """
    policy, (median, _) = classifier.policy, classifier.facts.clip_seconds
    window = window_seconds or policy.window_seconds or min(max(median, policy.min_seconds), 600.0)
    hop = hop_seconds or min(policy.hop_seconds or window / HOPS_PER_WINDOW, window)
    known = {label: max(value, LEAST_THRESHOLD) for label, value in classifier.thresholds.items()}
    found = known or dict.fromkeys(classifier.labels, DEFAULT_THRESHOLD)
    given = threshold if isinstance(threshold, Mapping) else {}
    _check_labels(classifier, [*labels, *given])
    if labels:
        found = {label: found.get(label, DEFAULT_THRESHOLD) for label in labels}
    if false_alarms is not None:
        found |= {label: value for label, value in _alarm(classifier, false_alarms).items() if label in found}
    if threshold is not None and not isinstance(threshold, Mapping):
        found = dict.fromkeys(found, threshold)
    merge = hop if merge_seconds is None else merge_seconds
    return Settings(found | dict(given), window, hop, merge_seconds=merge, **more)


def _check_labels(classifier: Classifier, named: Sequence[str]) -> None:
    strange = [label for label in named if label not in classifier.labels]
    if strange:
        listed = ", ".join(classifier.labels[:60])
        raise EventError(f"{classifier.name} does not know {strange[0]!r}; its labels are: {listed}")


def _alarm(classifier: Classifier, rate: float) -> dict[str, float]:
    """The threshold of the class looked for at a rate of false alarms, from metadata that may be a stranger's."""
    metadata = classifier.metadata
    about: Any = metadata.get("views", {}).get(str(metadata.get("view"))) or metadata
    table = about.get("alarm_thresholds")
    rates = {key: value for key, value in table.items() if _within(value, 0, 1)} if isinstance(table, Mapping) else {}
    looked_for = about.get("positive") or next(iter(classifier.thresholds), None)
    if str(rate) not in rates or not isinstance(looked_for, str):
        there = f"it has them at {', '.join(map(str, rates))}" if rates else "it has none, so give a threshold"
        raise EventError(f"{classifier.name} has no threshold at a rate of false alarms of {rate:g}: {there}")
    return {looked_for: max(float(rates[str(rate)]), LEAST_THRESHOLD)}
