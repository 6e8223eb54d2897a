"""Sound on a pipe: raw samples, or a WAV header and samples after it, which need no end.

Sources: the RIFF WAVE format, and Microsoft's WAVE_FORMAT_EXTENSIBLE, whose sub-format begins with the format's tag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from soundmark.audio import signatures
from soundmark.audio.decoders import checked_rate
from soundmark.errors import AudioError

CODINGS = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8}
"""Codings of raw samples, with their bytes per sample, under ffmpeg's names."""

LOUDEST = 1e3  # full scales; what is beyond is damage, as what is no number
_TAGS = {(1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (3, 32): "f32le", (3, 64): "f64le"}
_EXTENSIBLE = 0xFFFE
_ENDLESS = 0x7FFF_0000  # a pipe's writer does not know the length: it says the most there is, or nothing
_MOST_BEFORE_DATA = 1 << 20  # bytes; covers and the like stand there
_MOST_CHANNELS = 64


@dataclass(frozen=True)
class Layout:
    """What the bytes of a pipe are.

    Attributes:
        rate: Hz.
        channels: how many are interleaved.
        coding: one of `CODINGS`.
        size: bytes of samples that follow; None without end.
    """

    rate: int
    channels: int
    coding: str
    size: int | None = None

    def __post_init__(self) -> None:
        checked_rate(self.rate, "the pipe")
        if not 1 <= self.channels <= _MOST_CHANNELS:
            raise AudioError(f"the pipe cannot have {self.channels} channels: give 1 to {_MOST_CHANNELS}")
        if self.coding not in CODINGS:
            raise AudioError(f"the pipe cannot be {self.coding!r}: use {', '.join(CODINGS)}")

    @property
    def frame(self) -> int:
        """Bytes of one sample of every channel."""
        return CODINGS[self.coding] * self.channels


def layout(read: Callable[[int], bytes], given: Layout | None) -> tuple[Layout, bytes]:
    """Find out what a pipe gives, from its first bytes.

    Args:
        read: gives so many bytes, or fewer at the end.
        given: what it is where there is no header; None where that was not said.

    Returns:
        The layout, and the bytes that were read and are samples.

    Raises:
        AudioError: if it is neither raw samples of a known layout nor WAV, or has no samples.
    """
    head = read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav(read), b""
    if not head:
        raise AudioError("the pipe gives nothing: start what writes into it, and look at what it says")
    if given is None:
        kind = signatures.kind_of(head)
        what = f"begins as {kind.name}" if kind else "has no WAV header"
        raise AudioError(
            f"the pipe {what}: give --rate for raw samples, or send WAV, as in"
            " `ffmpeg -i SOURCE -f wav - | soundmark listen -`"
        )
    return given, head


def _wav(read: Callable[[int], bytes]) -> Layout:
    """Read on to the samples of a WAV file."""
    passed, found = 0, None
    while True:
        head = read(8)
        if len(head) < 8:
            raise AudioError("the pipe ends inside its WAV header: look at what writes into it")
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            if found is None:
                raise AudioError("the pipe's WAV header does not say what its samples are: send another format")
            return Layout(*found, size if 0 < size < _ENDLESS else None)
        passed += size
        if passed > _MOST_BEFORE_DATA:
            raise AudioError("the pipe's WAV header has no samples after it: look at what writes into it")
        content = read(size + size % 2)
        if name == b"fmt ":
            found = _format(content)


def _format(content: bytes) -> tuple[int, int, str]:
    tag, channels = (int.from_bytes(content[i : i + 2], "little") for i in (0, 2))
    rate, bits = int.from_bytes(content[4:8], "little"), int.from_bytes(content[14:16], "little")
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(content[24:26], "little")
    coding = _TAGS.get((tag, bits))
    if coding is None:
        raise AudioError(
            f"the pipe's WAV samples are of a kind that is not read (tag {tag}, {bits} bits): use 16-bit integers"
        )
    return rate, channels, coding


def mono(content: bytes, layout: Layout) -> np.ndarray:
    """Whole frames of bytes as float32 (samples,), channels mixed. What is no number, or damage, becomes silence."""
    coding = layout.coding
    samples: np.ndarray
    if coding == "s24le":
        parts = np.frombuffer(content, np.uint8).reshape(-1, 3).astype(np.int32)
        samples = ((parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24) / 2.0**31).astype(np.float32)
    elif coding == "u8":
        samples = ((np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128).astype(np.float32)
    elif coding[0] == "s":
        raw = np.frombuffer(content, f"<i{CODINGS[coding]}")
        samples = (raw / 2.0 ** (8 * CODINGS[coding] - 1)).astype(np.float32)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            samples = np.frombuffer(content, f"<f{CODINGS[coding]}").astype(np.float32)
    return sound(samples.reshape(-1, layout.channels).mean(axis=1) if layout.channels > 1 else samples)


def sound(samples: np.ndarray) -> np.ndarray:
    """The samples, with silence in place of NaN, infinite and absurd ones, which would stop a listener of days."""
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(samples) <= LOUDEST)
    return np.where(bad, np.float32(0), samples).astype(np.float32) if bad.any() else samples
