"""Live sources: pipes, recordings, network streams that break off, and a microphone's stand-in."""

from __future__ import annotations

import io
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from soundmark import audio, sources
from soundmark.audio.pcm import Layout
from soundmark.errors import AudioError, ListenError
from soundmark.sources import Block, Microphone, Pipe, Recording, Stream

RATE = 8000
SOUND = np.linspace(-0.5, 0.5, 20_000).astype(np.float32)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH")


def silent(text: str) -> None:
    """Nobody needs to be told."""


def joined(blocks: list[Block]) -> np.ndarray:
    """The samples of blocks that follow each other."""
    count = 0
    for block in blocks:
        assert block.start == pytest.approx(count / block.rate)
        count += len(block.samples)
    return np.concatenate([block.samples for block in blocks])


# --- Pipes and recordings ------------------------------------------------------------------------------------------


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, content: bytes, size: int = 777) -> None:
        self.content, self.size = io.BytesIO(content), size

    def read(self, size: int = -1) -> bytes:
        return self.content.read(min(size, self.size))


def test_raw_samples_come_through_whole() -> None:
    content = (SOUND * 32768).astype("<i2").tobytes()
    found = joined(list(Pipe(Dribble(content), Layout(RATE, 1, "s16le")).blocks(silent)))
    np.testing.assert_allclose(found, SOUND, atol=1 / 32768)


def test_channels_are_mixed_and_half_a_frame_is_kept_for_later() -> None:
    content = np.stack([SOUND, 0 * SOUND], axis=1).astype("<f4").tobytes()
    found = joined(list(Pipe(Dribble(content, 1003), Layout(RATE, 2, "f32le")).blocks(silent)))
    np.testing.assert_allclose(found, SOUND / 2, atol=1e-7)


def test_wav_on_a_pipe_ends_with_its_samples() -> None:
    file = io.BytesIO()
    soundfile.write(file, SOUND, RATE, format="WAV", subtype="PCM_16")
    content = file.getvalue() + b"LIST" + bytes(4000)
    found = joined(list(Pipe(Dribble(content)).blocks(silent)))
    np.testing.assert_allclose(found, SOUND, atol=1 / 32768)


def test_a_pipe_without_samples_says_so() -> None:
    with pytest.raises(AudioError, match="the pipe gives nothing"):
        list(Pipe(io.BytesIO(b""), Layout(RATE, 1, "s16le")).blocks(silent))
    with pytest.raises(AudioError, match="gives no samples"):
        list(Pipe(io.BytesIO(b"\0"), Layout(RATE, 1, "s16le")).blocks(silent))


def test_a_recording_is_what_read_gives(tmp_path: Path) -> None:
    audio.write(tmp_path / "x.flac", SOUND, RATE)
    found = joined(list(Recording(str(tmp_path / "x.flac")).blocks(silent)))
    np.testing.assert_array_equal(found, audio.read(tmp_path / "x.flac")[0])


