from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from soundmark import encoders
from soundmark.encoders.rhythm import Tempo

RATE = 44_100


def clicks(bpm: float, seconds: float = 6.0, rate: int = RATE) -> np.ndarray:
    clip = 0.001 * np.random.default_rng(0).standard_normal(int(seconds * rate))
    for beat in np.arange(0.1, seconds - 0.05, 60 / bpm):
        start = int(beat * rate)
        clip[start : start + 400] += np.hanning(400) * np.sin(np.arange(400) * 0.4)
    return clip.astype(np.float32)


def mel(clip: np.ndarray, rate: int = RATE, window: int = 2048, hop: int = 512) -> torch.Tensor:
    bands = librosa.feature.melspectrogram(y=clip, sr=rate, n_fft=window, hop_length=hop)
    return torch.from_numpy(bands.T.copy())[None]


@pytest.mark.parametrize(("rate", "window", "hop"), [(RATE, 2048, 512), (22_050, 2048, 512), (32_000, 1024, 320)])
def test_onsets_and_autocorrelation_are_librosas(rate, window, hop, relative):
    clip = clicks(110, 5.0, rate)
    tempo = Tempo(rate, window, hop)
    onsets = tempo.onsets(mel(clip, rate, window, hop))
    theirs = librosa.onset.onset_strength(y=clip, sr=rate, n_fft=window, hop_length=hop)
    assert relative(onsets[0].numpy(), theirs) < 1e-4
    tempogram = librosa.feature.tempogram(onset_envelope=theirs, sr=rate, hop_length=hop, win_length=tempo.memory)
    assert relative(tempo.autocorrelation(onsets)[0].numpy(), tempogram.mean(1)) < 1e-4


@pytest.mark.parametrize("bpm", [60, 90, 120, 150, 200])
def test_clicks_have_librosas_tempo(bpm):
    clip = clicks(bpm)
    theirs = librosa.feature.tempo(y=clip, sr=RATE)[0]
    assert Tempo(RATE, 2048, 512)(mel(clip)).item() == pytest.approx(theirs)


def test_synthesised_sounds_have_librosas_tempo(sounds):
    tempo = Tempo(RATE, 2048, 512)
    for name, clip in sounds.items():
        assert tempo(mel(clip)).item() == pytest.approx(librosa.feature.tempo(y=clip, sr=RATE)[0]), name


@pytest.mark.data
@pytest.mark.slow
def test_real_sounds_have_librosas_tempo(esc50_files):
    import soundfile

    encoder = encoders.load("handcrafted")
    files = esc50_files[:: len(esc50_files) // 30][:30]
    same = []
    for path in files:
        clip, rate = soundfile.read(path, dtype="float32")
        ours = encoder(torch.from_numpy(clip)[None])[0, 0, -1].item()
        same.append(ours == pytest.approx(librosa.feature.tempo(y=clip, sr=rate)[0]))
    assert np.mean(same) >= 0.99


def test_silence_has_the_priors_tempo():
    tempo = Tempo(RATE, 2048, 512)
    assert tempo(torch.zeros(2, 100, 64)).tolist() == pytest.approx([120.0, 120.0], rel=0.02)


def test_each_clip_has_its_own_loudest_level():
    tempo = Tempo(RATE, 2048, 512)
    loud, quiet = mel(clicks(90)), mel(clicks(150)) * 1e-6
    together = tempo.onsets(torch.cat([loud, quiet]))
    torch.testing.assert_close(together, torch.cat([tempo.onsets(loud), tempo.onsets(quiet)]))


def test_the_fewest_frames():
    tempo = Tempo(RATE, 2048, 512)
    assert tempo(torch.rand(1, tempo.min_frames, 64)).isfinite().all()


def test_one_tempo_stands_in_every_frame():
    frames = encoders.load("handcrafted")(torch.from_numpy(clicks(100, 2.0))[None])
    assert frames[0, :, -1].unique().numel() == 1
