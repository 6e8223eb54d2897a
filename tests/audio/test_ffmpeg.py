"""What only ffmpeg reads: what comes of it, and of an ffmpeg that is missing, broken or silent."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundmark import audio
from soundmark.audio import ffmpeg
from soundmark.audio.signatures import Kind
from soundmark.errors import AudioError

RATE = 48_000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH")
needs_scripts = pytest.mark.skipif(os.name != "posix", reason="a stand-in for ffmpeg is a shell script")
MP4 = b"\0\0\0\x20ftypM4A " + bytes(500)


def chirp(seconds: float) -> np.ndarray:
    """A tone that rises from 200 Hz, so that every moment sounds different."""
    times = np.arange(round(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * (200 + 300 * times) * times)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three seconds of stereo (a rising tone left, silence right) in containers that libsndfile does not know."""
    folder = tmp_path_factory.mktemp("made")
    left = chirp(3.0)
    soundfile.write(folder / "source.wav", np.stack([left, 0 * left], axis=1), RATE)
    codings = {"m4a": "aac", "webm": "libopus", "mka": "flac", "wma": "wmav2"}
    for suffix, coding in codings.items():
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-nostdin",
            "-i",
            "source.wav",
            "-c:a",
            coding,
            "-b:a",
            "128k",
            f"x.{suffix}",
        ]
        subprocess.run(command, cwd=folder, check=True)
    return {suffix: folder / f"x.{suffix}" for suffix in codings}


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["m4a", "webm", "mka", "wma"])
def test_the_sound_comes_back_mono_at_its_own_rate(made: dict[str, Path], suffix: str) -> None:
    waveform, rate = audio.read(made[suffix])
    assert rate == RATE
    assert len(waveform) == pytest.approx(3 * RATE, abs=0.06 * RATE)
    middle = waveform[RATE : 2 * RATE]
    assert np.abs(middle).max() == pytest.approx(0.15, abs=0.02), "the mean over both channels"
    about = audio.info(made[suffix])
    assert (about.sample_rate, about.channels, about.samples) == (RATE, 2, len(waveform))
    assert "ffmpeg" in about.format


@needs_ffmpeg
def test_bytes_file_objects_and_wrong_names(made: dict[str, Path], tmp_path: Path) -> None:
    expected, _ = audio.read(made["m4a"])
    wrong = tmp_path / "x.wav"
    shutil.copy(made["m4a"], wrong)
    content = made["m4a"].read_bytes()
    for source in (wrong, content, io.BytesIO(content)):
        np.testing.assert_array_equal(audio.read(source)[0], expected)
    with made["m4a"].open("rb") as file:
        np.testing.assert_array_equal(audio.read(file)[0], expected)


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "late"), [("m4a", 0.0), ("webm", 0.01), ("mka", 0.0)])
def test_parts_and_windows(made: dict[str, Path], suffix: str, late: float) -> None:
    whole, _ = audio.read(made[suffix])
    part, _ = audio.read(made[suffix], start=1.0, end=1.5)
    assert len(part) == RATE // 2
    settled, reach = part[4800:-4800], round(late * RATE)
    aside = [np.abs(settled - whole[RATE + 4800 + lag :][: len(settled)]).max() for lag in range(-reach, reach + 1)]
    assert min(aside) < 1e-2
    cut = list(audio.windows(made[suffix], None, 1.0))
    np.testing.assert_array_equal(np.concatenate([window.waveform for window in cut]), whole)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (1.0, 30.0, "earlier end"),
        (30.0, None, "earlier start"),
        (-1.0, None, "from 0 up"),
        (2.0, 1.0, "after the start"),
    ],
)
def test_impossible_parts(made: dict[str, Path], start: float, end: float | None, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        audio.read(made["m4a"], start=start, end=end)


@needs_ffmpeg
def test_stopping_early_stops_ffmpeg(made: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = subprocess.Popen

    def remembered(*arguments: object, **options: object) -> object:
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(ffmpeg.subprocess, "Popen", remembered)
    cut = audio.windows(made["webm"], None, 0.5)
    next(cut)
    cut.close()  # type: ignore[attr-defined]
    assert [process.poll() is not None for process in started] == [True]


@needs_ffmpeg
def test_a_playlist_cannot_make_ffmpeg_open_other_files(made: dict[str, Path], tmp_path: Path) -> None:
    """Behind the magic of a known container ffmpeg would still guess; only listed demuxers may answer."""
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{made['m4a']}\n#EXT-X-ENDLIST\n".encode()
    listing = f"ffconcat version 1.0\nfile '{made['m4a']}'\n".encode()
    for content in (playlist, listing):
        (tmp_path / "list.m4a").write_bytes(content)
        with pytest.raises(AudioError, match="looks like text"):
            audio.read(tmp_path / "list.m4a")
        kind = Kind("MP4/M4A", native=False)
        with ffmpeg.ExitStack() as stack, pytest.raises(AudioError, match="ffmpeg cannot read it"):
            ffmpeg.decode(str(tmp_path / "list.m4a"), "list.m4a", kind, "", 0.0, None, stack)


@pytest.mark.parametrize(
    ("content", "words"),
    [(MP4, r"is MP4/M4A, so it needs ffmpeg.* install ffmpeg"), (b"RIFF\4\0\0\0WAVE", "is a WAV file that libsndfile")],
)
def test_without_ffmpeg_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "x.m4a").write_bytes(content)
    with pytest.raises(AudioError, match=rf"x\.m4a {words}"):
        audio.read(tmp_path / "x.m4a")


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@needs_scripts
def test_a_silent_ffmpeg_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(ffmpeg, "PATIENCE", 0.3)
    began = time.monotonic()
    with pytest.raises(AudioError, match="gave nothing from the bytes given"):
        audio.read(MP4)
    assert time.monotonic() - began < 10


@needs_scripts
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 1", "no reason given"),
        ("echo '[mov @ 0x1] first' >&2; echo second >&2; exit 1", r"\(first\)"),
        ("echo not a header at all, but long enough", "no reason given"),
        (
            r"printf '.snd\000\000\000\030\377\377\377\377\000\000\000\006\000\000\000\001\000\000\000\001'",
            "sample rate of 1",
        ),
        (
            r"printf '.snd\000\000\000\030\377\377\377\377\000\000\000\006\000\000\037\100\000\000\000\000'",
            "no channels",
        ),
        (
            r"printf '.snd\000\000\000\030\377\377\377\377\000\000\000\006\000\000\037\100\000\000\000\001'",
            "no samples",
        ),
        (
            r"printf '.snd\000\000\000\030\377\377\377\377\000\000\000\006\000\000\037\100\000\000\000\001\177'",
            "no samples",
        ),
    ],
)
def test_a_broken_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str) -> None:
    stand_in(tmp_path, monkeypatch, script)
    with pytest.raises(AudioError, match=words):
        audio.read(MP4)


@needs_scripts
def test_an_ffmpeg_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "")
    (tmp_path / "ffmpeg").write_bytes(b"\x7fELF broken")
    with pytest.raises(AudioError, match="ffmpeg does not start"):
        audio.read(MP4)


def test_temporary_copies_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(AudioError):
        audio.read(MP4)
    assert not list(tmp_path.iterdir())
