from __future__ import annotations

import itertools

import librosa
import numpy as np
import pytest
import torch

from soundmark import encoders, frontends
from soundmark.errors import AudioError, SpecError

RATE = 44_100


def power(clip, window=2048, hop=512):
    return np.abs(librosa.stft(clip, n_fft=window, hop_length=hop)).astype(np.float64) ** 2


def level(bands):
    return 10 * np.log10(np.maximum(bands, 1e-10))


def logmel(clip):
    return librosa.power_to_db(librosa.feature.melspectrogram(y=clip, sr=RATE, n_mels=64), top_db=None)


def logmel_of_panns(clip):
    bands = librosa.feature.melspectrogram(y=clip, sr=RATE, n_fft=1024, hop_length=320, n_mels=40, fmin=50, fmax=14_000)
    return librosa.power_to_db(bands, top_db=None)


def logmel_under_the_loudest(clip):
    return librosa.power_to_db(librosa.feature.melspectrogram(y=clip, sr=RATE, n_mels=64), ref=np.max, top_db=60)


def mfcc(clip):
    levels = librosa.power_to_db(librosa.feature.melspectrogram(y=clip, sr=RATE), top_db=None)
    return librosa.feature.mfcc(S=levels)


def mfcc_with_deltas(clip):
    levels = librosa.power_to_db(librosa.feature.melspectrogram(y=clip, sr=RATE, n_mels=64), top_db=None)
    coefficients = librosa.feature.mfcc(S=levels, n_mfcc=13)
    return np.concatenate([coefficients] + [librosa.feature.delta(coefficients, order=order) for order in (1, 2)])


def linear(clip):
    bins = power(clip)
    edges = np.rint(np.linspace(0, 1025, 129)).astype(int)
    return level(np.stack([bins[start:end].mean(0) for start, end in itertools.pairwise(edges)]))


def every_bin_in_range(clip):
    return level(power(clip, 1024, 256))[5:93]  # bins of 43.07 Hz from 200 to 4000 Hz


def logfreq(clip):
    centres = 32.7 * 2 ** (np.arange(112) / 12)
    below = np.maximum(centres * (1 - 2 ** (-1 / 12)), RATE / 2048)
    above = np.maximum(centres * (2 ** (1 / 12) - 1), RATE / 2048)
    offset = librosa.fft_frequencies(sr=RATE)[None] - centres[:, None]
    weights = np.clip(1 - np.where(offset < 0, -offset / below[:, None], offset / above[:, None]), 0, None)
    return level(weights / weights.sum(1, keepdims=True) @ power(clip))


REFERENCES = {
    "logmel": logmel,
    "logmel?window=1024&hop=320&bands=40&fmin=50&fmax=14000": logmel_of_panns,
    "logmel?ref=max&top_db=60": logmel_under_the_loudest,
    "mfcc": mfcc,
    "mfcc?bands=64&coefficients=13&deltas=true": mfcc_with_deltas,
    "linear": linear,
    "linear?bands=0&window=1024&hop=256&fmin=200&fmax=4000": every_bin_in_range,
    "logfreq": logfreq,
}


@pytest.mark.parametrize("spec", REFERENCES)
def test_parity_on_synthesised_sounds(spec, sounds, relative):
    encoder = encoders.load(spec)
    for name, clip in sounds.items():
        frames = encoder(torch.from_numpy(clip)[None])[0]
        assert frames.shape[1] == encoder.dim == len(encoder.feature_names)
        assert relative(frames.numpy().T, REFERENCES[spec](clip)) < 1e-4, name


@pytest.mark.data
@pytest.mark.parametrize("spec", REFERENCES)
def test_parity_on_real_sounds(spec, real_sounds, relative):
    encoder = encoders.load(spec)
    for name, clip in real_sounds.items():
        frames = encoder(torch.from_numpy(clip)[None])[0]
        assert relative(frames.numpy().T, REFERENCES[spec](clip)) < 2e-4, name


