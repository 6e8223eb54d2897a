"""Sound from anywhere as mono float32 waveforms: reading, resampling, fitting to a length, cutting into windows.

Rules that hold for every function here:

- A waveform is float32, mono, of shape (samples,), nominally in [-1, 1]. Integer formats are scaled to that range.
  Float formats are taken as they are: values beyond [-1, 1] are kept, since clipping them would change the sound.
- Several channels become one by their mean.
- Times are seconds from the beginning of the source; sample `i` stands at `i / sample_rate`. Parts are exact to the
  sample in all that libsndfile reads, and within 10 ms in what ffmpeg reads.
- What cannot be read raises `AudioError` with the file's name and what to do; never anything else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from soundmark.audio.decoders import Source, checked_rate, opened
from soundmark.audio.waveforms import Window, WindowPolicy, fit, resample, resample_blocks, samples_of
from soundmark.errors import AudioError
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

# The most likely first: `find_audio` tries them in this order.
_LIBSNDFILE_SUFFIXES = ".wav .flac .ogg .opus .mp3 .oga .aiff .aif .aifc .au .caf .w64 .rf64"
_FFMPEG_SUFFIXES = ".m4a .mp4 .aac .webm .mka .mkv .wma .amr .wv .ape .3gp"
_SUFFIXES = (*_LIBSNDFILE_SUFFIXES.split(), *_FFMPEG_SUFFIXES.split())

AUDIO_SUFFIXES = frozenset(_SUFFIXES)
"""Endings by which a folder's recordings are recognised, in lower case. Reading itself goes by content."""


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
        source: a path, or an address (`https://`, `s3://`, see `soundmark.remote`); bytes; a binary file object, read
            from its beginning and left open; or a pair (array, sample rate) with an array of shape (samples,) or
            (samples, channels), floats in [-1, 1] or integers, which are scaled by their type's range.
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

    Window `k` begins at sample `round(k * (hop_seconds * sample_rate))` and has `ceil(window_seconds * sample_rate)`.
    The last one is the first to reach the recording's end, so it may be shorter; the caller's policy fills it. The
    waveforms are those that `read` would give, cut.

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
        if not _is_positive(value):
            raise AudioError(f"cannot cut into windows with a {name} of {value} s: give a number of seconds above 0")
    if sample_rate is not None:
        checked_rate(sample_rate, "the waveform asked for")
    return _windows(source, sample_rate, window_seconds, hop_seconds, start, end)


def _is_positive(value: Any) -> bool:
    try:
        return bool(0 < value < math.inf)
    except TypeError:
        return False


def _windows(
    source: Source, sample_rate: int | None, window_seconds: float, hop_seconds: float, start: float, end: float | None
) -> Iterator[Window]:
    with opened(source, start, end) as stream:
        rate = sample_rate or stream.sample_rate
        length, hop = samples_of(window_seconds, rate), hop_seconds * rate
        if window_seconds * rate < 1 or hop < 1:
            raise AudioError(
                f"cannot cut {stream.name} into windows shorter than a sample at {rate} Hz: make them longer"
            )
        held, position = _Held(), 0  # the held samples are those from `position` on
        begin = reached = count = 0
        for block in resample_blocks(stream.blocks, stream.sample_rate, rate):
            held.add(block)
            while begin + length <= position + held.samples:
                yield _window(held.part(begin - position, length), begin, rate, start)
                reached, count = begin + length, count + 1
                begin = round(count * hop)
            position += held.drop(begin - position)
        total = position + held.samples
        if not total:
            raise AudioError(f"{stream.name} holds no samples: replace it or leave it out")
        while reached < total and begin < total:
            yield _window(held.part(begin - position, length), begin, rate, start)
            reached, count = begin + length, count + 1
            begin = round(count * hop)


def _window(waveform: np.ndarray, begin: int, rate: int, start: float) -> Window:
    return Window(start + begin / rate, start + (begin + len(waveform)) / rate, waveform)


class _Held:
    """The samples that windows to come still need, joined only when one is cut."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []
        self.samples = 0

    def add(self, block: np.ndarray) -> None:
        self.blocks.append(block)
        self.samples += len(block)

    def part(self, begin: int, length: int) -> np.ndarray:
        if len(self.blocks) > 1:
            self.blocks = [np.concatenate(self.blocks)]
        return self.blocks[0][begin : begin + length].copy()

    def drop(self, samples: int) -> int:
        """Forget so many of the first samples, or all there are; returns how many."""
        dropped = left = max(0, min(samples, self.samples))
        while left and len(self.blocks[0]) <= left:
            left -= len(self.blocks.pop(0))
        if left:
            self.blocks[0] = self.blocks[0][left:].copy()
        self.samples -= dropped
        return dropped


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
    try:
        with atomic_path(target) as temporary:
            soundfile.write(temporary, samples, rate, subtype=subtype, format=formats[target.suffix.lower()])
    except OSError as error:
        raise AudioError(f"cannot write {target} ({error.strerror}): check the folder and the space left") from None
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise AudioError(f"cannot write {target} as {subtype} ({error}): choose another subtype or ending") from None


def find_audio(path: str | os.PathLike[str]) -> Path | None:
    """The recording that a table's path means: that file, or the one with the same stem and another audio ending.

    Tables often name `.wav` where the collection was stored as FLAC or Ogg.
    """
    wanted = Path(path)
    if os.path.isfile(wanted):  # unlike Path.is_file it takes any name, however long
        return wanted
    stem = wanted.name.removesuffix(wanted.suffix) if wanted.suffix.lower() in AUDIO_SUFFIXES else wanted.name
    for suffix in _SUFFIXES if stem else ():
        for candidate in (wanted.with_name(stem + suffix), wanted.with_name(stem + suffix.upper())):
            if os.path.isfile(candidate):
                return candidate
    return None
