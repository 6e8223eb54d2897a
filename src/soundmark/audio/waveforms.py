"""What is done to waveforms once they are read: resampling, fitting to a length, and the policy that says how."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np
import soxr

from soundmark.audio.decoders import checked_rate
from soundmark.errors import AudioError, ModelError

MAX_SECONDS = 600.0
MIN_SECONDS = 0.001


def samples_of(seconds: float, sample_rate: int) -> int:
    """The fewest samples that last so long; 0.7 s at 10 Hz are 7, although 0.7 * 10 is a little more in floats."""
    return math.ceil(round(seconds * sample_rate, 6))


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample by soxr at its high quality.

    Args:
        waveform: float32 (samples,).
        from_rate: Hz of `waveform`.
        to_rate: Hz to resample to.

    Returns:
        float32 (ceil(samples * to_rate / from_rate),); the waveform itself where the rates are equal.

    Raises:
        AudioError: if a rate is not a whole number of Hz from 100 to 768,000.
    """
    from_rate = checked_rate(from_rate, "the waveform")
    to_rate = checked_rate(to_rate, "the waveform asked for")
    if from_rate == to_rate or not len(waveform):
        return waveform
    wanted = -(-len(waveform) * to_rate // from_rate)
    if (2 * len(waveform) * to_rate // from_rate + 1) // 2 < wanted:  # soxr rounds, and would stop a sample short
        waveform = np.concatenate([waveform, _silence_after(from_rate, to_rate)])
    resampled: np.ndarray = soxr.resample(waveform, from_rate, to_rate, quality="HQ")
    return _exactly(resampled, wanted)


def _silence_after(from_rate: int, to_rate: int) -> np.ndarray:
    """Enough silence to make one more sample at `to_rate`, and no more."""
    return np.zeros(-(-from_rate // to_rate), np.float32)


def _exactly(waveform: np.ndarray, samples: int) -> np.ndarray:
    return waveform[:samples] if len(waveform) >= samples else np.pad(waveform, (0, samples - len(waveform)))


def resample_blocks(blocks: Iterator[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """The blocks at another rate; together they are what `resample` makes of the whole."""
    if from_rate == to_rate:
        yield from blocks
        return
    resampler = Resampler(from_rate, to_rate)
    for block in blocks:
        yield resampler.push(block)
    if resampler.taken:
        yield resampler.finish()


class Resampler:
    """`resample`, of a waveform that comes in blocks.

    Args:
        from_rate: Hz of the blocks.
        to_rate: Hz to resample to.

    Raises:
        AudioError: as `resample`.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self.from_rate = checked_rate(from_rate, "the waveform")
        self.to_rate = checked_rate(to_rate, "the waveform asked for")
        self.taken = self.given = 0
        same = self.from_rate == self.to_rate
        self._stream = None if same else soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")

    def push(self, block: np.ndarray) -> np.ndarray:
        """What is known after a float32 block (samples,): a little less than it holds, since filters look ahead."""
        part: np.ndarray = block if self._stream is None else self._stream.resample_chunk(block)
        self.taken += len(block)
        self.given += len(part)
        return part

    def finish(self) -> np.ndarray:
        """The rest. Nothing can be pushed after it."""
        if self._stream is None or not self.taken:
            return np.zeros(0, np.float32)
        wanted = -(-self.taken * self.to_rate // self.from_rate)
        rest = self._stream.resample_chunk(_silence_after(self.from_rate, self.to_rate), last=True)
        return _exactly(rest, wanted - self.given)


def fit(
    waveform: np.ndarray,
    samples: int,
    *,
    fill: Literal["zero", "loop"] = "zero",
    position: Literal["start", "centre"] = "start",
) -> np.ndarray:
    """Cut or extend to exactly so many samples.

    Args:
        waveform: (samples,), at least one.
        samples: how many are wanted.
        fill: extend with silence, or by repeating the waveform.
        position: what is kept of a long waveform, and where a short one comes to stand: at the start, or in the centre
            (`loop` then repeats to both sides).

    Returns:
        (samples,) of the same type; the waveform itself where it already fits.

    Raises:
        AudioError: if the waveform is empty, `samples` is below 1, or a word is unknown.
    """
    if fill not in ("zero", "loop") or position not in ("start", "centre"):
        raise AudioError(f"cannot fit with fill={fill!r} and position={position!r}: use zero or loop, start or centre")
    if samples < 1 or not len(waveform):
        raise AudioError(f"cannot fit a waveform of {len(waveform)} samples to {samples}: both must be at least 1")
    spare = len(waveform) - samples
    if spare == 0:
        return waveform
    if spare > 0:
        begin = spare // 2 if position == "centre" else 0
        return waveform[begin : begin + samples]
    before = -spare // 2 if position == "centre" else 0
    if fill == "zero":
        return np.pad(waveform, (before, -spare - before))
    return waveform[np.arange(-before, samples - before) % len(waveform)]


@dataclass(frozen=True)
class WindowPolicy:
    """How a clip becomes a model's input, said once for training, export and recognition.

    Attributes:
        min_seconds: shorter waveforms are filled up to this.
        window_seconds: length of the windows a recording is cut into; 0 takes a recording of any length whole.
        hop_seconds: time between the starts of windows; 0 sets them end to end.
        fill: how short waveforms are extended: with silence, or by repeating them.
        combine: how the windows' probabilities become the recording's.

    Raises:
        AudioError: if a number is negative, not finite or beyond 600 s, or a word is unknown.
    """

    min_seconds: float = 0.0
    window_seconds: float = 0.0
    hop_seconds: float = 0.0
    fill: Literal["zero", "loop"] = "zero"
    combine: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        for name in ("min_seconds", "window_seconds", "hop_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
                raise AudioError(f"the window policy's {name} is {value!r}: give seconds from 0 to {MAX_SECONDS:g}")
        if 0 < self.hop_seconds < MIN_SECONDS or 0 < self.window_seconds < MIN_SECONDS:
            raise AudioError(f"the window policy's windows and hops must be at least {MIN_SECONDS:g} s: {self}")
        if self.fill not in ("zero", "loop"):
            raise AudioError(f"the window policy's fill is {self.fill!r}: use zero or loop")
        if self.combine not in ("mean", "max"):
            raise AudioError(f"the window policy's combine is {self.combine!r}: use mean or max")

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for the model file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """From plain data, which may come from a stranger's file.

        Raises:
            ModelError: if it is not a window policy.
        """
        if not isinstance(values, Mapping):
            raise ModelError(f"a window policy must be a table of settings, and this is a {type(values).__name__}")
        unknown = sorted(str(key)[:40] for key in values if key not in {field.name for field in fields(cls)})
        if unknown:
            raise ModelError(f"the window policy has unknown settings ({', '.join(unknown[:5])}): update soundmark")
        try:
            return cls(**values)
        except (AudioError, TypeError) as error:
            raise ModelError(f"{error}; the model file may be damaged") from None

    def prepare(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """The waveform filled up to `min_seconds`, and to a whole window where windows have a length; never cut.

        Args:
            waveform: float32 (samples,).
            sample_rate: Hz.

        Raises:
            AudioError: if the waveform is empty.
        """
        shortest = max(1, samples_of(max(self.min_seconds, self.window_seconds), sample_rate))
        return waveform if len(waveform) >= shortest else fit(waveform, shortest, fill=self.fill)


@dataclass(frozen=True)
class Window:
    """A part of a recording.

    Attributes:
        start: second at which it begins in the source.
        end: second at which it ends.
        waveform: float32 (samples,), mono; the last one of a recording may be shorter than the rest.
    """

    start: float
    end: float
    waveform: np.ndarray


def alike(windows: Iterable[Window], most: Callable[[int], int]) -> Iterator[list[Window]]:
    """Windows that can go through a graph together: one after the other, of one length, up to `most(length)` of them.

    Args:
        windows: in order.
        most: how many of so many samples may go together, at least 1.
    """
    held: list[Window] = []
    for window in windows:
        length = len(window.waveform)
        if held and (len(held[0].waveform) != length or len(held) >= most(length)):
            yield held
            held = []
        held.append(window)
    if held:
        yield held
