"""Augmentation to look at and listen to: the files, and sounds that have the spectrograms they stand for."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from soundmark import audio, cli
from soundmark.errors import AudioError, MissingExtra, SpecError
from soundmark.networks import audition
from soundmark.networks.augment import AUGMENTATIONS, parse

RATE = 8000
FRONT = audition._front(RATE)


def sound(seed: int = 0, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(times))
    tones = sum(np.sin(2 * np.pi * pitch * (1 + seed) * times) for pitch in (300, 610, 1200))
    return ((0.1 * tones + 0.02 * noise) * np.exp(-3 * times)).astype(np.float32)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "dog.wav"
    audio.write(path, sound(), RATE)
    return path


@pytest.mark.parametrize(
    ("text", "closest"),
    [
        ("gain", 0.1),
        ("shift", 3.0),
        ("noise?p=0", 1.0),  # it is done all the same
        ("reverb?wet=3", 2.5),
        ("pitch", 2.5),
        ("stretch", 3.0),
        ("timemask", 1.0),
        ("timemask?fill=silence", 0.5),
        ("freqmask", 1.0),
        ("bandshift", 2.5),
        ("filter", 0.5),
        ("mixup?alpha=5", 2.0),
        ("mix", 2.0),
        ("pitch?on=waveform", 0.001),
        ("reverb?on=waveform+gain", 0.1),
        ("filter+timemask+mix", 2.0),
    ],
)
def test_what_is_heard_has_the_levels_that_are_shown(text, closest):
    shot = audition.shot("it", parse(text), sound(), sound(1), FRONT, seed=1)
    assert (shot.name, shot.text) == ("it", parse(text).text)
    assert shot.waveform.dtype == np.float32
    assert len(shot.waveform) == RATE
    heard = FRONT(torch.from_numpy(shot.waveform)[None])[0].numpy()
    loud = shot.levels > shot.levels.max() - 35
    assert np.abs(heard - shot.levels)[loud].mean() < closest
    assert np.abs(shot.levels - FRONT(torch.from_numpy(sound())[None])[0].numpy()).mean() > 0.05
    assert (shot.share < 100) == ("mix" in text)
    again = audition.shot("it", parse(text), sound(), sound(1), FRONT, seed=1)
    assert np.array_equal(again.waveform, shot.waveform)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_silence_can_be_listened_to(name):
    silence = np.zeros(RATE // 2, np.float32)
    shot = audition.shot(name, parse(name), silence, silence, FRONT, seed=1)
    assert np.abs(shot.waveform).max() < 1e-3
    assert np.isfinite(shot.levels).all()


def test_the_command_draws_every_augmentation(recording, tmp_path, capsys):
    assert cli.main(["data", "augment", str(recording), "--to", str(tmp_path / "out"), "--rate", str(RATE)]) == 0
    out = capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted([f"{name}.{end}" for name in AUGMENTATIONS for end in ("png", "wav")] + [
        "before.wav", "with.wav"
    ])  # fmt: skip
    assert sorted(line.rpartition("/")[2] for line in out.splitlines()) == names
    for name in names:
        if name.endswith("wav"):
            waveform, rate = audio.read(tmp_path / "out" / name)
            assert (rate, len(waveform)) == (RATE, RATE)
            assert 0.01 < np.abs(waveform).max() < 1  # nothing is clipped
        else:
            with Image.open(tmp_path / "out" / name) as image:
                assert image.width > image.height > 400


def test_the_command_draws_parts_and_all_together(recording, tmp_path, capsys):
    other = tmp_path / "short.wav"
    audio.write(other, sound(1, 0.2), RATE)
    words = ["--augment", "gain?db=3+gain+gain?on=waveform+mix", "--seed", "3", "--with", str(other)]
    for folder in ("a", "b"):
        code = cli.main(["data", "augment", str(recording), "--to", str(tmp_path / folder), "--rate", "8000", *words])
        assert (code, capsys.readouterr().err) == (0, "")
    names = ["gain", "gain-2", "gain-waveform", "mix", "all"]
    for name in [f"{name}.{end}" for name in names for end in ("png", "wav")]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    before, with_, all_ = (audio.read(tmp_path / "a" / f"{name}.wav")[0] for name in ("before", "with", "all"))
    np.testing.assert_allclose(with_[1600:3200], with_[:1600], atol=1e-3)  # repeated to the recording's length
    assert not np.allclose(all_, before, atol=1e-2)


def test_the_figures_go_to_a_folder_of_the_recordings_name(recording, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "augment", "dog.wav", "--augment", "gain"]) == 0
    assert {path.name for path in (tmp_path / "figures" / "dog").iterdir()} == {"before.wav", "gain.png", "gain.wav"}
    assert audio.info(tmp_path / "figures" / "dog" / "gain.wav").sample_rate == 22050


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["dog.wav", "--augment", "bark"], "there is no augmentation called 'bark'"),
        (["dog.wav", "--rate", "100"], "a rate of 100 Hz is out of bounds: it must lie from 8000 to 192000"),
        (["cat.wav"], "cat.wav"),
        (["dog.wav", "--with", "cat.wav"], "cat.wav"),
    ],
)
def test_errors_are_explained_and_leave_nothing(words, complaint, recording, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "augment", *words]) == 1
    assert complaint in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["dog.wav"]


def test_odd_lengths_are_heard(tmp_path):
    audio.write(tmp_path / "click.wav", np.ones(1, np.float32) * 0.5, RATE)
    written = audition.draw(tmp_path / "click.wav", tmp_path / "out", text="filter+timemask+pitch", rate=RATE)
    assert len(written) == 9
    assert audio.info(tmp_path / "out" / "all.wav").duration == audition.LEAST_SECONDS
    audio.write(tmp_path / "long.wav", np.full(40 * RATE, 0.1, np.float32), RATE)
    audition.draw(tmp_path / "long.wav", tmp_path / "out", text="gain", rate=RATE)
    assert audio.info(tmp_path / "out" / "gain.wav").duration == audition.MOST_SECONDS
    with pytest.raises(AudioError):
        audition.draw(tmp_path, tmp_path / "out")


def test_without_librosa_the_rest_can_be_heard(recording, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    assert len(audition.draw(recording, tmp_path, text="filter+gain", rate=RATE)) == 7
    with pytest.raises(MissingExtra, match=r"librosa: pip install 'soundmark\[augment\]'"):
        audition.draw(recording, tmp_path, text="bandshift", rate=RATE)


def test_a_rate_has_bounds():
    with pytest.raises(SpecError, match="out of bounds"):
        audition.draw("dog.wav", "out", rate=10**6)
