"""Listening: what a file would give, sound that comes too quickly or waits too long, and ends of every kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from soundmark import events, listen, model
from soundmark.audio.pcm import Layout
from soundmark.errors import AudioError
from soundmark.events import Change
from soundmark.listen import Backlog, Listener, Moment
from soundmark.sources import Block, Pipe, Say

RATE = 8000


@pytest.fixture
def tiny(tiny_model: Callable[..., bytes]) -> model.Classifier:
    return model.load(tiny_model(), threads=1)


class Made:
    """A source of blocks that are there already."""

    name = "made"

    def __init__(self, blocks: list[Block], live: bool | None = False, error: Exception | None = None) -> None:
        self.made, self.live, self.error, self.closed = blocks, live, error, False

    def blocks(self, say: Say) -> Iterator[Block]:
        yield from self.made
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed = True


def sound(*levels: float) -> np.ndarray:
    """A second of each level."""
    return np.repeat(np.array(levels, np.float32), RATE)


def blocks(samples: np.ndarray, size: int = 700, start: float = 0.0) -> list[Block]:
    return [Block(start + i / RATE, samples[i : i + size], RATE) for i in range(0, len(samples), size)]


def told(moments: list[Moment]) -> list[Change]:
    return [change for moment in moments for change in moment.changes]


LEVELS = sound(0, 0, 0.4, 0.4, 0, 0, 0.4, 0)


def test_a_source_gives_the_events_of_the_same_recording(tiny: model.Classifier) -> None:
    rules = events.settings_for(tiny, window_seconds=1.0, hop_seconds=0.25, merge_seconds=0.0)
    timeline = list(tiny.windows((LEVELS, RATE), 1.0, 0.25))
    moments = list(Listener(tiny, Made(blocks(LEVELS)), rules))
    assert [(moment.start, moment.end) for moment in moments if moment.probabilities is not None] == [
        row[:2] for row in timeline
    ]
    assert told(moments) == list(events.changes(timeline, tiny.labels, rules))
    assert {change.kind for change in told(moments)} == {"new", "end"}


def test_a_pipe_gives_them_too(tiny: model.Classifier) -> None:
    import io

    rules = events.settings_for(tiny, window_seconds=1.0, hop_seconds=0.5)
    source = Pipe(io.BytesIO(LEVELS.astype("<f4").tobytes()), Layout(RATE, 1, "f32le"))
    found = [change.event for change in told(list(Listener(tiny, source, rules))) if change.kind == "end"]
    assert found == events.find(tiny.windows((LEVELS, RATE), 1.0, 0.5), tiny.labels, rules)


def test_a_gap_ends_events_where_sound_was_last_heard(tiny: model.Classifier) -> None:
    rules = events.settings_for(tiny, window_seconds=1.0, hop_seconds=0.5, merge_seconds=10.0)
    made = blocks(sound(0.4, 0.4)) + blocks(sound(0.4, 0.4), start=7.0)
    ends = [change.event for change in told(list(Listener(tiny, Made(made), rules))) if change.kind == "end"]
    assert [(event.start, event.end) for event in ends] == [(0.0, 2.0), (7.0, 9.0)]


def test_what_is_open_ends_when_it_is_stopped(tiny: model.Classifier) -> None:
    rules = events.settings_for(tiny, window_seconds=1.0, hop_seconds=0.5)
    source = Made(blocks(sound(*[0.4] * 60)))
    listener, kinds = Listener(tiny, source, rules, backlog_seconds=5), []
    for moment in listener:
        kinds += [change.kind for change in moment.changes]
        listener.stop()
    assert kinds[0] == "new"
    assert kinds[-1] == "end"
    assert source.closed


def test_an_error_of_the_source_comes_after_what_was_heard(tiny: model.Classifier) -> None:
    rules = events.settings_for(tiny, window_seconds=1.0)
    source, heard = Made(blocks(sound(0, 0)), error=AudioError("it is damaged")), []
    with pytest.raises(AudioError, match="it is damaged"):
        heard.extend(Listener(tiny, source, rules))  # what came before the error is kept
    assert heard
    assert source.closed


def test_who_leaves_early_leaves_nothing_running(tiny: model.Classifier) -> None:
    source = Made(blocks(sound(*[0.0] * 100)))
    before = threading.active_count()
    moments = iter(Listener(tiny, source, events.settings_for(tiny), backlog_seconds=2))
    next(moments)
    moments.close()  # type: ignore[attr-defined]
    assert source.closed
    assert threading.active_count() == before


# --- What waits ----------------------------------------------------------------------------------------------------


def second(start: int) -> Block:
    return Block(float(start), np.zeros(10, np.float32), 10)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(listen, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def starts(backlog: Backlog) -> list[float]:
    return [block.start for block in backlog.get(0) or []]


def test_of_what_cannot_wait_the_oldest_half_is_dropped() -> None:
    backlog = Backlog(6, live=True)
    for k in range(8):
        backlog.put(second(k))
    assert backlog.lost == 4
    assert backlog.waiting == 4
    assert starts(backlog) == [4, 5, 6, 7]


def test_what_can_wait_waits_and_loses_nothing() -> None:
    backlog, taken = Backlog(3, live=False), []
    writer = threading.Thread(target=lambda: [backlog.put(second(k)) for k in range(20)] and backlog.close())
    writer.start()
    while (some := backlog.get(10)) is not None:
        assert sum(block.seconds for block in some) <= 3
        taken += [block.start for block in some]
    writer.join(10)
    assert taken == list(range(20))
    assert backlog.lost == 0


def test_sound_that_comes_as_it_sounds_is_taken_to_be_live(clock: list[float]) -> None:
    backlog = Backlog(4)
    for k in range(9):
        backlog.put(second(k))
        clock[0] += 1
    assert backlog.live
    assert backlog.lost > 0


def test_sound_that_comes_quicker_than_it_sounds_can_wait(clock: list[float]) -> None:
    backlog = Backlog(4)
    for k in range(4):
        backlog.put(second(k))
    writer = threading.Thread(target=backlog.put, args=(second(4),))
    writer.start()
    assert starts(backlog) == [0, 1, 2, 3]
    writer.join(10)
    assert (starts(backlog), backlog.live, backlog.lost) == ([4], False, 0)


def test_what_comes_after_the_end_is_let_go() -> None:
    backlog = Backlog(2, live=False)
    backlog.put(second(0))
    backlog.close()
    backlog.put(second(1))
    assert starts(backlog) == [0]
    assert backlog.get(0) is None


def test_a_listener_that_is_too_slow_says_so_and_holds_no_more(
    tiny: model.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every window waits until the source has given another 40 s."""
    rules = events.settings_for(tiny, window_seconds=1.0, hop_seconds=1.0)
    go, ready = threading.Event(), threading.Event()

    class Quick(Made):
        def blocks(self, say: Say) -> Iterator[Block]:
            for k, block in enumerate(self.made):
                yield block
                if k == 1:
                    ready.set()
                    go.wait(30)
            done.set()

    done = threading.Event()
    whole = model.Classifier.predict_proba

    def slow(self: Any, waveforms: np.ndarray) -> np.ndarray:
        ready.wait(30)
        go.set()
        done.wait(30)
        return whole(self, waveforms)

    monkeypatch.setattr(model.Classifier, "predict_proba", slow)
    made = [Block(float(k), np.zeros(RATE, np.float32), RATE) for k in range(100)]
    moments = list(Listener(tiny, Quick(made, live=True), rules, backlog_seconds=10))
    assert moments[-1].lost >= 80
    assert moments[-1].end == 100
    assert max(moment.waiting for moment in moments) <= 21
