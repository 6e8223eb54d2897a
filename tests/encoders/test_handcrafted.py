from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import librosa
import numpy as np
import pytest
import torch
from librosa import feature

from soundmark import encoders
from soundmark.errors import SpecError

RATE = 44_100


def without_top_db(describe: Callable[[], np.ndarray]) -> np.ndarray:
    """librosa's contrast cuts levels 80 dB below the peak and offers no way out; we do not cut."""
    with mock.patch("librosa.feature.spectral.power_to_db", lambda power: librosa.power_to_db(power, top_db=None)):
        return describe()


def cepstrum(clip):
    levels = librosa.power_to_db(feature.melspectrogram(y=clip, sr=RATE), top_db=None)
    coefficients = feature.mfcc(S=levels)
    return np.concatenate([coefficients, feature.delta(coefficients), feature.delta(coefficients, order=2)])


REFERENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "zero-crossing rate": feature.zero_crossing_rate,
    "rms": lambda clip: feature.rms(y=clip),
    "spectral centroid": lambda clip: feature.spectral_centroid(y=clip, sr=RATE),
    "spectral bandwidth": lambda clip: feature.spectral_bandwidth(y=clip, sr=RATE),
    "spectral roll-off": lambda clip: feature.spectral_rolloff(y=clip, sr=RATE),
    "spectral flatness": lambda clip: feature.spectral_flatness(y=clip),
    "spectral contrast": lambda clip: without_top_db(lambda: feature.spectral_contrast(y=clip, sr=RATE)),
    "chroma": lambda clip: feature.chroma_stft(y=clip, sr=RATE, tuning=0),
    "mfcc": cepstrum,
}
ROLLOFF = "spectral roll-off"


@pytest.fixture(scope="module")
def encoder():
    return encoders.load("handcrafted")


def columns(encoder, name):
    return [index for index, feature_name in enumerate(encoder.feature_names) if feature_name.startswith(name)]


def check_parity(encoder, clips, relative):
    for clip_name, clip in clips.items():
        frames = encoder(torch.from_numpy(clip)[None])[0].numpy().T
        for name, describe in REFERENCES.items():
            ours, theirs = frames[columns(encoder, name)], describe(clip)
            if name == ROLLOFF:
                assert np.abs(ours - theirs).max() <= 1.001 * RATE / 2048, clip_name
            else:
                assert relative(ours, theirs) < 1e-5, (clip_name, name)


def test_parity_on_synthesised_sounds(encoder, sounds, relative):
    check_parity(encoder, sounds, relative)


@pytest.mark.data
def test_parity_on_real_sounds(encoder, real_sounds, relative):
    check_parity(encoder, dict(list(real_sounds.items())[::2]), relative)


def test_what_a_frame_holds(encoder):
    counts = {name: len(columns(encoder, name)) for name in [*REFERENCES, "tempo"]}
    assert counts == dict.fromkeys(REFERENCES, 1) | {"spectral contrast": 7, "chroma": 12, "mfcc": 60, "tempo": 1}
    assert sum(counts.values()) == encoder.dim == 86


def test_silence_is_finite_and_quiet(encoder):
    frames = encoder(torch.zeros(1, RATE))[0]
    assert torch.isfinite(frames).all()
    silent = [
        *columns(encoder, "zero"),
        *columns(encoder, "rms"),
        *columns(encoder, "spectral c"),
        *columns(encoder, "chroma"),
    ]
    assert not frames[:, silent].any()
    assert (frames[:, columns(encoder, "spectral flatness")] > 0.999).all()


def test_other_frames_and_rates(relative):
    encoder = encoders.load("handcrafted?rate=16000&window=1000&hop=250&bands=40&coefficients=13")
    rng = np.random.default_rng(0)
    clip = rng.standard_normal(16_000).astype(np.float32) * 0.1
    frames = encoder(torch.from_numpy(clip)[None])[0].numpy().T
    lengths = {"hop_length": 250}
    theirs = {
        "zero-crossing rate": feature.zero_crossing_rate(clip, frame_length=1000, **lengths),
        "rms": feature.rms(y=clip, frame_length=1000, **lengths),
        "spectral bandwidth": feature.spectral_bandwidth(y=clip, sr=16_000, n_fft=1000, **lengths),
        "spectral flatness": feature.spectral_flatness(y=clip, n_fft=1000, **lengths),
    }
    for name, expected in theirs.items():
        assert relative(frames[columns(encoder, name)], expected) < 1e-5, name
    # librosa refuses octaves beyond half the rate; ours leaves them out.
    contrast = without_top_db(lambda: feature.spectral_contrast(y=clip, sr=16_000, n_fft=1000, **lengths))
    assert relative(frames[columns(encoder, "spectral contrast")], contrast) < 1e-5


def test_low_rates_have_fewer_octaves():
    encoder = encoders.load("handcrafted?rate=4000&window=512&hop=128&bands=32")
    names = [name for name in encoder.feature_names if name.startswith("spectral contrast")]
    assert names[0] == "spectral contrast 0-200 Hz"
    assert names[-1] == "spectral contrast 1600-2000 Hz"
    assert encoder(torch.zeros(1, 8000)).shape == (1, 63, encoder.dim)


def test_a_single_crossing_counts_in_the_frames_that_see_it(encoder):
    clip = torch.full((1, RATE), 0.5)
    clip[0, RATE // 2 :] = -0.5
    rate = encoder(clip)[0, :, 0] * 2048
    assert set(rate.round().int().tolist()) == {0, 1}
    assert int(rate.round().sum()) == 4  # 2048-sample frames every 512


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("handcrafted?window=64&bands=4&coefficients=4", "too short for spectral contrast"),
        (
            "handcrafted?hop=30000",
            "hop of 30000 samples at 44100 Hz is too long to tell a tempo: use one from 44 to 22050",
        ),
        ("handcrafted?hop=40", "too short to tell a tempo"),
        ("handcrafted?coefficients=200", "cannot come from 128 bands"),
    ],
)
def test_settings_that_make_no_sense_are_refused(spec, message):
    with pytest.raises(SpecError, match=message):
        encoders.load(spec)
