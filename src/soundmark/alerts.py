"""What is done when a sound is heard: who is told of it, of which changes, how often.

`Alerts` decides, and hands the message to channels (a command, a webhook, an MQTT topic; see `soundmark.channels`),
each with a thread and a queue of fixed length of its own. Nothing here waits for a channel, and nothing that goes wrong
in one reaches the listener or the other channels; it is said in words.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from soundmark.errors import SoundmarkError
from soundmark.events import Change

QUEUE = 100  # messages that may wait for a channel
Message = Mapping[str, Any]
Say = Callable[[str], None]


class Channel(Protocol):
    """A way to tell someone."""

    @property
    def name(self) -> str:
        """For messages; holds no secret."""
        ...

    def send(self, message: Message, over: threading.Event) -> None:
        """Tell it, which may take a while; stop trying when `over` is set.

        Raises:
            SoundmarkError: if it could not be told, after all attempts.
        """
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


def message(change: Change, source: str, model: str) -> dict[str, Any]:
    """A change as plain data: what all channels send, and what `soundmark listen --json` prints.

    Returns:
        kind, id (of the event, the same over its life), label, score, start, end and time (seconds since listening
        began; `time` is up to when had been heard), at (when it was said, UTC, ISO 8601), source, model.
    """
    event = change.event
    return {
        "kind": change.kind,
        "id": change.number,
        "label": event.label,
        "score": round(event.score, 6),
        "start": round(event.start, 3),
        "end": round(event.end, 3),
        "time": round(change.time, 3),
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "source": source,
        "model": model,
    }


class Alerts:
    """Chooses the changes that are told, and tells them to every channel without waiting.

    Args:
        channels: who is told.
        labels: of which events; none stands for all.
        kinds: of which changes: `new`, `update`, `end`.
        cooldown: seconds after a new event of a label during which further ones of it are passed over, with their
            updates and ends. They are seconds of sound.
        say: is told, in words and from other threads, what went wrong.
    """

    def __init__(
        self, channels: Sequence[Channel], *, labels: Collection[str] = (), kinds: Collection[str] = ("new",),
        cooldown: float = 0.0, say: Say = lambda text: None,
    ) -> None:  # fmt: skip
        self.labels, self.kinds, self.cooldown = frozenset(labels), frozenset(kinds), cooldown
        self._outboxes = [Outbox(channel, say) for channel in channels]
        self._last: dict[str, float] = {}  # when a label's latest event that was told of became known
        self._open: set[int] = set()  # events that were told of and go on

    def wants(self, change: Change) -> bool:
        """Whether a change is to be told; asked once for every change, in order."""
        label, number = change.event.label, change.number
        if self.labels and label not in self.labels:
            return False
        if change.kind == "new":
            if change.time < self._last.get(label, -float("inf")) + self.cooldown:
                return False
            self._last[label] = change.time
            self._open.add(number)
        elif number not in self._open:
            return False
        if change.kind == "end":
            self._open.discard(number)
        return change.kind in self.kinds

    def tell(self, change: Change, said: Message) -> bool:
        """Tell every channel of a change, if it is wanted; returns whether it was. Never waits."""
        wanted = self.wants(change)
        for outbox in self._outboxes if wanted else ():
            outbox.put(said)
        return wanted

    def close(self, timeout: float = 10.0) -> None:
        """Give the channels so many seconds, all together, to send what waits; then stop them."""
        until = time.monotonic() + timeout
        for outbox in self._outboxes:
            outbox.finish()
        for outbox in self._outboxes:
            outbox.close(max(0.0, until - time.monotonic()))


class Outbox:
    """A channel with its queue and its thread.

    Args:
        channel: who is told.
        say: is told, in words, what went wrong.
        limit: messages that may wait; when there are more, the oldest is dropped.
    """

    def __init__(self, channel: Channel, say: Say, limit: int = QUEUE) -> None:
        self.channel = channel
        self._say = say
        self._queue: queue.Queue[Message | None] = queue.Queue(limit)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="soundmark-alert")
        self._thread.start()

    def put(self, said: Message | None) -> None:
        """Add a message, in place of the oldest where the queue is full. Never waits."""
        while True:
            try:
                self._queue.put_nowait(said)
                return
            except queue.Full:
                try:
                    dropped = self._queue.get_nowait()
                except queue.Empty:
                    continue
                if dropped is not None:
                    self._say(f"{self.channel.name} is too slow: an alert of {dropped['label']} was dropped")

    def finish(self) -> None:
        """No more will come."""
        self.put(None)

    def close(self, timeout: float) -> None:
        """Wait so long for what is on its way, then stop."""
        self._thread.join(timeout)
        self._over.set()
        self._thread.join(1.0)
        waiting = sum(said is not None for said in list(self._queue.queue))
        if waiting:
            self._say(f"{self.channel.name} was not told of {waiting} more")

    def _run(self) -> None:
        while not self._over.is_set() and (said := self._queue.get()) is not None:
            try:
                self.channel.send(said, self._over)
            except SoundmarkError as error:
                self._say(str(error))
            except Exception as error:  # a fault of ours must not end the alerts of days
                self._say(f"{self.channel.name} failed ({type(error).__name__}: {error})")
        self.channel.close()
