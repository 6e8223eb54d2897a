"""From probabilities over time to sound events: start, end, label, score.

The same few rules hold for a recording of hours and for a stream that never ends, and windows may be given one by one
or all at once with the same result:

1. **What a window speaks for.** Windows overlap, so each speaks for the time around its middle, up to half-way to the
   middles of its neighbours. The first one speaks from its own start, the last one to its own end. Hence edges of an
   event are known to half a hop at best; a sound shorter than the window is heard in every window that holds it, so
   its event comes out about as long as a window, with the sound in its middle.
2. **Smoothing.** A window's score is the median of the windows around it, or an exponential mean of those up to it.
3. **Hysteresis.** A run of windows that score at or above the lower threshold is an event where at least one of them
   scores at or above the upper one (Canny's two thresholds, usual in sound event detection).
4. **Gaps.** Events of a label are joined where the gap between them is not above `merge_seconds`.
5. **Length.** What is then shorter than `min_seconds` is no event.

Where nothing was heard between two windows (audio was lost), everything ends, and what comes after is new.

Nothing here reads or writes; times are the windows' own, in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from soundmark.errors import EventError
from soundmark.eventrules import SLACK, Settings, settings_for

__all__ = ["Change", "Detector", "Event", "Settings", "changes", "find", "settings_for"]


@dataclass(frozen=True)
class Event:
    """A sound, from when to when.

    Attributes:
        start: second.
        end: second. While the event goes on: the end of the latest window that it was heard in.
        label: the class.
        score: the highest of its windows, after smoothing.
    """

    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True)
class Change:
    """Something that became known about an event.

    Attributes:
        kind: `new`, once; `update`, any number of times; `end`, once.
        number: counts a detector's events from 1, and is the same over an event's life.
        event: as far as it is known.
        time: second up to which had been heard when it became known.
    """

    kind: Literal["new", "update", "end"]
    number: int
    event: Event
    time: float


def find(timeline: Iterable[tuple[float, float, np.ndarray]], labels: Sequence[str], settings: Settings) -> list[Event]:
    """The events of a whole recording, by start, end and label.

    Args:
        timeline: (start, end, probabilities (labels,)) of its windows, as `Classifier.windows` gives them.
        labels: of the probabilities.
        settings: see `settings_for`.

    Raises:
        EventError: as `Detector.push`.
    """
    found = [change.event for change in changes(timeline, labels, settings) if change.kind == "end"]
    return sorted(found, key=lambda event: (event.start, event.end, event.label))


def changes(
    timeline: Iterable[tuple[float, float, np.ndarray]], labels: Sequence[str], settings: Settings
) -> Iterator[Change]:
    """The lives of the events of a recording, as they become known; otherwise as `find`."""
    detector = Detector(labels, settings)
    for start, end, probabilities in timeline:
        yield from detector.push(start, end, probabilities)
    yield from detector.finish()


class _Window(NamedTuple):
    start: float
    end: float
    scores: np.ndarray

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass
class _Open:
    """An event that is not over for good."""

    start: float
    score: float
    end: float | None = None  # of its last run; None while that goes on
    number: int = 0  # 0 as long as nobody was told of it
    told: float = 0.0


@dataclass
class _Track:
    """What is going on with one label."""

    event: _Open | None = None
    run: float | None = None  # where the present run of windows above the lower threshold began
    peak: float = 0.0  # of the run
    sure: bool = False  # whether the run has reached the upper threshold

    @property
    def idle(self) -> bool:
        return self.event is None and self.run is None


class Detector:
    """Windows in, one by one and in order; what became known of events out. Memory does not grow.

    Args:
        labels: of the probabilities that will be given.
        settings: see `settings_for`.

    Raises:
        EventError: if a threshold is of none of the labels.
    """

    def __init__(self, labels: Sequence[str], settings: Settings) -> None:
        strange = [label for label in settings.thresholds if label not in labels]
        if strange:
            raise EventError(f"there is a threshold for {strange[0]!r}, which is none of the {len(labels)} labels")
        self.labels = tuple(labels)
        self.settings = settings
        self._upper = np.array([settings.thresholds.get(label, np.inf) for label in labels])
        self._lower = self._upper * settings.hysteresis
        self._tracks: dict[int, _Track] = {}
        self._count = 0
        self._latest = (-math.inf, -math.inf)
        self._wait = settings.smooth_over // 2 if settings.smoothing == "median" else 0
        self._begin()

    def _begin(self) -> None:
        """Forget what was heard; the next window is a first one."""
        self._held: deque[_Window] = deque(maxlen=2 * self._wait + 1)
        self._next = 0  # place in _held of the window that is judged next
        self._mean: np.ndarray | None = None
        self._before: _Window | None = None

    def push(self, start: float, end: float, probabilities: np.ndarray) -> list[Change]:
        """Hear the next window.

        Args:
            start: second at which it begins; not before the start of the window before.
            end: second at which it ends.
            probabilities: (labels,).

        Returns:
            What became known by it, in the order of the labels.

        Raises:
            EventError: if the window is not after the one before, or the probabilities are not numbers of that shape.
        """
        scores = np.asarray(probabilities, dtype=np.float64)
        if scores.shape != self._upper.shape or not np.isfinite(scores).all():
            raise EventError(f"a window needs {len(self.labels)} finite probabilities, not {scores.shape}")
        last_start, last_end = self._latest
        if not (last_start <= start < end < math.inf and last_end <= end):
            raise EventError(
                f"the window from {start} to {end} s does not come after that from {last_start} to {last_end} s"
            )
        said = self.finish() if self._held and start > last_end + SLACK else []
        self._latest = (start, end)
        self._hold(_Window(start, end, scores))
        if len(self._held) - self._next > self._wait:
            said += self._judge()
        return said

    def finish(self) -> list[Change]:
        """The stream has ended, or something in it is missing: what was open ends where the last window did."""
        said: list[Change] = []
        while self._next < len(self._held):
            said += self._judge()
        if self._before is not None:
            end = self._before.end
            for place in sorted(self._tracks):
                track = self._tracks[place]
                if track.event is not None:
                    track.event.end = end if track.sure else track.event.end
                    said += self._close(place, track.event)
        self._tracks.clear()
        self._begin()
        return said

    def _hold(self, window: _Window) -> None:
        if len(self._held) == self._held.maxlen:
            self._next -= 1  # the first is about to leave
        self._held.append(window)

    def _judge(self) -> list[Change]:
        """Follow every label into the next window."""
        window = self._held[self._next]
        scores = self._smoothed()
        self._next += 1
        begin = window.start if self._before is None else (self._before.middle + window.middle) / 2
        above = scores >= self._lower
        said: list[Change] = []
        for place in sorted({*self._tracks, *np.flatnonzero(above).tolist()}):
            track = self._tracks.setdefault(place, _Track())
            if above[place]:
                said += self._rise(place, track, begin, float(scores[place]))
            else:
                self._fall(track, begin)
            said += self._tell(place, track, window)
            if track.idle:
                del self._tracks[place]
        self._before = window
        return said

    def _smoothed(self) -> np.ndarray:
        window = self._held[self._next]
        if self.settings.smoothing == "median":
            if not self._wait:
                return window.scores
            around = [each.scores for i, each in enumerate(self._held) if abs(i - self._next) <= self._wait]
            middle: np.ndarray = np.median(around, axis=0)
            return middle
        weight = 2 / (self.settings.smooth_over + 1)
        self._mean = window.scores if self._mean is None else weight * window.scores + (1 - weight) * self._mean
        return self._mean

    def _rise(self, place: int, track: _Track, begin: float, score: float) -> list[Change]:
        """A window at or above the lower threshold."""
        said: list[Change] = []
        if track.run is None:
            track.run, track.peak, track.sure = begin, score, False
            event = track.event
            if event is not None and event.end is not None and self._too_far(begin - event.end):
                said += self._close(place, event)
                track.event = None
        track.peak = max(track.peak, score)
        track.sure = track.sure or score >= self._upper[place]
        if track.sure:
            if track.event is None:
                track.event = _Open(track.run, track.peak)
            track.event.end = None
            track.event.score = max(track.event.score, track.peak)
        return said

    @staticmethod
    def _fall(track: _Track, begin: float) -> None:
        """A window below it, which speaks from `begin` on."""
        if track.sure and track.event is not None:
            track.event.end = begin
        track.run, track.peak, track.sure = None, 0.0, False

    def _too_far(self, gap: float) -> bool:
        return gap > self.settings.merge_seconds + SLACK

    def _tell(self, place: int, track: _Track, window: _Window) -> list[Change]:
        """What is to be said of a label's event after a window."""
        event = track.event
        if event is None:
            return []
        least = window.middle if event.end is None else event.end  # it cannot end earlier than that any more
        if not event.number and self._long_enough(event, least):
            said = [self._new(place, event, window.end)]
        elif event.number and event.end is None and self._latest[1] - event.told >= self.settings.update_seconds:
            event.told = self._latest[1]
            said = [self._change("update", place, event, window.end)]
        else:
            said = []
        # A run that is not sure yet began near enough, or the event would be closed: wait what becomes of it. One that
        # is still to come begins after this window's middle.
        if event.end is not None and track.run is None and self._too_far(window.middle - event.end + 2 * SLACK):
            said += self._close(place, event)
            track.event = None
        return said

    def _long_enough(self, event: _Open, end: float) -> bool:
        return end - event.start >= self.settings.min_seconds - SLACK

    def _new(self, place: int, event: _Open, end: float) -> Change:
        self._count += 1
        event.number, event.told = self._count, self._latest[1]
        return self._change("new", place, event, end)

    def _close(self, place: int, event: _Open) -> list[Change]:
        """The end of an event, told of if it was long enough."""
        assert event.end is not None
        said = []
        if not event.number and self._long_enough(event, event.end):
            said.append(self._new(place, event, event.end))
        if event.number:
            said.append(self._change("end", place, event, event.end))
        return said

    def _change(self, kind: Literal["new", "update", "end"], place: int, event: _Open, end: float) -> Change:
        so_far = end if event.end is None else event.end
        return Change(kind, event.number, Event(event.start, so_far, self.labels[place], event.score), self._latest[1])
