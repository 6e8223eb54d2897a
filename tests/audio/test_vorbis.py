"""Ogg Vorbis through miniaudio: the same samples as libsndfile's, and nothing that is not plainly sound."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from soundmark import audio
from soundmark.audio import vorbis

TOLERANCE = 2e-6
needs_miniaudio = pytest.mark.skipif(vorbis._miniaudio() is None, reason="miniaudio is not installed")


def ogg(seconds: float = 0.5, rate: int = 16_000, channels: int = 1, subtype: str = "VORBIS") -> bytes:
    samples = np.random.default_rng(0).normal(0, 0.1, (round(seconds * rate), channels))
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="OGG", subtype=subtype)
    return buffer.getvalue()


def by_libsndfile(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]


CONTENT = ogg()


@needs_miniaudio
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_the_same_as_libsndfile(rate: int, channels: int) -> None:
    content = ogg(1.3, rate, channels)
    decoded = vorbis.decode(content)
    assert decoded is not None
    np.testing.assert_allclose(decoded[0], by_libsndfile(content), atol=TOLERANCE)
    assert decoded[1] == rate


@needs_miniaudio
@pytest.mark.data
def test_real_clips_are_the_same_as_by_libsndfile(esc50_files: list[Path]) -> None:
    for path in [path for path in esc50_files if path.suffix == ".ogg"][::40]:
        content = path.read_bytes()
        decoded = vorbis.decode(content)
        assert decoded is not None, path
        np.testing.assert_allclose(decoded[0], by_libsndfile(content), atol=TOLERANCE)


@needs_miniaudio
def test_read_goes_this_way_for_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(CONTENT)
    asked = []
    whole = vorbis.decode
    monkeypatch.setattr(vorbis, "decode", lambda content: asked.append(len(content)) or whole(content))
    expected = by_libsndfile(CONTENT)[:, 0]
    for source in (path, CONTENT, io.BytesIO(CONTENT)):
        np.testing.assert_allclose(audio.read(source)[0], expected, atol=TOLERANCE)
    assert asked == [len(CONTENT)] * 3
    audio.read(path, start=0.1)
    audio.read(path, end=0.1)
    assert len(asked) == 3
    monkeypatch.setattr(vorbis, "MAX_FILE_BYTES", 100)
    np.testing.assert_array_equal(audio.read(path)[0], expected)
    assert len(asked) == 3


def test_without_miniaudio_libsndfile_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "miniaudio", None)
    monkeypatch.setattr(vorbis, "_miniaudio", vorbis._miniaudio.__wrapped__)
    assert vorbis.decode(CONTENT) is None
    np.testing.assert_array_equal(audio.read(CONTENT)[0], by_libsndfile(CONTENT)[:, 0])


def test_a_clean_file_is_as_it_was_without_its_comments() -> None:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 16_000, 1, "VORBIS", format="OGG") as file:
        file.title = "a title"
        file.write(np.zeros(3000))
    cleaned = vorbis.clean(buffer.getvalue())
    assert cleaned is not None
    assert (cleaned.channels, cleaned.sample_rate, cleaned.samples) == (1, 16_000, 3000)
    assert b"a title" in buffer.getvalue()
    assert b"a title" not in cleaned.content
    assert vorbis.clean(cleaned.content) == cleaned
    np.testing.assert_array_equal(by_libsndfile(cleaned.content), by_libsndfile(buffer.getvalue()))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(place=st.integers(0, len(CONTENT) - 1), bit=st.integers(0, 7))
def test_any_damage_is_noticed(place: int, bit: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[place] ^= 1 << bit
    assert vorbis.clean(bytes(damaged)) is None


@settings(max_examples=80, deadline=None, derandomize=True)
@given(keep=st.integers(0, len(CONTENT) - 1))
def test_any_cut_is_noticed(keep: int) -> None:
    assert vorbis.clean(CONTENT[:keep]) is None


def pages(content: bytes) -> list[bytes]:
    found = []
    while content:
        lengths = content[27 : 27 + content[26]]
        size = 27 + len(lengths) + sum(lengths)
        found.append(content[:size])
        content = content[size:]
    return found


def sealed(page: bytes) -> bytes:
    """The page with the right checksum, computed bit by bit as RFC 3533 says."""
    page = page[:22] + bytes(4) + page[26:]
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register & 0x80000000 else 0)) & 0xFFFFFFFF
    return page[:22] + register.to_bytes(4, "little") + page[26:]


def changed(number: int, place: int, value: bytes) -> bytes:
    """A file with other bytes in one page, whose checksum is right: what only a forger makes."""
    parts = pages(CONTENT)
    parts[number] = sealed(parts[number][:place] + value + parts[number][place + len(value) :])
    return b"".join(parts)


def test_checksums_are_those_of_the_standard() -> None:
    assert [sealed(page) for page in pages(CONTENT)] == pages(CONTENT)
    assert changed(0, 0, b"OggS") == CONTENT


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"OggS" + bytes(100), id="only the magic"),
        pytest.param(CONTENT + b"x", id="something after"),
        pytest.param(CONTENT + CONTENT, id="a second stream"),
        pytest.param(b"x" + CONTENT, id="something before"),
        pytest.param(b"".join(pages(CONTENT)[:-1]), id="no last page"),
        pytest.param(b"".join(pages(CONTENT)[:1] + pages(CONTENT)[2:]), id="no codebooks"),
        pytest.param(b"".join(pages(CONTENT)[1:]), id="no first page"),
        pytest.param(changed(0, 39, b"\2"), id="two channels"),
        pytest.param(changed(0, 56, b"\x88"), id="other block sizes"),
        pytest.param(changed(0, 29, b"theora"), id="not Vorbis"),
        pytest.param(changed(1, 500, b"\0\0\0\0"), id="other codebooks"),
        pytest.param(changed(2, 14, b"\1\2\3\4"), id="another stream's page"),
        pytest.param(changed(2, 18, b"\x09"), id="a page out of order"),
        pytest.param(changed(2, 5, b"\6"), id="a first page that is not first"),
        pytest.param(changed(2, 6, b"\xff" * 8), id="no position"),
        pytest.param(changed(2, 6, bytes(8)), id="position zero"),
        pytest.param(changed(2, 6, b"\0\0\0\0\0\1\0\0"), id="a million hours"),
        pytest.param(ogg(subtype="OPUS"), id="Opus"),
    ],
)
def test_what_is_not_plainly_sound_is_left_to_libsndfile(content: bytes) -> None:
    assert vorbis.clean(content) is None
    assert vorbis.decode(content) is None


@needs_miniaudio
def test_another_number_of_samples_is_left_to_libsndfile() -> None:
    assert vorbis.clean(changed(2, 6, (50_000).to_bytes(8, "little"))) is not None
    assert vorbis.decode(changed(2, 6, (50_000).to_bytes(8, "little"))) is None


def test_the_last_page_is_found() -> None:
    content = ogg(20.0, 44_100, 2)
    parts = pages(content)
    ends = [int.from_bytes(page[6:14], "little") for page in parts]
    assert vorbis.last_page_begin(content) == ends[-2]
    assert vorbis.last_page_begin(content[-vorbis.TAIL_BYTES :]) == ends[-2]
    assert vorbis.last_page_begin(content[:-1]) is None
    assert vorbis.last_page_begin(parts[-1]) is None
    assert vorbis.last_page_begin(b"") is None
    assert vorbis.last_page_begin(b"OggS\0" + bytes(20)) is None
