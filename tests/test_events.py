"""Windows to events: what they are said to be, however the windows come, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundmark.errors import EventError
from soundmark.events import Change, Detector, Event, Settings, changes, find

LABELS = ("a", "b", "c")
Timeline = list[tuple[float, float, np.ndarray]]


def rules(**more: Any) -> Settings:
    return Settings({"a": 0.5} | more.pop("thresholds", {}), **({"window_seconds": 4.0, "hop_seconds": 1.0} | more))


def timeline(scores: list[float], *, window: float = 4.0, hop: float = 1.0, begin: float = 0.0) -> Timeline:
    """Windows in which only the first label scores."""
    return [(begin + i * hop, begin + i * hop + window, np.array([s, 0.0, 0.0])) for i, s in enumerate(scores)]


def spans(scores: list[float], **more: Any) -> list[tuple[float, float]]:
    return [(event.start, event.end) for event in find(timeline(scores), LABELS, rules(**more))]


# --- What an event is ----------------------------------------------------------------------------------------------


def test_a_window_speaks_for_the_hop_around_its_middle() -> None:
    assert find(timeline([0, 0, 0.9, 0.8, 0, 0]), LABELS, rules()) == [Event(3.5, 5.5, "a", 0.9)]


def test_the_first_window_speaks_from_its_start_and_the_last_to_its_end() -> None:
    assert spans([0.9, 0, 0]) == [(0.0, 2.5)]
    assert spans([0, 0, 0.9]) == [(3.5, 6.0)]
    assert spans([0.9]) == [(0.0, 4.0)]


def test_a_sound_in_every_half_of_its_windows_has_its_own_times() -> None:
    """A sound from 10 to 20 s, heard by windows of which it fills at least half."""
    heard = [(k * 0.5, k * 0.5 + 4.0) for k in range(60)]
    scores = [max(0.0, min(end, 20.0) - max(start, 10.0)) / 4.0 for start, end in heard]
    rows = [(start, end, np.array([score, 0, 0])) for (start, end), score in zip(heard, scores, strict=True)]
    (event,) = find(rows, LABELS, rules(hop_seconds=0.5, hysteresis=1))
    assert abs(event.start - 10) <= 0.25
    assert abs(event.end - 20) <= 0.25


def test_an_event_goes_on_down_to_the_lower_threshold_on_both_sides() -> None:
    assert spans([0, 0.41, 0.6, 0.41, 0.39, 0], hysteresis=0.8) == [(2.5, 5.5)]
    assert spans([0, 0.41, 0.6, 0.41, 0.39, 0], hysteresis=1) == [(3.5, 4.5)]
    assert spans([0, 0.41, 0.49, 0.41, 0], hysteresis=0.8) == []


def test_gaps_up_to_the_limit_are_bridged() -> None:
    scores = [0, 0.9, 0, 0, 0.9, 0]
    assert spans(scores, merge_seconds=1.9) == [(2.5, 3.5), (5.5, 6.5)]
    assert spans(scores, merge_seconds=2) == [(2.5, 6.5)]


def test_a_run_that_never_reaches_the_threshold_bridges_nothing() -> None:
    scores = [0, 0.9, 0, 0.4, 0, 0.9, 0]
    assert spans(scores, merge_seconds=2, hysteresis=0.75) == [(2.5, 3.5), (6.5, 7.5)]


def test_short_events_are_dropped_after_gaps_were_bridged() -> None:
    scores = [0, 0.9, 0, 0.9, 0, 0, 0, 0.9, 0]
    assert spans(scores, merge_seconds=1, min_seconds=2) == [(2.5, 5.5)]


def test_a_median_forgets_what_a_single_window_says() -> None:
    assert spans([0, 0, 0.9, 0, 0], smooth_over=3) == []
    assert spans([0, 0, 0.9, 0.9, 0, 0.9, 0.9, 0, 0], smooth_over=3) == [(3.5, 8.5)]


def test_an_exponential_mean_follows_slowly() -> None:
    found = find(timeline([0, 0.8, 0.8, 0.8]), LABELS, rules(smoothing="exponential", smooth_over=3))
    assert [(event.start, event.score) for event in found] == [(2.5, pytest.approx(0.7))]


def test_labels_have_their_own_thresholds_and_others_are_not_looked_for() -> None:
    rows = [(k, k + 4.0, np.array([0.4, 0.4, 0.99])) for k in range(3)]
    found = find(rows, LABELS, rules(thresholds={"b": 0.3}))
    assert [event.label for event in found] == ["b"]


def test_what_was_not_heard_ends_everything() -> None:
    before, after = timeline([0, 0.9]), timeline([0.9, 0], begin=5.5)
    found = find([*before, *after], LABELS, rules(merge_seconds=60))
    assert [(event.start, event.end) for event in found] == [(2.5, 5.0), (5.5, 8.0)]


def test_events_come_by_start() -> None:
    rows = [
        (float(k), k + 4.0, np.array([0.9 if k < 5 else 0, 0.9 if k in (1, 2) else 0, 0.9 if k == 6 else 0]))
        for k in range(9)
    ]
    found = find(rows, LABELS, rules(thresholds={"b": 0.5, "c": 0.5}))
    assert [event.label for event in found] == ["a", "b", "c"]


# --- Lives ---------------------------------------------------------------------------------------------------------


def lives(scores: list[float], **more: Any) -> list[tuple[str, float, float, float]]:
    told = changes(timeline(scores), LABELS, rules(**more))
    return [(change.kind, change.time, change.event.start, change.event.end) for change in told]


def test_an_event_is_told_of_at_once_then_now_and_then_and_at_its_end() -> None:
    assert lives([0, 0.9, 0.9, 0.9, 0.9, 0, 0], update_seconds=2) == [
        ("new", 5.0, 2.5, 5.0),
        ("update", 7.0, 2.5, 7.0),
        ("end", 9.0, 2.5, 6.5),
    ]


def test_an_end_waits_for_the_gap_to_be_too_wide() -> None:
    told = lives([0, 0.9, 0, 0, 0, 0], merge_seconds=1, update_seconds=60)
    assert told == [("new", 5.0, 2.5, 5.0), ("end", 7.0, 2.5, 3.5)]


def test_an_event_is_told_of_only_once_it_is_long_enough_for_certain() -> None:
    told = lives([0, 0.9, 0.9, 0.9, 0], min_seconds=2, update_seconds=60)
    assert told[0][:2] == ("new", 7.0)
    assert lives([0, 0.9, 0, 0], min_seconds=1.5) == []


def test_a_median_tells_later_and_of_the_same_times() -> None:
    told = lives([0, 0, 0.9, 0.9, 0.9, 0, 0, 0], smooth_over=3, update_seconds=60)
    assert [(kind, time) for kind, time, *_ in told] == [("new", 7.0), ("end", 10.0)]
    assert told[-1][2:] == (3.5, 6.5)


def test_what_is_open_ends_with_the_stream_and_a_detector_can_go_on_after() -> None:
    detector = Detector(LABELS, rules())
    assert [change.kind for change in detector.push(0, 4, np.array([0.9, 0, 0]))] == ["new"]
    (ended,) = detector.finish()
    assert (ended.kind, ended.number, ended.event.end) == ("end", 1, 4)
    assert detector.finish() == []
    (again,) = detector.push(4, 8, np.array([0.9, 0, 0]))
    assert (again.kind, again.number, again.event.start) == ("new", 2, 4)


# --- However the windows come --------------------------------------------------------------------------------------


def by_definition(rows: Timeline, settings: Settings) -> list[Event]:
    """Events of an uninterrupted timeline, by the rules as they are written, all at once."""
    table = np.stack([row for _, _, row in rows])
    if settings.smoothing == "median":
        half = settings.smooth_over // 2
        table = np.stack([np.median(table[max(0, k - half) : k + half + 1], axis=0) for k in range(len(table))])
    else:
        weight = 2 / (settings.smooth_over + 1)
        for k in range(1, len(table)):
            table[k] = weight * table[k] + (1 - weight) * table[k - 1]
    middles = [(start + end) / 2 for start, end, _ in rows]
    edges = [rows[0][0], *[(a + b) / 2 for a, b in pairwise(middles)], rows[-1][1]]
    found = []
    for place, label in enumerate(LABELS):
        upper = settings.thresholds.get(label, np.inf)
        above = np.flatnonzero(np.diff(np.concatenate([[0], table[:, place] >= upper * settings.hysteresis, [0]])))
        runs = [[edges[a], edges[b], table[a:b, place].max()] for a, b in above.reshape(-1, 2)]
        joined: list[list[float]] = []
        for start, end, peak in (run for run in runs if run[2] >= upper):
            if joined and start - joined[-1][1] <= settings.merge_seconds + 1e-6:
                joined[-1][1:] = [end, max(peak, joined[-1][2])]
            else:
                joined.append([start, end, peak])
        found += [Event(s, e, label, p) for s, e, p in joined if e - s >= settings.min_seconds - 1e-6]
    return sorted(found, key=lambda event: (event.start, event.end, event.label))


some_rules = st.builds(
    Settings,
    thresholds=st.dictionaries(st.sampled_from(LABELS), st.sampled_from([0.3, 0.5, 0.8]), min_size=1),
    window_seconds=st.just(4.0),
    hop_seconds=st.just(1.0),
    hysteresis=st.sampled_from([0.5, 0.75, 1.0]),
    smoothing=st.sampled_from(["median", "exponential"]),
    smooth_over=st.sampled_from([1, 3, 5]),
    min_seconds=st.sampled_from([0.0, 1.5, 3.0]),
    merge_seconds=st.sampled_from([0.0, 1.0, 2.5]),
    update_seconds=st.sampled_from([0.0, 3.0]),
)
tables = st.lists(
    st.lists(st.sampled_from([0.0, 0.2, 0.35, 0.55, 0.9]), min_size=3, max_size=3), min_size=1, max_size=30
)


@given(tables, st.sampled_from([0.25, 1.0, 4.0]), st.booleans(), some_rules)
def test_events_are_what_the_rules_say(table: Any, hop: float, moved_back: bool, settings: Settings) -> None:
    rows = [(k * hop, k * hop + 4.0, np.array(row)) for k, row in enumerate(table)]
    if moved_back and len(rows) > 1:  # the last window of a recording ends with it
        start, end, row = rows[-1]
        rows[-1] = (start - hop / 2, end - hop / 2, row)
    assert find(rows, LABELS, settings) == by_definition(rows, settings)


@given(tables, some_rules, st.sets(st.integers(0, 30)))
def test_pieces_give_what_the_whole_gives(table: Any, settings: Settings, cuts: set[int]) -> None:
    rows = [(float(k), k + 4.0, np.array(row)) for k, row in enumerate(table)]
    whole = list(changes(rows, LABELS, settings))
    detector, pieces = Detector(LABELS, settings), []
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    for first, last in pairwise(edges):
        for row in rows[first:last]:
            pieces += detector.push(*row)
    assert pieces + detector.finish() == whole
    check_lives(whole, settings)


def check_lives(told: list[Change], settings: Settings) -> None:
    """New once, end once, updates between; nothing is taken back."""
    times = [change.time for change in told]
    assert times == sorted(times)
    for number in {change.number for change in told}:
        life = [change for change in told if change.number == number]
        assert [change.kind for change in life] == ["new", *["update"] * (len(life) - 2), "end"]
        assert len({(change.event.start, change.event.label) for change in life}) == 1
        scores = [change.event.score for change in life]
        assert scores == sorted(scores)
        assert scores[0] >= settings.thresholds[life[0].event.label]
        assert life[-1].event.end - life[-1].event.start >= settings.min_seconds - 1e-6


def test_a_long_stream_leaves_nothing_behind() -> None:
    detector = Detector(LABELS, rules(smooth_over=5, merge_seconds=2, thresholds={"b": 0.5, "c": 0.5}))
    draw = np.random.default_rng(0)
    for k in range(5000):
        detector.push(k, k + 4.0, draw.random(3))
        assert len(detector._held) <= 5
        assert len(detector._tracks) <= 3
    quiet = [change for k in range(5000, 5010) for change in detector.push(k, k + 4.0, np.zeros(3))]
    assert quiet[-1].kind == "end"
    assert not detector._tracks


# --- What is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"thresholds": {"a": 0.0}}, "threshold of 'a'"),
        ({"thresholds": {"a": float("nan")}}, "threshold of 'a'"),
        ({"window_seconds": 0}, "window_seconds is 0"),
        ({"hop_seconds": 5.0}, "unheard"),
        ({"hysteresis": 0}, "hysteresis is 0"),
        ({"smoothing": "mean"}, "use median or exponential"),
        ({"smooth_over": 2}, "odd number"),
        ({"smooth_over": 0}, "from 1 up"),
        ({"min_seconds": -1}, "min_seconds is -1"),
        ({"merge_seconds": float("nan")}, "merge_seconds is nan"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(EventError, match=words):
        rules(**wrong)


def test_nothing_to_look_for_is_refused() -> None:
    with pytest.raises(EventError, match="no label to look for"):
        Settings({}, 1.0, 1.0)
    with pytest.raises(EventError, match="'x', which is none"):
        Detector(LABELS, rules(thresholds={"x": 0.5}))


def test_windows_out_of_order_or_of_another_shape_are_refused() -> None:
    detector = Detector(LABELS, rules())
    detector.push(1, 5, np.zeros(3))
    for start, end in ((0.5, 6.0), (2.0, 4.0), (3.0, 3.0), (2.0, float("inf"))):
        with pytest.raises(EventError, match="does not come after"):
            detector.push(start, end, np.zeros(3))
    for scores in (np.zeros(2), np.array([0, np.nan, 0])):
        with pytest.raises(EventError, match="3 finite probabilities"):
            detector.push(2, 6, scores)