@pytest.mark.parametrize("spec", REFERENCES)
def test_parity_on_a_pure_tone_whose_holes_hold_nothing(spec, relative):
    clip = (0.9 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
    frames = encoders.load(spec)(torch.from_numpy(clip)[None])[0].numpy().T
    assert relative(frames, REFERENCES[spec](clip)) < 1e-3


def test_deltas_are_librosas_at_the_shortest(sounds, relative):
    encoder = encoders.load("mfcc?deltas=true")
    clip = sounds["noise"][: encoder.min_samples]
    frames = encoder(torch.from_numpy(clip)[None])[0].numpy().T
    assert frames.shape == (60, 9)
    assert relative(frames[20:40], librosa.feature.delta(frames[:20])) < 1e-5
    assert relative(frames[40:], librosa.feature.delta(frames[:20], order=2)) < 1e-5


def test_the_spec_spells_out_every_setting():
    spelt_out = "logmel?bands=64&fmax=0&fmin=0&hop=512&precise=false&rate=44100&ref=1&top_db=0&window=2048"
    assert encoders.load("logmel").spec == spelt_out
    assert (
        encoders.load("mfcc?fmin=50.0&deltas=TRUE").spec
        == "mfcc?bands=128&coefficients=20&deltas=true&fmax=0&fmin=50&hop=512&precise=false&rate=44100&window=2048"
    )
    assert "fmin=32.7&" in encoders.load("logfreq").spec


def test_settings_arrive():
    encoder = encoders.load("logmel?rate=16000&window=400&hop=160&bands=20")
    assert (encoder.sample_rate, encoder.dim) == (16_000, 20)
    assert encoder.hop_seconds == pytest.approx(0.01)
    assert encoder.min_samples == 400
    assert encoder(torch.zeros(1, 16_000)).shape == (1, 101, 20)
    assert encoders.load("logfreq?octave=24&bands=100").dim == 100
    assert encoders.load("linear?bands=0").dim == 1025


def test_names_tell_the_frequency():
    assert encoders.load("logmel").feature_names[0] == "logmel 61.5307 Hz"
    assert encoders.load("linear?bands=0").feature_names[:2] == ("linear 0 Hz", "linear 21.5332 Hz")
    assert encoders.load("logfreq").feature_names[12] == "logfreq 65.4 Hz"
    assert encoders.load("mfcc?deltas=true").feature_names[::20] == ("mfcc 0", "mfcc delta 0", "mfcc delta2 0")


def test_silence_is_the_floor():
    for spec in ("linear", "logfreq", "logmel"):
        assert (encoders.load(spec)(torch.zeros(1, 5000)) == -100).all(), spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("logmel?band=3", "no setting 'band'; its settings and defaults are: rate=44100, window=2048"),
        ("logmel?bands=0", "bands=0 in 'logmel' is out of bounds: it must lie from 1 to 4096"),
        ("logmel?bands=many", "should be of type int"),
        ("logmel?bands=5000", "out of bounds"),
        ("logmel?bands=400", "narrower than the bins"),
        ("logmel?window=1", "out of bounds"),
        ("logmel?hop=0", "out of bounds"),
        ("logmel?rate=0", "out of bounds"),
        ("logmel?fmin=nan", "out of bounds"),
        ("logmel?fmin=-1", "out of bounds"),
        ("logmel?fmax=30000", "from 0 to 22050"),
        ("logmel?fmin=5000&fmax=400", "must lie below fmax"),
        ("logmel?ref=2", "ref=2 in 'logmel': it is 1"),
        ("logmel@deep", "neither views nor layers"),
        ("logmel:view", "neither views nor layers"),
        ("logfreq?bands=200", "at most bands=112"),
        ("logfreq?fmin=0", "must lie above 0 Hz"),
        ("linear?bands=1026", "do not fit 1025 bins"),
        ("mfcc?coefficients=129", "cannot come from 128 bands"),
        ("mfcc?deltas=maybe", "should be of type bool"),
    ],
)
def test_settings_that_make_no_sense_are_refused(spec, message):
    with pytest.raises(SpecError, match=message):
        encoders.load(spec)


@pytest.mark.parametrize("shape", [(44_100,), (1, 1, 44_100), (1, 2047), (1, 0)])
def test_waveforms_it_cannot_take_are_refused(shape):
    with pytest.raises(AudioError, match=r"logmel\?.*(shape|at least 2048 samples)"):
        encoders.load("logmel")(torch.zeros(shape))


def test_the_policy_fills_short_clips():
    encoder = encoders.load("mfcc?deltas=true")
    filled = encoder.policy.prepare(np.ones(10, np.float32), encoder.sample_rate)
    assert len(filled) == encoder.min_samples == 8 * 512
    assert encoder(torch.from_numpy(filled)[None]).shape == (1, 9, 60)


def test_doubling_the_amplitude_adds_six_decibels(sounds):
    encoder = encoders.load("logmel")
    clip = torch.from_numpy(sounds["noise"])[None]
    torch.testing.assert_close(
        encoder(clip) - encoder(clip / 2), torch.full((1, 87, 64), 20 * np.log10(2)), atol=1e-4, rtol=0
    )


def test_levels_keep_the_clips_loudness_and_time():
    clip = torch.zeros(1, 44_100)
    clip[0, 22_050] = 1.0
    frames = encoders.load("logmel")(clip)[0]
    assert frames.max(1).values.argmax() == 22_050 // 512
    assert (frames[:20] == frontends.decibels(torch.tensor(0.0))).all()
