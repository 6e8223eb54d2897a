"""Sound on a pipe: raw samples of every coding, WAV headers with and without a length, and what is neither."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from soundmark.audio import pcm
from soundmark.audio.pcm import Layout
from soundmark.errors import AudioError

SOUND = np.array([0.0, 0.25, -0.5, 0.75, -1.0, 0.125])


def reader(content: bytes) -> Callable[[int], bytes]:
    return io.BytesIO(content).read


def wav(subtype: str, channels: int = 1, format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.stack([SOUND] * channels, axis=1), 8000, subtype=subtype, format=format)
    return file.getvalue()


def endless(size: int) -> bytes:
    """As a program writes that does not know how long it will go on."""
    fmt = struct.pack("<HHIIHH", 1, 1, 8000, 16_000, 2, 16)
    return b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"LIST\x03\0\0\0abc\0data"


@pytest.mark.parametrize(
    ("subtype", "coding"),
    [
        ("PCM_U8", "u8"),
        ("PCM_16", "s16le"),
        ("PCM_24", "s24le"),
        ("PCM_32", "s32le"),
        ("FLOAT", "f32le"),
        ("DOUBLE", "f64le"),
    ],
)
@pytest.mark.parametrize("format", ["WAV", "WAVEX"])
def test_wav_headers_say_what_follows(subtype: str, coding: str, format: str) -> None:
    content = wav(subtype, 2, format)
    read = reader(content)
    found, first = pcm.layout(read, None)
    assert (found.rate, found.channels, found.coding, first) == (8000, 2, coding, b"")
    assert found.size == len(SOUND) * found.frame
    np.testing.assert_allclose(pcm.mono(read(found.size), found), SOUND, atol=1 / 128)


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_length_that_is_not_known_is_none(size: int) -> None:
    read = reader(endless(size) + struct.pack("<I", size) + b"\0\0\0\x40")
    found, _ = pcm.layout(read, None)
    assert (found.size, found.coding) == (None, "s16le")
    assert pcm.mono(read(4), found).tolist() == [0, 0.5]


def test_a_header_outdoes_what_was_given_and_raw_samples_lose_none() -> None:
    given = Layout(44_100, 1, "f32le")
    assert pcm.layout(reader(wav("PCM_16")), given)[0].rate == 8000
    content = SOUND.astype("<f4").tobytes()
    found, first = pcm.layout(reader(content), given)
    assert (found, first) == (given, content[:12])
    assert pcm.layout(reader(content[:4]), given) == (given, content[:4])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "gives nothing"),
        (b"OggS" + bytes(40), r"begins as Ogg: give --rate"),
        (b"just some text", "has no WAV header: give --rate"),
        (b"RIFF\0\0\0\0WAVEfmt ", "ends inside its WAV header"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "does not say what its samples are"),
        (b"RIFF\0\0\0\0WAVELIST\0\0\0\x7f", "no samples after it"),
        (wav("ULAW"), "tag 7, 8 bits"),
    ],
)
def test_what_is_neither_is_said(content: bytes, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        pcm.layout(reader(content), None)


def test_damaged_samples_are_silence() -> None:
    content = np.array([0.5, np.nan, np.inf, 1e30, -0.5], "<f4").tobytes()
    assert pcm.mono(content, Layout(8000, 1, "f32le")).tolist() == [0.5, 0, 0, 0, -0.5]


@pytest.mark.parametrize("wrong", [(7, 1, "s16le"), (8000, 0, "s16le"), (8000, 99, "s16le"), (8000, 1, "mp3")])
def test_layouts_out_of_range_are_refused(wrong: tuple[int, int, str]) -> None:
    with pytest.raises(AudioError):
        Layout(*wrong)
