"""What a listener shows: events on lines, and on a terminal one line below them that tells what is heard now."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from soundmark.listen import Moment

BAR = 10  # characters
SHOWN = 3  # labels
BEHIND_SECONDS = 2.0  # of waiting sound that is worth a word


def clock(seconds: float) -> str:
    """A moment as people write it: `0:01:05.2`."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest / 10:04.1f}"


def plain(text: str) -> str:
    """A name that may be a stranger's, without what a terminal would take for an order."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


class Screen:
    """Prints; several threads may use it.

    Args:
        labels: that are looked for, in the order of their columns.
        columns: their places among the probabilities.
        as_json: print every change as a JSON object instead, and nothing else.
        out: where events go.
        notes: where everything else goes.
    """

    def __init__(
        self, labels: Sequence[str], columns: Sequence[int], *, as_json: bool = False,
        out: TextIO | None = None, notes: TextIO | None = None,
    ) -> None:  # fmt: skip
        self.labels, self.columns, self.as_json = labels, columns, as_json
        self.out, self.notes = out or sys.stdout, notes or sys.stderr
        self.alive = not as_json and self.out.isatty()
        self._lock = threading.RLock()
        self._lost = 0.0

    def show(self, moment: Moment) -> None:
        """What is heard now."""
        if moment.lost > self._lost:
            self.note(f"too slow: {moment.lost - self._lost:.1f} s of sound were dropped ({moment.lost:.1f} s in all)")
            self._lost = moment.lost
        if self.alive and moment.probabilities is not None:
            width = shutil.get_terminal_size().columns - 1
            with self._lock:
                self.out.write(f"\r{self._now(moment)[:width]}\x1b[K")
                self.out.flush()

    def _now(self, moment: Moment) -> str:
        assert moment.probabilities is not None
        scores = sorted(
            ((float(moment.probabilities[c]), label) for c, label in zip(self.columns, self.labels, strict=True)),
            key=lambda pair: -pair[0],
        )
        parts = [
            f"{plain(label)} {100 * score:3.0f} % {'█' * round(BAR * score):{BAR}}" for score, label in scores[:SHOWN]
        ]
        late = f"  {moment.waiting:.0f} s behind" if moment.waiting > BEHIND_SECONDS else ""
        return f"{clock(moment.end)}  {'  '.join(parts)}{late}"

    def tell(self, said: Mapping[str, Any]) -> None:
        """A change."""
        if self.as_json:
            self._print(json.dumps(said, ensure_ascii=False))
            return
        if said["kind"] == "update":
            return
        score = f"{100 * said['score']:.0f} %"
        if said["kind"] == "new":
            self._print(f"{clock(said['time'])}  {plain(said['label'])} begins, {score}")
            return
        span = f"{clock(said['start'])} – {clock(said['end'])}"
        self._print(f"{clock(said['time'])}  {plain(said['label'])} is over: {span}, {score}")

    def _print(self, text: str) -> None:
        with self._lock:
            self.out.write(f"\r\x1b[K{text}\n" if self.alive else f"{text}\n")
            self.out.flush()

    def note(self, text: str) -> None:
        """Something that went wrong, or is about to be tried again."""
        with self._lock:
            if self.alive:
                self.out.write("\r\x1b[K")
                self.out.flush()
            self.notes.write(f"soundmark: {plain(text)}\n")
            self.notes.flush()

    def close(self) -> None:
        """Leave the terminal clean."""
        if self.alive:
            with self._lock:
                self.out.write("\r\x1b[K")
                self.out.flush()
