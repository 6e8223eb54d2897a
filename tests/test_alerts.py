"""Alerts: of what someone is told, how often, and that nobody waits for them."""

from __future__ import annotations

import threading
from typing import Any, Literal

from soundmark.alerts import Alerts, Message, Outbox, message
from soundmark.errors import ListenError
from soundmark.events import Change, Event


def change(kind: Literal["new", "update", "end"], number: int, time: float, label: str = "dog") -> Change:
    return Change(kind, number, Event(time - 1, time, label, 0.9), time)


class Kept:
    """A channel that remembers, and fails where it is told to."""

    name = "kept"

    def __init__(self, error: Exception | None = None) -> None:
        self.got: list[Message] = []
        self.error, self.closed = error, False

    def send(self, message: Message, over: threading.Event) -> None:
        self.got.append(message)
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed = True


def test_a_message_is_plain_data() -> None:
    said = message(change("new", 3, 5.0), "the microphone", "mark1")
    assert said.pop("at").endswith("+00:00")
    assert said == {
        "kind": "new", "id": 3, "label": "dog", "score": 0.9, "start": 4.0, "end": 5.0, "time": 5.0,
        "source": "the microphone", "model": "mark1",
    }  # fmt: skip


def test_only_what_was_asked_for_is_told() -> None:
    alerts = Alerts([], labels=["dog"], kinds=["new", "end"])
    life = [change("new", 1, 1), change("update", 1, 2), change("end", 1, 3), change("new", 2, 4, "cat")]
    assert [alerts.wants(each) for each in life] == [True, False, True, False]


def test_a_label_cools_down_with_the_whole_life_of_its_events() -> None:
    alerts = Alerts([], kinds=["new", "update", "end"], cooldown=10)
    life = [
        (change("new", 1, 0), True),
        (change("end", 1, 3), True),
        (change("new", 2, 5), False),
        (change("new", 3, 6, "cat"), True),  # another label is not concerned
        (change("update", 2, 7), False),
        (change("end", 2, 9), False),
        (change("new", 4, 10), True),
        (change("new", 5, 15), False),  # counted from what was told, not from what was passed over
        (change("new", 6, 20), True),
    ]
    assert [alerts.wants(each) for each, _ in life] == [wanted for _, wanted in life]


def test_ends_leave_nothing_behind() -> None:
    alerts = Alerts([])
    for number in range(100):
        alerts.wants(change("new", number, number))
        alerts.wants(change("end", number, number))
    assert not alerts._open


def test_every_channel_is_told_and_closed_and_one_that_fails_stops_none() -> None:
    said: list[str] = []
    channels = [Kept(ListenError("kept is gone")), Kept(RuntimeError("odd")), Kept()]
    alerts = Alerts(channels, say=said.append)
    for number in range(3):
        assert alerts.tell(change("new", number, number), {"label": "dog", "id": number})
    alerts.close(30)
    assert [[each["id"] for each in channel.got] for channel in channels] == [[0, 1, 2]] * 3
    assert all(channel.closed for channel in channels)
    assert sorted(said) == ["kept failed (RuntimeError: odd)"] * 3 + ["kept is gone"] * 3


def test_a_slow_channel_keeps_nobody_waiting_and_its_queue_does_not_grow() -> None:
    said: list[str] = []
    go = threading.Event()

    class Slow(Kept):
        def send(self, message: Message, over: threading.Event) -> None:
            begun.set()
            go.wait(30)
            super().send(message, over)

    begun, channel = threading.Event(), Slow()
    outbox = Outbox(channel, said.append, limit=3)
    first: dict[str, Any] = {"label": "dog", "id": 0}
    outbox.put(first)
    begun.wait(30)
    for number in range(1, 11):
        outbox.put({"label": "dog", "id": number})
    assert outbox._queue.qsize() == 3
    assert len(said) == 7
    assert "too slow" in said[0]
    go.set()
    outbox.put(None)
    outbox.close(30)
    assert [each["id"] for each in channel.got][:1] == [0]
    assert channel.got[-1]["id"] == 10


def test_what_could_not_be_told_in_time_is_counted() -> None:
    said: list[str] = []

    class Stuck(Kept):
        def send(self, message: Message, over: threading.Event) -> None:
            over.wait(30)
            raise ListenError("stuck")

    alerts = Alerts([Stuck()], say=said.append)
    for number in range(4):
        alerts.tell(change("new", number, number), {"label": "dog"})
    alerts.close(0.1)
    assert "stuck" in said
    assert "kept was not told of 3 more" in said
