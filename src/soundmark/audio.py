"""Sound from anywhere as mono float32 waveforms: reading, resampling, fitting to a length, cutting into windows.

Rules that hold for every function here:

- A waveform is float32, mono, of shape (samples,), nominally in [-1, 1]. Integer formats are scaled to that range.
  Float formats are taken as they are: values beyond [-1, 1] are kept, since clipping them would change the sound.
- Several channels become one by their mean.
- Times are seconds from the beginning of the source; sample `i` stands at `i / sample_rate`.
- What cannot be read raises `AudioError` with the file's name and what to do; never anything else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import soundfile
import soxr

from soundmark.decoders import Source, checked_rate, opened
from soundmark.errors import AudioError, ModelError
from soundmark.files import atomic_path

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "Source",
    "Window",
    "WindowPolicy",
    "find_audio",
    "fit",
    "info",
    "read",
    "resample",
    "windows",
    "write",
]

_SUFFIXES = tuple(
    ".wav .flac .ogg .oga .opus .mp3 .aiff .aif .aifc .au .caf .w64 .rf64"
    " .m4a .mp4 .aac .webm .mka .mkv .wma .amr .wv .ape .3gp".split()
)

AUDIO_SUFFIXES = frozenset(_SUFFIXES)
"""Endings by which a folder's recordings are recognised, in lower case. Reading itself goes by content."""

MAX_SECONDS = 600.0
MIN_HOP_SECONDS = 0.001


@dataclass(frozen=True)
class AudioInfo:
    """What a recording is.

    Attributes:
        sample_rate: Hz.
        channels: number of channels, before they are mixed.
        samples: samples per channel.
        duration: seconds.
        format: container and coding, such as "WAV PCM_16".
    """

    sample_rate: int
    channels: int
    samples: int
    duration: float
    format: str


def info(source: Source) -> AudioInfo:
    """What a recording is, by its header; containers without a length (WebM) are decoded once to count.

    Args:
        source: see `read`.

    Raises:
        AudioError: if it cannot be read or holds no samples.
    """
    with opened(source) as stream:
        samples = sum(map(len, stream.blocks)) if stream.samples is None else stream.samples
        if not samples:
            raise AudioError(f"{stream.name} holds no samples: replace it or leave it out")
        return AudioInfo(stream.sample_rate, stream.channels, samples, samples / stream.sample_rate, stream.format)


