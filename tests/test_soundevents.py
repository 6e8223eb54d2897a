"""F1 of events and segments, on examples worked out by hand after sed_eval's definitions; delays of alerts."""

from __future__ import annotations

import pytest

from soundmark.errors import EventError
from soundmark.events import Event
from soundmark.soundevents import Counts, by_events, by_segments, delays, total


def event(start: float, end: float, label: str = "dog") -> Event:
    return Event(start, end, label, 1.0)


def test_a_segment_is_touched_from_the_floor_of_the_start_to_the_ceiling_of_the_end() -> None:
    # There: 0-1, 1-2, 2-3. Found: 1-2, 2-3, 3-4, 4-5.
    counts = by_segments([event(0.9, 2.1)], [event(1.0, 4.5)])
    assert counts == {"dog": Counts(hits=2, misses=1, false=2)}
    assert counts["dog"].f1 == pytest.approx(4 / 7)
    assert counts["dog"].precision == 0.5
    assert counts["dog"].recall == pytest.approx(2 / 3)


def test_an_end_on_an_edge_does_not_touch_the_next_segment() -> None:
    assert by_segments([event(1.0, 2.0)], [event(1.0, 2.0)]) == {"dog": Counts(1, 0, 0)}
    assert by_segments([event(0.0, 0.3)], [event(0.0, 0.3)], 0.1) == {"dog": Counts(3, 0, 0)}


def test_labels_are_counted_apart_and_added_up() -> None:
    counts = by_segments([event(0, 2), event(0, 1, "cat")], [event(0, 2, "cat"), event(0, 1)])
    assert counts == {"cat": Counts(1, 0, 1), "dog": Counts(1, 1, 0)}
    assert total(counts) == Counts(2, 1, 1)
    assert total(counts).f1 == pytest.approx(4 / 6)


def test_overlapping_events_of_a_label_touch_a_segment_once() -> None:
    assert by_segments([event(0, 2), event(1, 2)], [event(1, 2)]) == {"dog": Counts(1, 1, 0)}


def test_a_start_may_be_off_by_the_collar() -> None:
    there = [event(1.0, 2.0)]
    assert by_events(there, [event(1.2, 2.0)])["dog"] == Counts(1, 0, 0)
    assert by_events(there, [event(0.8, 2.0)])["dog"] == Counts(1, 0, 0)
    assert by_events(there, [event(1.21, 2.0)])["dog"] == Counts(0, 1, 1)


def test_an_end_may_be_off_by_the_collar_or_half_the_length() -> None:
    assert by_events([event(1.0, 1.2)], [event(1.0, 1.4)])["dog"].hits == 1
    assert by_events([event(1.0, 1.2)], [event(1.0, 1.41)])["dog"].hits == 0
    assert by_events([event(0.0, 4.0)], [event(0.0, 6.0)])["dog"].hits == 1
    assert by_events([event(0.0, 4.0)], [event(0.0, 6.01)])["dog"].hits == 0
    assert by_events([event(0.0, 4.0)], [event(0.0, 9.0)], offsets=False)["dog"].hits == 1


def test_each_event_is_matched_once_and_as_many_as_possible_are() -> None:
    # The first there is near both found, the second near the first alone: taking the nearest first would lose one.
    there = [event(1.0, 2.0), event(0.8, 2.0)]
    found = [event(0.9, 2.0), event(1.2, 2.0)]
    assert by_events(there, found)["dog"] == Counts(2, 0, 0)
    assert by_events([event(1, 2)], [event(1, 2), event(1.1, 2)])["dog"] == Counts(1, 0, 1)


def test_another_label_is_no_hit() -> None:
    assert total(by_events([event(1, 2)], [event(1, 2, "cat")])) == Counts(0, 1, 1)


def test_nothing_there_and_nothing_found_is_no_number() -> None:
    assert total(by_segments([], [])).f1 is None
    assert Counts(0, 0, 3).recall is None
    assert Counts(0, 0, 3).f1 == 0
    assert Counts(0, 3, 0).precision is None


def test_a_delay_runs_from_the_start_to_the_first_alert() -> None:
    there = [event(10, 12), event(30, 32), event(50, 52)]
    alerts = [("dog", 11.5), ("dog", 11.9), ("cat", 31.0), ("dog", 55.0), ("dog", 57.1)]
    assert delays(there, alerts, 5.0) == [1.5, None, 5.0]
    assert delays(there, [("dog", 9.9)], 5.0) == [None] * 3


def test_an_alert_counts_once() -> None:
    assert delays([event(0, 2), event(3, 5)], [("dog", 4.0)], 5.0) == [4.0, None]
    with pytest.raises(EventError):
        delays([], [], -1)
