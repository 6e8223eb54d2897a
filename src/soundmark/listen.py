"""Listening: a live source to windows, their probabilities, and sound events, for days and in constant memory.

    from soundmark import events, listen, load, sources

    model = load(threads=1)
    for moment in listen.Listener(model, sources.Microphone(), events.settings_for(model)):
        for change in moment.changes:
            print(change)

A thread reads the source, so that nothing is missed while a window is being classified. Sound waits in a backlog of
fixed length. A source that can wait (a file, a pipe fed from one) waits where the backlog is full; of one that cannot,
the oldest half is dropped then, which the next moment tells, and all that was open ends before the gap.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from soundmark.audio import Window
from soundmark.audio.live import LiveWindows
from soundmark.audio.waveforms import alike
from soundmark.events import Change, Detector, Settings
from soundmark.sources import Block, Say, Source

if TYPE_CHECKING:
    from soundmark.model import Classifier

BACKLOG_SECONDS = 30.0
TOGETHER = 8  # windows that go through the graph at once where several wait
_TURN = 0.2  # seconds after which a listener that hears nothing looks whether it was stopped


@dataclass(frozen=True)
class Moment:
    """A window that was heard, and what became known by it.

    Attributes:
        start: second at which it begins, since listening began.
        end: second at which it ends.
        probabilities: (labels,) of the window; None for what became known by the end of the sound.
        changes: of events.
        waiting: seconds of sound that are heard and not yet judged.
        lost: seconds of sound that were dropped since listening began.
    """

    start: float
    end: float
    probabilities: np.ndarray | None
    changes: Sequence[Change]
    waiting: float
    lost: float


class Backlog:
    """Blocks that wait, never more than so many seconds of them and one block.

    Args:
        seconds: how much may wait.
        live: whether the source cannot wait; None if that is to be found out when the backlog is full for the first
            time: it came too quickly to be live if it took less than half as long as it sounds.
    """

    def __init__(self, seconds: float = BACKLOG_SECONDS, live: bool | None = None) -> None:
        self.seconds, self.live = seconds, live
        self.waiting = self.lost = 0.0
        self._blocks: deque[Block] = deque()
        self._change = threading.Condition()
        self._over = False
        self._error: BaseException | None = None
        self._begun: float | None = None
        self._came = 0.0

    def put(self, block: Block) -> None:
        """Add a block; waits where there is no room and the source can wait. After `close` it is let go."""
        with self._change:
            self._begun = time.monotonic() if self._begun is None else self._begun
            self._came += block.seconds
            if self.waiting + block.seconds > self.seconds and self._blocks:
                self._make_room(block.seconds)
            if self._over:
                return
            self._blocks.append(block)
            self.waiting += block.seconds
            self._change.notify_all()

    def _make_room(self, seconds: float) -> None:
        if self.live is None:
            assert self._begun is not None
            self.live = time.monotonic() - self._begun >= self._came / 2
        if self.live:
            while self._blocks and self.waiting + seconds > self.seconds / 2:
                self.lost += self._take().seconds
        else:
            self._change.wait_for(lambda: self._over or not self._blocks or self.waiting + seconds <= self.seconds)

    def get(self, timeout: float) -> list[Block] | None:
        """All blocks that wait, the oldest first; none after `timeout` seconds without any, None at the end.

        Raises:
            BaseException: what the source raised, after all its blocks.
        """
        with self._change:
            self._change.wait_for(lambda: self._blocks or self._over, timeout)
            blocks = [self._take() for _ in range(len(self._blocks))]
            self._change.notify_all()
            if blocks or not self._over:
                return blocks
            if self._error is not None:
                raise self._error
            return None

    def _take(self) -> Block:
        block = self._blocks.popleft()
        self.waiting = max(0.0, self.waiting - block.seconds) if self._blocks else 0.0
        return block

    def close(self, error: BaseException | None = None) -> None:
        """No more will come, for this reason."""
        with self._change:
            self._over, self._error = True, self._error or error
            self._change.notify_all()


class Listener:
    """Listens to a source. Iterate over it once; what is open when the sound ends or it is stopped, ends then.

    Args:
        classifier: loaded, with a view or without. One thread is enough for a model of ours.
        source: see `soundmark.sources`.
        settings: see `soundmark.events.settings_for`.
        backlog_seconds: how much sound may wait.
        say: is told, in words and from another thread, when the source breaks off and is tried again.

    Raises:
        EventError: if the settings do not fit the classifier.
    """

    def __init__(
        self, classifier: Classifier, source: Source, settings: Settings, *,
        backlog_seconds: float = BACKLOG_SECONDS, say: Say = lambda text: None,
    ) -> None:  # fmt: skip
        self.classifier, self.source = classifier, source
        self._say = say
        self._detector = Detector(classifier.labels, settings)
        self._windows = LiveWindows(classifier.sample_rate, settings.window_seconds, settings.hop_seconds)
        self._backlog = Backlog(backlog_seconds, source.live)
        self._left: deque[Block] = deque()
        self._stopped = False

    def stop(self) -> None:
        """End soon, as if the sound had ended. Safe in a signal handler and in any thread."""
        self._stopped = True

    def __iter__(self) -> Iterator[Moment]:
        """Moments as they are heard.

        Raises:
            SoundmarkError: if the source cannot be listened to, or the model fails.
        """
        thread = threading.Thread(target=self._read, daemon=True, name="soundmark-source")
        thread.start()
        try:
            yield from self._moments()
        finally:
            self.source.close()
            self._backlog.close()
            thread.join(timeout=2.0)  # a pipe that gives nothing cannot be woken; its thread ends with the process

    def _read(self) -> None:
        try:
            for block in self.source.blocks(self._say):
                if self._stopped:
                    break
                self._backlog.put(block)
        except BaseException as error:  # it is raised where someone can see it
            self._backlog.close(error)
        else:
            self._backlog.close()

    def _moments(self) -> Iterator[Moment]:
        while not self._stopped and (blocks := self._backlog.get(_TURN)) is not None:
            cut: list[Window] = []
            self._left.extend(blocks)
            while self._left and not self._stopped:
                block = self._left.popleft()
                cut += self._windows.push(block.samples, block.rate, block.start)
                if len(cut) >= TOGETHER:
                    yield from self._judged(cut)
                    cut = []
            yield from self._judged(cut)
        yield from self._judged(self._windows.finish())
        last = self._detector.finish()
        if last:
            end = last[-1].time
            yield Moment(end, end, None, last, 0.0, self._backlog.lost)

    def _judged(self, cut: Sequence[Window]) -> Iterator[Moment]:
        """Windows through the graph, those of a length together."""
        for part in alike(cut, lambda samples: TOGETHER):
            rows = self.classifier.predict_proba(np.stack([window.waveform for window in part]))
            for window, row in zip(part, rows, strict=True):
                changes = self._detector.push(window.start, window.end, row)
                waiting = self._backlog.waiting + sum(block.seconds for block in self._left)
                yield Moment(window.start, window.end, row, changes, waiting, self._backlog.lost)