def read(
    source: Source, sample_rate: int | None = None, *, start: float = 0.0, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Read a recording, or a part of one, as a mono waveform.

    Args:
        source: a path; bytes; a binary file object, read from its beginning and left open; or a pair
            (array, sample rate) with an array of shape (samples,) or (samples, channels), floats in [-1, 1] or
            integers, which are scaled by their type's range.
        sample_rate: Hz to resample to; None keeps the recording's own.
        start: first second.
        end: last second; None for the end of the recording. Up to 0.1 s beyond its end is taken as its end.

    Returns:
        float32 (samples,), and its sample rate in Hz.

    Raises:
        AudioError: if the source cannot be read, holds no samples between `start` and `end`, or holds NaN or infinite
            samples.
    """
    if sample_rate is not None:
        checked_rate(sample_rate, "the waveform asked for")
    with opened(source, start, end) as stream:
        blocks = list(stream.blocks)
        name, rate = stream.name, stream.sample_rate
    if not blocks:
        raise AudioError(f"{name} holds no samples: replace it or leave it out")
    waveform = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if sample_rate is None or sample_rate == rate:
        return waveform, rate
    return resample(waveform, rate, sample_rate), int(sample_rate)


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
    if 2 * len(waveform) * to_rate // from_rate + 1 < 2 * wanted:  # soxr rounds, so it would stop one sample short
        waveform = np.concatenate([waveform, np.zeros(-(-from_rate // to_rate), np.float32)])
    resampled: np.ndarray = soxr.resample(waveform, from_rate, to_rate, quality="HQ")
    return resampled[:wanted] if len(resampled) >= wanted else np.pad(resampled, (0, wanted - len(resampled)))


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
        if 0 < self.hop_seconds < MIN_HOP_SECONDS or 0 < self.window_seconds < MIN_HOP_SECONDS:
            raise AudioError(f"the window policy's windows and hops must be at least {MIN_HOP_SECONDS:g} s: {self}")
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
        shortest = math.ceil(round(max(self.min_seconds, self.window_seconds) * sample_rate, 6))
        return waveform if len(waveform) >= max(1, shortest) else fit(waveform, max(1, shortest), fill=self.fill)


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


def windows(
    source: Source,
    sample_rate: int | None,
    window_seconds: float,
    hop_seconds: float | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
) -> Iterator[Window]:
    """Cut a recording of any length into windows, in constant memory.

    Window `k` begins at sample `round(k * hop_seconds * sample_rate)`. The last one is the first to reach the
    recording's end, so it may be shorter; the caller's policy fills it. The waveforms are those that `read` would give,
    cut.

    Args:
        source: see `read`.
        sample_rate: Hz of the windows; None keeps the recording's own.
        window_seconds: length of a window.
        hop_seconds: time between the starts of windows; None or 0 sets them end to end.
        start: first second.
        end: last second; None for the end of the recording.

    Yields:
        The windows in order.

    Raises:
        AudioError: as `read`, or if a window or hop is not a number of seconds or shorter than a sample.
    """
    hop_seconds = hop_seconds or window_seconds
    for name, value in (("window", window_seconds), ("hop", hop_seconds)):
        if not 0 < value < math.inf:
            raise AudioError(f"cannot cut into windows with a {name} of {value} s: give a number of seconds above 0")
    if sample_rate is not None:
        checked_rate(sample_rate, "the waveform asked for")
    return _windows(source, sample_rate, window_seconds, hop_seconds, start, end)


def _windows(
    source: Source, sample_rate: int | None, window_seconds: float, hop_seconds: float, start: float, end: float | None
) -> Iterator[Window]:
    with opened(source, start, end) as stream:
        rate = sample_rate or stream.sample_rate
        length, hop = round(window_seconds * rate), hop_seconds * rate
        if length < 1 or hop < 1:
            raise AudioError(
                f"cannot cut {stream.name} into windows shorter than a sample at {rate} Hz: make them longer"
            )
        held = np.zeros(0, np.float32)
        position = count = 0  # `held` begins at sample `position`; `count` windows are out
        reached = -1
        for block in _resampled(stream.blocks, stream.sample_rate, rate):
            held = np.concatenate([held, block])
            while (begin := round(count * hop)) + length <= position + len(held):
                part = held[begin - position : begin - position + length].copy()
                yield Window(start + begin / rate, start + (begin + length) / rate, part)
                reached = begin + length
                count += 1
            gone = min(max(0, begin - position), len(held))
            held, position = held[gone:], position + gone
        total = position + len(held)
        if not total:
            raise AudioError(f"{stream.name} holds no samples: replace it or leave it out")
        while reached < total and (begin := round(count * hop)) < total:
            part = held[begin - position :][:length].copy()
            reached = begin + len(part)
            yield Window(start + begin / rate, start + reached / rate, part)
            count += 1


def _resampled(blocks: Iterator[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """The blocks at another rate; together they are what `resample` makes of the whole."""
    if from_rate == to_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    taken = given = 0
    for block in blocks:
        taken += len(block)
        part = resampler.resample_chunk(block)
        given += len(part)
        yield part
    if taken:
        wanted = -(-taken * to_rate // from_rate)
        rest = resampler.resample_chunk(np.zeros(-(-from_rate // to_rate), np.float32), last=True)
        yield np.pad(rest, (0, max(0, wanted - given - len(rest))))[: wanted - given]


_PCM_BITS = {"PCM_16": 16, "PCM_24": 24}


def write(path: str | os.PathLike[str], waveform: np.ndarray, sample_rate: int, *, subtype: str = "PCM_16") -> None:
    """Write a WAV or FLAC file, by the path's ending, whole or not at all.

    Args:
        path: ends in .wav or .flac; its folder is made.
        waveform: (samples,) or (samples, channels), floats; beyond [-1, 1] they are clipped by the integer subtypes.
        sample_rate: Hz.
        subtype: "PCM_16", "PCM_24", "FLOAT" or another of libsndfile's names. Integers are rounded to the nearest, so
            that writing what was read gives the same samples.

    Raises:
        AudioError: if the waveform is empty or not finite, or the ending and subtype are not possible.
    """
    target = Path(path)
    formats = {".wav": "WAV", ".flac": "FLAC"}
    if target.suffix.lower() not in formats:
        raise AudioError(f"cannot write {target}: name it with the ending .wav or .flac")
    samples = np.asarray(waveform)
    if samples.ndim not in (1, 2) or not samples.size or samples.dtype.kind != "f":
        raise AudioError(
            f"cannot write {target} from {samples.dtype} of shape {samples.shape}:"
            " give at least one sample, as floats (samples,) or (samples, channels)"
        )
    if not np.isfinite(samples).all():
        raise AudioError(f"cannot write {target}: the waveform holds NaN or infinite samples")
    rate = checked_rate(sample_rate, str(target))
    bits = _PCM_BITS.get(subtype)
    if bits:  # libsndfile would scale by one step less than it reads by, and not round
        steps = np.clip(np.rint(samples * np.float64(2 ** (bits - 1))), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        samples = steps.astype(np.int16) if bits == 16 else steps.astype(np.int32) << 8
    with atomic_path(target) as temporary:
        try:
            soundfile.write(temporary, samples, rate, subtype=subtype, format=formats[target.suffix.lower()])
        except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
            raise AudioError(
                f"cannot write {target} as {subtype} ({error}): choose another subtype or ending"
            ) from None


def find_audio(path: str | os.PathLike[str]) -> Path | None:
    """The recording that a table's path means: that file, or the one with the same stem and another audio ending.

    Tables often name `.wav` where the collection was stored as FLAC or Ogg.
    """
    wanted = Path(path)
    if wanted.is_file():
        return wanted
    stem = wanted.name.removesuffix(wanted.suffix) if wanted.suffix.lower() in AUDIO_SUFFIXES else wanted.name
    for suffix in _SUFFIXES:
        for candidate in (wanted.with_name(stem + suffix), wanted.with_name(stem + suffix.upper())):
            if stem and candidate.is_file():
                return candidate
    return None
