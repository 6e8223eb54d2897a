"""Which mistakes are shown, and how a clip becomes sound and picture for the page."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from soundmark.report import mistakes
from soundmark.results import Predictions

RATE = mistakes.RATE


def wrong(confidence: list[float], *, groups=None, classes=("a", "b", "c"), said=None) -> Predictions:
    n = len(confidence)
    p = np.zeros((n, len(classes)))
    said = said or [1] * n
    p[np.arange(n), said] = confidence
    p[:, 0] += 0.001
    names = [f"{i}.wav" for i in range(n)]
    return Predictions(
        clips=names, paths=names, starts=[0.0] * n, ends=[None] * n, groups=groups or names, folds=["1"] * n,
        targets=np.zeros(n, dtype=np.int64), probabilities=p, classes=classes,
    )  # fmt: skip


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def content(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def test_the_surest_come_first_and_right_ones_never():
    given = wrong([0.5, 0.9, 0.7, 0.99], said=[1, 2, 1, 0])
    assert [mistake.clip for mistake in mistakes.surest(given, None)] == ["1.wav", "2.wav", "0.wav"]
    first = mistakes.surest(given, None)[0]
    assert (first.truth, first.guesses[0], first.sound) == ("a", ("c", pytest.approx(0.9)), None)
    assert first.truth_probability == pytest.approx(0.001)


def test_one_of_each_source_and_few_of_each_pair():
    shown = mistakes.surest(wrong([0.9, 0.8, 0.7, 0.6, 0.5], groups=["x", "x", "", "", "y"]), None, most=6)
    assert [mistake.clip for mistake in shown] == ["0.wav", "2.wav"]
    pair = mistakes.surest(wrong([0.9 - i / 100 for i in range(20)], classes=("a", "b")), None)
    assert len(pair) == mistakes.MOST // 2


def test_no_more_than_asked_for():
    assert len(mistakes.surest(wrong([0.9] * 30, said=[1, 2] * 15), None, most=3)) == 3


def test_a_clip_becomes_sound_and_picture(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", tone(1000, 2.0), RATE)
    sound = mistakes.listen(tmp_path, "a.wav")
    assert sound is not None
    assert (sound.seconds, sound.whole) == (pytest.approx(2.0, abs=0.01), True)
    heard, rate = soundfile.read(io.BytesIO(content(sound.audio)))
    assert rate == RATE
    assert len(heard) / rate == pytest.approx(2.0, abs=0.15)
    with Image.open(io.BytesIO(content(sound.picture))) as picture:
        assert picture.width == 480
    assert len(sound.audio) < 60_000
    assert len(sound.picture) < 60_000


def test_a_part_and_a_long_clip(tmp_path: Path):
    soundfile.write(tmp_path / "long.wav", np.concatenate([tone(300, 12.0), tone(3000, 3.0)]), RATE)
    long = mistakes.listen(tmp_path, "long.wav")
    assert long is not None
    assert (long.seconds, long.whole) == (pytest.approx(mistakes.SECONDS, abs=0.01), False)
    part = mistakes.listen(tmp_path, "long.wav", 12.5, 14.0)
    assert part is not None
    assert (part.seconds, part.whole) == (pytest.approx(1.5, abs=0.01), True)


def test_the_file_may_have_another_ending(tmp_path: Path):
    soundfile.write(tmp_path / "a.flac", tone(500), RATE)
    assert mistakes.listen(tmp_path, "a.wav") is not None


def test_what_cannot_be_read_has_no_sound(tmp_path: Path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    (tmp_path / "inside").mkdir()
    soundfile.write(tmp_path / "outside.wav", tone(500), RATE)
    for path in ("broken.wav", "missing.wav", "../outside.wav", str(tmp_path / "outside.wav"), "a\0b.wav"):
        assert mistakes.listen(tmp_path / "inside", path) is None
    assert mistakes.listen(tmp_path, "broken.wav") is None


@pytest.mark.parametrize("hz", [200, 1000, 5000])
def test_a_tone_stands_at_its_height(hz):
    picture = mistakes.spectrogram(tone(hz))
    assert picture.shape[0] == 132
    assert picture.min() >= 0
    assert picture.max() == pytest.approx(1)
    row = int(picture[:, picture.shape[1] // 2].argmax())
    assert 1 - row / 131 == pytest.approx(mistakes._height(hz), abs=0.04)


@pytest.mark.parametrize("waveform", [np.zeros(RATE), np.zeros(1), np.full(100, 1e-20), tone(500, 60.0)])
def test_silence_and_odd_lengths(waveform):
    picture = mistakes.spectrogram(waveform.astype(np.float32))
    assert np.isfinite(picture).all()
    assert 1 <= picture.shape[1] <= 482


def test_mistakes_of_a_perfect_run():
    given = wrong([0.5])
    assert mistakes.surest(replace(given, targets=np.array([1])), None) == []
