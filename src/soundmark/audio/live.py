"""Windows over sound that goes on: a microphone, a pipe, a network stream. Memory is that of one window and a block."""

from __future__ import annotations

import numpy as np

from soundmark.audio.waveforms import Resampler, Window, samples_of

JUMP_SECONDS = 0.05  # by so much may a block's time differ from that of its samples before it counts as a gap


class LiveWindows:
    """Blocks in, windows out: those that `Classifier.windows` would cut from the same sound as a recording.

    Window `k` begins at sample `round(k * (hop_seconds * sample_rate))`. At the end, or before a gap, one more ends
    with the sound unless less than a hundredth of a window would be new in it. Sound shorter than a window is one.

    Args:
        sample_rate: Hz of the windows.
        window_seconds: length of a window.
        hop_seconds: time between the starts of windows.
    """

    def __init__(self, sample_rate: int, window_seconds: float, hop_seconds: float) -> None:
        self.sample_rate = sample_rate
        self.samples = samples_of(window_seconds, sample_rate)
        self.hop = max(1.0, hop_seconds * sample_rate)
        self._begin(0.0)

    def _begin(self, time: float) -> None:
        self._origin = time
        self._resampler: Resampler | None = None
        self._held = np.zeros(0, np.float32)
        self._position = 0  # of the first held sample
        self._count = 0  # of windows since the origin
        self._reached = 0  # the sample after the last window

    def push(self, block: np.ndarray, rate: int, time: float) -> list[Window]:
        """Hear a block.

        Args:
            block: float32 (samples,), mono.
            rate: Hz of the block.
            time: second of its first sample. Where it does not follow on what came before, or at another rate, there
                is a gap, and windows begin anew behind it.

        Returns:
            The windows that are complete now.

        Raises:
            AudioError: if the rate is none.
        """
        said: list[Window] = []
        known = self._resampler
        if known is not None:
            expected = self._origin + known.taken / known.from_rate
            if rate != known.from_rate or abs(time - expected) > JUMP_SECONDS:
                said, known = self.finish(), None
        if known is None:
            self._begin(time)
            known = self._resampler = Resampler(rate, self.sample_rate)
        return said + self._cut(known.push(block))

    def finish(self) -> list[Window]:
        """The sound has ended: the windows that are left."""
        if self._resampler is None:
            return []
        said = self._cut(self._resampler.finish())
        total = self._position + len(self._held)
        if not self._count and total:
            said.append(self._window(0, total))
        elif self._reached + self.samples // 100 < total:
            said.append(self._window(total - self.samples, self.samples))
        self._begin(0.0)
        return said

    def _cut(self, part: np.ndarray) -> list[Window]:
        said = []
        self._held = np.concatenate([self._held, part])
        total = self._position + len(self._held)
        while (begin := round(self._count * self.hop)) + self.samples <= total:
            said.append(self._window(begin, self.samples))
            self._count += 1
            self._reached = begin + self.samples
        keep = min(begin, total - self.samples)  # the last window may have to reach back so far
        if keep > self._position:
            self._held, self._position = self._held[keep - self._position :].copy(), keep
        return said

    def _window(self, begin: int, samples: int) -> Window:
        offset, rate = begin - self._position, self.sample_rate
        start, end = self._origin + begin / rate, self._origin + (begin + samples) / rate
        return Window(start, end, self._held[offset : offset + samples].copy())
