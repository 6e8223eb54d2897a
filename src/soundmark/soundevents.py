"""How well events were found: F1 by segments and by events, with the definitions of sed_eval, and delays of alerts.

Source: A. Mesaros, T. Heittola, T. Virtanen, "Metrics for Polyphonic Sound Event Detection", Applied Sciences 6(6),
2016. The counts are meant to be those of sed_eval (https://github.com/TUT-ARG/sed_eval), of which no code is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from soundmark.errors import EventError
from soundmark.events import Event

SEGMENT_SECONDS = 1.0
COLLAR_SECONDS = 0.2
SHARE_OF_LENGTH = 0.5  # an offset may be off by this share of the event's length, where that is more than the collar


@dataclass(frozen=True)
class Counts:
    """What was found, what was not, and what was found wrongly. Counts of several recordings add up.

    Attributes:
        hits: found and there.
        misses: there and not found.
        false: found and not there.
    """

    hits: int = 0
    misses: int = 0
    false: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.hits + other.hits, self.misses + other.misses, self.false + other.false)

    @property
    def precision(self) -> float | None:
        """Share of what was found that is there; None where nothing was found."""
        found = self.hits + self.false
        return self.hits / found if found else None

    @property
    def recall(self) -> float | None:
        """Share of what is there that was found; None where nothing is there."""
        there = self.hits + self.misses
        return self.hits / there if there else None

    @property
    def f1(self) -> float | None:
        """2 hits / (2 hits + misses + false); None where nothing is there and nothing was found."""
        whole = 2 * self.hits + self.misses + self.false
        return 2 * self.hits / whole if whole else None


def by_segments(
    reference: Iterable[Event], found: Iterable[Event], segment_seconds: float = SEGMENT_SECONDS
) -> dict[str, Counts]:
    """Time in equal segments: a label is there in every segment that one of its events touches.

    Args:
        reference: what is there.
        found: what was found.
        segment_seconds: length of a segment.

    Returns:
        Counts of segments by label; for F1 over all labels, add them up.
    """
    there, heard = _touched(reference, segment_seconds), _touched(found, segment_seconds)
    none: set[int] = set()
    return {
        label: Counts(
            len(there.get(label, none) & heard.get(label, none)),
            len(there.get(label, none) - heard.get(label, none)),
            len(heard.get(label, none) - there.get(label, none)),
        )
        for label in sorted({*there, *heard})
    }


def _touched(events: Iterable[Event], segment_seconds: float) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for event in events:
        first = math.floor(round(event.start / segment_seconds, 9))
        last = math.ceil(round(event.end / segment_seconds, 9))
        found.setdefault(event.label, set()).update(range(first, last))
    return found


def by_events(
    reference: Sequence[Event], found: Sequence[Event], collar_seconds: float = COLLAR_SECONDS, *,
    offsets: bool = True, share_of_length: float = SHARE_OF_LENGTH,
) -> dict[str, Counts]:  # fmt: skip
    """Events against events of the same label: a hit begins within the collar of one that is there, and ends near it.

    Every event is matched with one other at most, so that as many as possible are.

    Args:
        reference: what is there.
        found: what was found.
        collar_seconds: how far a start may be off, and an end too.
        offsets: whether ends count; without, starts alone.
        share_of_length: an end may also be off by this share of the reference's length, where that is more.

    Returns:
        Counts of events by label; for F1 over all labels, add them up.
    """
    counts = {}
    for label in sorted({event.label for event in [*reference, *found]}):
        there = [event for event in reference if event.label == label]
        heard = [event for event in found if event.label == label]
        near = [
            [j for j, other in enumerate(heard) if _near(event, other, collar_seconds, offsets, share_of_length)]
            for event in there
        ]
        hits = _most_pairs(near)
        counts[label] = Counts(hits, len(there) - hits, len(heard) - hits)
    return counts


def _near(event: Event, other: Event, collar: float, offsets: bool, share: float) -> bool:
    if round(abs(event.start - other.start), 9) > collar:
        return False
    return not offsets or round(abs(event.end - other.end), 9) <= max(collar, share * (event.end - event.start))


def _most_pairs(near: Sequence[Sequence[int]]) -> int:
    """Size of the largest matching, by augmenting paths (Kuhn)."""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column in near[row]:
            if column not in seen:
                seen.add(column)
                if column not in taken or place(taken[column], seen):
                    taken[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(near)))


def total(counts: Mapping[str, Counts]) -> Counts:
    """Over all labels."""
    return sum(counts.values(), Counts())


def delays(
    reference: Iterable[Event], alerts: Iterable[tuple[str, float]], patience_seconds: float
) -> list[float | None]:
    """From the start of every event to the first alert on it.

    Args:
        reference: what is there; events of a label that are near each other cannot be told apart by their alerts.
        alerts: (label, second at which it was raised).
        patience_seconds: so long after an event's end an alert may still be one on it.

    Returns:
        Seconds by event, in the order of the reference; None where there was no alert. An alert counts once.

    Raises:
        EventError: if the patience is below 0.
    """
    if patience_seconds < 0:
        raise EventError(f"a patience of {patience_seconds} s is below 0")
    left = sorted(alerts, key=lambda pair: pair[1])
    events = list(reference)
    found: list[float | None] = [None] * len(events)
    for place in sorted(range(len(events)), key=lambda i: events[i].start):
        event = events[place]
        near = (
            pair for pair in left if pair[0] == event.label and event.start <= pair[1] <= event.end + patience_seconds
        )
        first = next(near, None)
        if first is not None:
            left.remove(first)
            found[place] = first[1] - event.start
    return found
