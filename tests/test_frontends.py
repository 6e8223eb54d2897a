from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from soundmark import frontends
from soundmark.errors import SpecError
from soundmark.frontends import Filterbank, PowerSpectrogram

NOISE = 0.3 * torch.randn(3, 20_000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("window", [2048, 1000, 511])
@pytest.mark.parametrize("precise", [False, True])
def test_power_is_librosas(window, precise):
    ours = PowerSpectrogram(window, 300, precise=precise)(NOISE[:1])[0].T.numpy()
    theirs = np.abs(librosa.stft(NOISE[0].numpy(), n_fft=window, hop_length=300)) ** 2
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * theirs.max())


def test_reflected_and_longer_transforms_are_librosas():
    ours = PowerSpectrogram(800, 320, length=1024, pad_mode="reflect")(NOISE[:1])[0].T.numpy()
    theirs = np.abs(librosa.stft(NOISE[0].numpy(), n_fft=1024, win_length=800, hop_length=320, pad_mode="reflect")) ** 2
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * theirs.max())


def test_without_padding_frames_lie_within_the_clip():
    power = PowerSpectrogram(512, 100, pad_mode="none")(NOISE)
    assert power.shape == (3, 1 + (20_000 - 512) // 100, 257)


@pytest.mark.parametrize("samples", [1, 511, 512, 5120, 5121])
def test_number_of_frames(samples):
    power = PowerSpectrogram(1024, 512)(NOISE[:, :samples])
    assert power.shape == (3, 1 + samples // 512, 513)


@pytest.mark.parametrize("block", [1, 1 << 15, 1 << 18, 1 << 24])
@pytest.mark.parametrize("clips", [1, 3])
def test_blocks_change_nothing(monkeypatch, block, clips):
    monkeypatch.setattr(frontends, "_BLOCK_BYTES", block)
    spectrogram = PowerSpectrogram(1024, 256)
    whole = spectrogram(NOISE[:clips])
    assert torch.equal(spectrogram.map(NOISE[:clips], lambda power: power), whole)
    summed = spectrogram.map(NOISE[:clips], lambda power: power.sum(1, keepdim=True)).sum(1)
    torch.testing.assert_close(summed, whole.sum(1))


def test_gradients_pass_through_to_the_waveform():
    waveforms = NOISE.clone().requires_grad_()
    PowerSpectrogram(1024, 256).map(waveforms, lambda power: power).sum().backward()
    assert waveforms.grad is not None
    assert waveforms.grad.abs().sum() > 0


def test_double_precision_sees_into_spectral_holes():
    time = np.arange(44_100) / 44_100
    tone = torch.from_numpy((0.9 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32))[None]
    inner = slice(10, -10)  # the tone's ends are clicks, which fill every bin
    rough = PowerSpectrogram(2048, 512)(tone)[0, inner, 800:].mean()
    fine = PowerSpectrogram(2048, 512, precise=True)(tone)[0, inner, 800:].mean()
    assert fine < rough / 10


@pytest.mark.parametrize("bands", [1, 15, 16, 17, 64, 100])
def test_filterbank_is_the_full_product(bands):
    weights = torch.from_numpy(librosa.filters.mel(sr=44_100, n_fft=4096, n_mels=bands))
    power = PowerSpectrogram(4096, 1024)(NOISE)
    got = Filterbank(weights)(power)
    assert got.shape == (3, power.shape[1], bands)
    torch.testing.assert_close(got, power @ weights.T, rtol=1e-5, atol=1e-7)


def test_decibels_are_librosas():
    power = torch.tensor([0.0, 1e-12, 1e-10, 0.5, 1.0, 1e4])
    theirs = librosa.power_to_db(power.numpy(), top_db=None)
    np.testing.assert_allclose(frontends.decibels(power).numpy(), theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("rate", "window", "bands", "fmin", "fmax"),
    [(32_000, 1024, 64, 50.0, 14_000.0), (44_100, 2048, 128, 0.0, 22_050.0), (16_000, 401, 20, 1000.0, 8000.0)],
)
def test_mel_weights_are_librosas(rate, window, bands, fmin, fmax):
    ours = frontends.mel_weights(rate, window, bands, fmin, fmax)
    theirs = librosa.filters.mel(sr=rate, n_fft=window, n_mels=bands, fmin=fmin, fmax=fmax)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-9)
    centres = librosa.mel_frequencies(n_mels=bands + 2, fmin=fmin, fmax=fmax)
    np.testing.assert_allclose(frontends.mel_frequencies(bands, fmin, fmax), centres, rtol=1e-12)


def test_a_mel_band_that_hears_nothing_is_refused():
    with pytest.raises(SpecError, match=r"narrower than the bins.*fewer bands or a longer window"):
        frontends.mel_weights(44_100, 512, 128, 0.0, 22_050.0)


def test_log_frequency_weights_as_defined():
    rate, window, fmin, per_octave = 22_050, 1024, 55.0, 12
    ours = frontends.log_frequency_weights(rate, window, 60, fmin, rate / 2, per_octave).numpy()
    spacing = rate / window
    theirs = np.zeros((60, window // 2 + 1))
    for band in range(60):
        before, centre, after = (fmin * 2 ** ((band + step) / per_octave) for step in (-1, 0, 1))
        before, after = min(before, centre - spacing), max(after, centre + spacing)
        theirs[band] = np.interp(np.arange(513) * spacing, [before, centre, after], [0, 1, 0])
        theirs[band] /= theirs[band].sum()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


def test_log_frequency_bands_fill_the_range_when_not_counted():
    centres = frontends.log_frequencies(44_100, 0, 32.7, 22_050.0, 12)
    assert len(centres) == 112
    assert centres[-1] * 2 ** (1 / 12) <= 22_050 < centres[-1] * 2 ** (2 / 12)
    octaves = frontends.log_frequencies(44_100, 0, 100.0, 800.0, 1)
    np.testing.assert_allclose(octaves, [100, 200, 400])


def test_log_frequency_bands_beyond_the_range_are_refused():
    with pytest.raises(SpecError, match="at most bands=36"):
        frontends.log_frequencies(16_000, 84, 1000.0, 8000.0, 12)


def test_linear_weights_average_runs_of_bins():
    weights = frontends.linear_weights(8000, 16, 4, 0.0, 4000.0).numpy()
    assert weights.shape == (4, 9)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert (weights > 0).sum(0).tolist() == [1] * 9  # every bin once
    assert sorted((weights > 0).sum(1)) == [2, 2, 2, 3]


def test_linear_weights_keep_to_the_range():
    weights = frontends.linear_weights(8000, 16, 0, 1000.0, 2000.0).numpy()
    np.testing.assert_array_equal(weights, np.eye(9, dtype=np.float32)[2:5])


@pytest.mark.parametrize(("bands", "fmin", "message"), [(10, 0.0, "10 bands do not fit 9 bins"), (0, 3999.0, None)])
def test_linear_weights_refuse_what_does_not_fit(bands, fmin, message):
    if message is None:
        assert frontends.linear_weights(8000, 16, bands, fmin, 4000.0).shape == (1, 9)
        return
    with pytest.raises(SpecError, match=message):
        frontends.linear_weights(8000, 16, bands, fmin, 4000.0)


def test_no_bin_in_range_is_refused():
    with pytest.raises(SpecError, match="no bin"):
        frontends.linear_range(8000, 16, 1100.0, 1400.0)


@pytest.mark.parametrize(("rate", "window"), [(44_100, 2048), (16_000, 401), (8000, 512)])
def test_chroma_weights_are_librosas(rate, window):
    theirs = librosa.filters.chroma(sr=rate, n_fft=window, tuning=0.0)
    np.testing.assert_allclose(frontends.chroma_weights(rate, window), theirs, rtol=1e-5, atol=1e-9)


def test_cosine_weights_are_the_orthonormal_transform():
    weights = frontends.cosine_weights(40, 40).numpy()
    np.testing.assert_allclose(weights.T @ weights, np.eye(40), atol=1e-5)


def test_moving_mean():
    means = frontends.moving_mean(NOISE, 100, 40)
    np.testing.assert_allclose(means[1, 7], NOISE[1, 280:380].mean(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("grad", [False, True])
def test_ascending_and_extremes(grad):
    rows = NOISE[:, :50].reshape(3, 5, 10).requires_grad_(grad)
    theirs = np.sort(rows.detach().numpy(), axis=-1)
    np.testing.assert_array_equal(frontends.ascending(rows).detach(), theirs)
    lowest, highest = frontends.extremes(rows, 3)
    np.testing.assert_array_equal(np.sort(lowest.detach()), theirs[..., :3])
    np.testing.assert_array_equal(np.sort(highest.detach()), theirs[..., -3:])