def test_a_recording_at_its_own_pace_comes_in_moments_and_can_be_stopped(tmp_path: Path) -> None:
    audio.write(tmp_path / "x.wav", SOUND[: RATE // 2], RATE)
    source = Recording(str(tmp_path / "x.wav"), realtime=True)
    found = []
    for block in source.blocks(silent):
        found.append(block)
        if len(found) == 2:
            source.close()
    assert [len(block.samples) for block in found] == [800, 800]
    assert source.live


# --- What breaks off -----------------------------------------------------------------------------------------------


class Broken(sources._Again):
    """Two moments of sound, then it breaks off; at the third opening it cannot be opened."""

    name = "it"
    openings = 0

    def _sound(self, stack: Any, say: Any) -> Iterator[tuple[np.ndarray, int]]:
        self.openings += 1
        if self.openings == 3:
            raise AudioError("it is not there")
        for _ in range(2):
            yield SOUND[:800], RATE
        raise AudioError("it broke off")


def test_what_breaks_off_is_tried_again_after_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said, blocks = [100.0], [], []
    monkeypatch.setattr(sources, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    source = Broken()

    def pause(seconds: float) -> bool:
        clock[0] += seconds
        return False

    monkeypatch.setattr(source._over, "wait", pause)
    for block in source.blocks(said.append):
        blocks.append(block)
        clock[0] += 0.1
        if source.openings == 5:
            source.close()
    assert said[:4] == [
        "it broke off; trying again in 1 s",
        "it broke off; trying again in 2 s",
        "it is not there; trying again in 4 s",
        "it broke off; trying again in 8 s",
    ]
    starts = [round(block.start, 3) for block in blocks[:6]]
    assert starts == [0.0, 0.1, 1.2, 1.3, 7.4, 7.5]  # the third time nothing came


def test_pauses_have_an_upper_end_and_begin_anew_after_steady_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Broken):
        def _sound(self, stack: Any, say: Any) -> Iterator[tuple[np.ndarray, int]]:
            self.openings += 1
            if self.openings == 9:
                yield np.zeros(31 * RATE, np.float32), RATE
            raise AudioError("no")

    source, said = Silent(), []

    def told(text: str) -> None:
        said.append(text.rpartition("in ")[2])
        if len(said) == 10:
            source.close()

    monkeypatch.setattr(source._over, "wait", lambda seconds: False)
    list(source.blocks(told))
    assert said == ["1 s", "2 s", "4 s", "8 s", "16 s", "32 s", "60 s", "60 s", "1 s", "2 s"]


def test_once_is_once() -> None:
    with pytest.raises(AudioError, match="it broke off"):
        list(Broken(once=True).blocks(silent))


# --- Network streams -----------------------------------------------------------------------------------------------


@needs_ffmpeg
def test_a_stream_is_heard_through_ffmpeg(serve: str, tmp_path: Path) -> None:
    audio.write(tmp_path / "web" / "x.wav", SOUND, RATE)
    source = Stream(address=f"{serve}/x.wav", once=True)
    blocks = list(source.blocks(silent))
    assert {block.rate for block in blocks} == {RATE}
    np.testing.assert_allclose(joined(blocks), SOUND, atol=1 / 16384)


@needs_ffmpeg
def test_a_stream_that_is_not_there_says_why(serve: str) -> None:
    with pytest.raises(AudioError, match=r"gives no sound \(.*404"):
        list(Stream(address=f"{serve}/none.wav", once=True).blocks(silent))


@needs_ffmpeg
def test_a_stream_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        with pytest.raises(AudioError, match=r"no sound for 0\.3 s"):
            list(Stream(address=address, once=True, patience=0.3).blocks(silent))


@needs_ffmpeg
def test_a_stream_that_is_closed_lets_go_of_ffmpeg() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = Stream(address=f"http://127.0.0.1:{server.getsockname()[1]}/x", patience=600)
        thread = threading.Thread(target=lambda: list(source.blocks(silent)))
        thread.start()
        connection, _ = server.accept()  # ffmpeg is there, and waits
        source.close()
        thread.join(60)
        connection.close()
        assert not thread.is_alive()


@pytest.mark.skipif(os.name != "posix", reason="PATH is emptied")
def test_without_ffmpeg_trying_again_is_no_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ListenError, match="needs ffmpeg"):
        list(Stream(address="http://127.0.0.1:1/x").blocks(silent))


def test_names_hold_no_passwords_and_no_keys() -> None:
    assert Stream(address="rtsp://me:secret@camera:554/a/b?key=secret").name == "rtsp://camera:554/a/b"


# --- A microphone --------------------------------------------------------------------------------------------------


class Card:
    """A stand-in for the module sounddevice, with one microphone."""

    def __init__(self, moments: int = 3) -> None:
        self.moments = moments
        self.closed = 0

    def query_devices(self, device: Any = None, kind: str = "") -> Any:
        if device == "nonesuch":
            raise ValueError("no device matching 'nonesuch'")
        mic = {"name": "Mic", "max_input_channels": 2, "default_samplerate": 16_000.0}
        return mic if kind else [mic, {"name": "Speaker", "max_input_channels": 0, "default_samplerate": 44_100.0}]

    def RawInputStream(self, *, samplerate: int, blocksize: int, callback: Any, **more: Any) -> Any:  # noqa: N802
        assert (more["channels"], more["dtype"]) == (1, "float32")
        for number in range(self.moments):
            data = np.full(blocksize, number / 8, np.float32).tobytes()
            callback(data, blocksize, None, number == 1)
        return self

    def __enter__(self) -> Card:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed += 1


def test_a_microphone_is_heard_at_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    card, said = Card(), []
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    source, blocks = Microphone(once=True, patience=0.05), []
    with pytest.raises(AudioError, match="the microphone has fallen silent"):
        blocks.extend(source.blocks(said.append))  # what came before the error is kept
    assert [(block.rate, len(block.samples), block.samples[0]) for block in blocks] == [
        (16_000, 1600, 0.0),
        (16_000, 1600, 0.125),
        (16_000, 1600, 0.25),
    ]
    assert said == ["the microphone lost some sound: the machine is too busy to take it"]
    assert card.closed == 1


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Card())
    with pytest.raises(AudioError, match=r"'nonesuch' cannot be opened .*--list-devices"):
        list(Microphone(device="nonesuch", once=True).blocks(silent))


def test_devices_are_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Card())
    assert sources.devices() == [(0, "Mic", 2, 16_000)]


def test_without_portaudio_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(ListenError, match=r"PortAudio library not found.*libportaudio2"):
        list(Microphone().blocks(silent))
