"""How long the rest of a grid will take, told roughly from the cells that are done.

Learning takes about as many seconds per clip as it took the same encoder and head elsewhere, and encoding, once for
every task, encoder and pooling, as many as it took the same encoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple


class Work(NamedTuple):
    """A cell's task, encoder, pooling and head, as names in the grammar."""

    task: str
    encoder: str
    pooling: str
    head: str


@dataclass
class Pace:
    """What the cells that are done took.

    Attributes:
        clips: of every task that is known.
        learn: seconds per clip by (encoder, head), all that were seen.
        encode: seconds per clip by encoder, the most that were seen: less means that vectors were cached.
    """

    clips: dict[str, int] = field(default_factory=dict)
    learn: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    encode: dict[str, float] = field(default_factory=dict)

    def saw(self, work: Work, *, clips: int, seconds: float, encoding: float) -> None:
        """Take note of a cell.

        Args:
            work: what was measured.
            clips: of the task.
            seconds: in all.
            encoding: seconds of those that went into vectors.
        """
        if clips < 1:
            return
        self.clips[work.task] = clips
        self.learn.setdefault((work.encoder, work.head), []).append(max(0.0, seconds - encoding) / clips)
        self.encode[work.encoder] = max(encoding / clips, self.encode.get(work.encoder, 0.0))

    def left(self, rest: Iterable[Work], encoded: Iterable[Work] = ()) -> float | None:
        """Seconds that these cells will take, or None as long as nothing is done.

        Args:
            rest: the cells.
            encoded: those whose vectors are known, whatever their heads.
        """
        if not self.learn:
            return None
        known = {work[:3] for work in encoded}
        usual = round(fmean(self.clips.values()))
        total = 0.0
        for work in rest:
            rate = self._learning(work)
            if work[:3] not in known:
                known.add(work[:3])
                rate += self.encode.get(work.encoder, max(self.encode.values()))
            total += rate * self.clips.get(work.task, usual)
        return total

    def _learning(self, work: Work) -> float:
        """Seconds per clip: of the same encoder and head; else of the head; else of all."""
        same = self.learn.get((work.encoder, work.head))
        head = [rate for (_, name), rates in self.learn.items() if name == work.head for rate in rates]
        return fmean(same or head or [rate for rates in self.learn.values() for rate in rates])


def words(seconds: float | None) -> str:
    """A time as people say it: `about 2 h 10 min`, `less than a minute`, `unknown`."""
    if seconds is None:
        return "unknown"
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:
        return f"about {minutes} min"
    if minutes >= 48 * 60:
        return f"about {round(minutes / 60 / 24)} days"
    hours, rest = divmod(5 * round(minutes / 5), 60)
    return f"about {hours} h {rest} min" if rest and hours < 10 else f"about {hours} h"
