"""Every odd or malformed file has a clear outcome: by path, as bytes, as a file object, with miniaudio and without."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from soundmark import audio
from soundmark.audio import vorbis
from soundmark.audio.decoders import opened
from soundmark.errors import AudioError


def load_odd_files() -> ModuleType:
    """The list beside this file; tests are not a package, so it is loaded by its path."""
    name = "odd_files"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "odd_files.py")
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


odd_files = load_odd_files()
ODD = odd_files.ODD


def outcome(source: Any) -> tuple[str, str]:
    """ "ok" and the sound's size and sum, or "error" and the message."""
    try:
        waveform, rate = audio.read(source)
    except AudioError as error:
        return "error", str(error)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert np.isfinite(waveform).all()
    return "ok", f"{len(waveform)} samples at {rate} Hz"


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    try:
        return request.param.write(tmp_path)
    except odd_files.Impossible as reason:
        pytest.skip(str(reason))


def test_the_list_is_long_and_its_names_differ() -> None:
    assert len({odd.name for odd in ODD}) == len(ODD) >= 100


@pytest.mark.parametrize(("odd", "made"), [pytest.param(odd, odd, id=odd.name) for odd in ODD], indirect=["made"])
def test_every_odd_file_has_a_clear_outcome(odd: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got, words = outcome(made)
    if "no ffmpeg on PATH" in words and not re.search(odd.words, words, re.IGNORECASE):
        pytest.skip("SKIPPED FOR WANT OF FFMPEG: it would have been asked about this file")
    assert got == odd.outcome, words
    if got == "error":
        assert made.name in words
        assert re.search(odd.words, words, re.IGNORECASE), words
        assert "\n" not in words
        assert len(words) < 400 + len(str(made))
    assert_the_same_without_miniaudio(made, got, words, monkeypatch)
    if made.is_file():
        assert_the_same_for_bytes(odd, made, got, words)


def assert_the_same_without_miniaudio(made: Path, got: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if made.is_file() and b"\x01vorbis" in made.read_bytes()[:64]:
        monkeypatch.setattr(vorbis, "_miniaudio", lambda: None)
        assert outcome(made) == (got, words)


def assert_the_same_for_bytes(odd: Any, made: Path, got: str, words: str) -> None:
    content = made.read_bytes()
    costly = odd.write.__qualname__.startswith("converted")
    for source in (content,) if costly else (content, Pipe(content)):
        other, other_words = outcome(source)
        assert other == got, other_words
        if got == "ok":
            assert other_words == words


class Pipe(io.RawIOBase):
    """What standard input is: readable, not seekable."""

    name = "x.raw"

    def __init__(self, content: bytes) -> None:
        self.rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.rest.readinto(buffer)


class Broken(io.BytesIO):
    """A disk that fails after the first kilobytes."""

    name = "broken.wav"

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 2000:
            raise OSError("the disk is gone")
        return super().read(size)


def test_a_file_object_that_fails_is_reported() -> None:
    with pytest.raises(AudioError, match=r"broken\.wav could not be read to its end \(the disk is gone\)"):
        audio.read(Broken(odd_files.wav_bytes(odd_files.pcm16())))


@pytest.mark.parametrize("source", [io.StringIO("text"), io.BytesIO(b"")], ids=["text", "empty"])
def test_file_objects_without_sound(source: Any) -> None:
    with pytest.raises(AudioError, match=r"binary|empty"):
        audio.read(source)


def test_a_closed_or_unreadable_file_object(tmp_path: Path) -> None:
    closed = io.BytesIO(b"RIFF")
    closed.close()
    with pytest.raises(AudioError, match="closed"):
        audio.read(closed)
    with (tmp_path / "x").open("wb") as writing, pytest.raises(AudioError, match="binary file"):
        audio.read(writing)


@pytest.mark.parametrize("path", ["", "nul\0byte.wav", "x" * 5000 + ".wav"])
def test_impossible_paths(path: str) -> None:
    with pytest.raises(AudioError, match="check the path"):
        audio.read(path)


def test_a_lying_header_takes_no_memory(tmp_path: Path) -> None:
    names = ("FLAC that promises 2**36 samples", "WAV that promises 4 GB", "WAV with sizes of a stream")
    for odd in ODD:
        if odd.name in names:
            path = odd.write(tmp_path)
            tracemalloc.start()
            outcome(path)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 8e6, odd.name


def test_samples_come_in_blocks_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "wide.wav"
    soundfile.write(path, np.zeros((200_000, 8), np.int16), 8000)
    with opened(path) as stream:
        sizes = [len(block) for block in stream.blocks]
    assert sum(sizes) == 200_000
    assert max(sizes) == 65_536


@pytest.mark.parametrize("suffix", ["ogg", "opus", "flac", "mp3"])
def test_parts_are_exact_to_the_last_sample(tmp_path: Path, suffix: str) -> None:
    """libsndfile itself misses in an Ogg Vorbis file's last page by up to a block."""
    path = tmp_path / f"x.{suffix}"
    samples = np.random.default_rng(0).normal(0, 0.1, (30_001, 1)).astype(np.float32)
    kind = {
        "ogg": ("OGG", "VORBIS"),
        "opus": ("OGG", "OPUS"),
        "flac": ("FLAC", "PCM_16"),
        "mp3": ("MP3", "MPEG_LAYER_III"),
    }
    soundfile.write(path, samples, 16_000, format=kind[suffix][0], subtype=kind[suffix][1])
    whole, rate = audio.read(path)
    assert len(whole) == 30_001
    for first in (1, 7, 5000, 17_000, 22_222, 27_000, 29_000, 29_900, 30_000):
        part, _ = audio.read(path, start=first / rate)
        assert len(part) == 30_001 - first
        # A lossy decoder needs a moment to settle after a jump.
        settled = {"opus": 3000, "mp3": 3000}.get(suffix, 0)
        np.testing.assert_allclose(part[settled:], whole[first:][settled:], atol=1e-3 if settled else 2e-6)
