"""Handcrafted descriptors: what people measured in sounds before they learnt to learn it, at librosa's definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark import frontends
from soundmark.encoders.rhythm import Tempo
from soundmark.encoders.spectral import COMMON, DELTA_WIDTH, Cepstrum, SpectralEncoder, mel_filterbank, read_settings
from soundmark.errors import SpecError
from soundmark.spec import Spec

ROLLOFF_SHARE = 0.85
CONTRAST_FMIN, CONTRAST_OCTAVES, CONTRAST_SHARE = 200.0, 6, 0.02
CHROMA_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

_TINY = float(np.finfo(np.float32).tiny)  # what librosa takes for nothing when it normalises
_SILENCE = 1e-10


class Handcrafted(SpectralEncoder):
    """Descriptors of every frame, in librosa's units, over one spectrogram.

    Zero-crossing rate, RMS, spectral centroid, bandwidth, roll-off (85 %) and flatness, contrast, chroma, MFCC with
    deltas and second deltas, and tempo. All are `librosa.feature` at its defaults, `tuning=0` and `top_db=None`, with
    the frames and mel bands of the settings.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        rate, window, hop = settings["rate"], settings["window"], settings["hop"]
        tempo = Tempo(rate, window, hop)
        super().__init__("handcrafted", settings, min_frames=max(DELTA_WIDTH, tempo.min_frames), precise=True)
        self.mel = mel_filterbank(settings)
        self.cepstrum = Cepstrum(settings["bands"], settings["coefficients"], deltas=True)
        self.shape = Shape(rate, window)
        self.contrast = Contrast(rate, window)
        self.chroma = Chroma(rate, window)
        self.tempo = tempo
        self.feature_names = (
            "zero-crossing rate",
            "rms",
            *self.shape.feature_names,
            *self.contrast.feature_names,
            *(f"chroma {name}" for name in CHROMA_NAMES),
            *self.cepstrum.feature_names,
            "tempo",
        )
        self.dim = len(self.feature_names)

    def describe(self, power: Tensor) -> Tensor:
        """The spectrum's shape, contrast and chroma, then coefficients, then the mel bands that tempo needs."""
        magnitude = power.sqrt()
        mel = self.mel(power)
        spectral = [self.shape(magnitude, power), self.contrast(magnitude), self.chroma(power)]
        return torch.cat([*spectral, self.cepstrum.coefficients(mel), mel], dim=-1)

    def finish(self, waveforms: Tensor, rows: Tensor) -> Tensor:
        """All descriptors side by side."""
        mel_bands, coefficients = self.mel.bands, self.cepstrum.cosines.shape[1]
        sizes = [rows.shape[-1] - coefficients - mel_bands, coefficients, mel_bands]
        spectral, cepstral, mel = torch.split(rows, sizes, dim=-1)
        parts = [
            zero_crossing_rate(waveforms, self.window, self.hop).unsqueeze(-1),
            rms(waveforms, self.window, self.hop).unsqueeze(-1),
            spectral,
            self.cepstrum.with_deltas(cepstral),
            # Tempo belongs to the clip, not to a moment of it. Standing in every frame it needs no second kind of
            # output: mean, max and percentiles hand it on as it is, and std says 0.
            self.tempo(mel).reshape(-1, 1, 1).expand(-1, rows.shape[1], 1),
        ]
        return torch.cat(parts, dim=-1)


class Shape(nn.Module):
    """Centroid, bandwidth and roll-off (Hz) of the magnitude spectrum, and flatness of the power spectrum."""

    feature_names = ("spectral centroid", "spectral bandwidth", "spectral roll-off", "spectral flatness")
    frequencies: Tensor

    def __init__(self, rate: int, window: int) -> None:
        super().__init__()
        self.spacing = rate / window
        frequencies = torch.from_numpy(frontends.bin_frequencies(rate, window).astype(np.float32))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, magnitude: Tensor, power: Tensor) -> Tensor:
        """(batch, frames, bins) twice to (batch, frames, 4)."""
        total = magnitude.sum(-1, keepdim=True)
        total = torch.where(total < _TINY, torch.ones_like(total), total)
        centroid = (magnitude @ self.frequencies).unsqueeze(-1) / total
        # Moments about a fixed point would lose a narrow band's width to rounding.
        spread = (magnitude * (self.frequencies - centroid).square()).sum(-1, keepdim=True) / total
        reached = magnitude.cumsum(-1)
        # Every bin before the one that reaches the share, counted, is that bin's number.
        below = (reached < ROLLOFF_SHARE * reached[..., -1:]).to(power.dtype).sum(-1, keepdim=True)
        floored = power.clamp_min(_SILENCE)
        flatness = floored.log().mean(-1, keepdim=True).exp() / floored.mean(-1, keepdim=True)
        return torch.cat([centroid, spread.sqrt(), below * self.spacing, flatness], dim=-1)


class Contrast(nn.Module):
    """Spectral contrast: in each octave band, the level of its highest 2 % of bins over that of its lowest 2 %, dB.

    Source: Jiang et al., "Music type classification by spectral contrast feature" (2002). Bands are 0-200 Hz and the
    six octaves above; where half the rate lies lower, as many as start below it. The last reaches half the rate.

    Raises:
        SpecError: if the window is too short for a band to hold a bin.
    """

    def __init__(self, rate: int, window: int) -> None:
        super().__init__()
        starts = [0.0] + [CONTRAST_FMIN * 2.0**octave for octave in range(CONTRAST_OCTAVES)]
        starts = [start for start in starts if start < rate / 2]
        ends = [*starts[1:], rate / 2]
        self.bands = [_contrast_band(rate, window, starts, number) for number in range(len(starts))]
        self.feature_names = tuple(
            f"spectral contrast {start:.6g}-{end:.6g} Hz" for start, end in zip(starts, ends, strict=True)
        )

    def forward(self, magnitude: Tensor) -> Tensor:
        """(batch, frames, bins) to (batch, frames, bands)."""
        valleys, peaks = [], []
        for low, high, count in self.bands:
            lowest, highest = frontends.extremes(magnitude[..., low:high], count)
            valleys.append(lowest.mean(-1))
            peaks.append(highest.mean(-1))
        return frontends.decibels(torch.stack(peaks, -1)) - frontends.decibels(torch.stack(valleys, -1))


def _contrast_band(rate: int, window: int, starts: list[float], number: int) -> tuple[int, int, int]:
    """First bin, one past the last, and how many bins make a peak or a valley; librosa's rounding to the bin."""
    frequencies = frontends.bin_frequencies(rate, window)
    last = number == len(starts) - 1
    end = rate / 2 if last else max(CONTRAST_FMIN, 2.0 * starts[number])
    inside = np.flatnonzero((frequencies >= starts[number]) & (frequencies <= end))
    if not inside.size:
        raise SpecError(
            f"a window of {window} samples at {rate} Hz is too short for spectral contrast: use a longer one"
        )
    low, high = max(0, int(inside[0]) - (number > 0)), len(frequencies) if last else int(inside[-1]) + 1
    count = max(1, int(np.rint(CONTRAST_SHARE * (high - low))))
    # The highest bin of a band is the lowest of the next, which keeps it.
    high -= not last
    if high - low < count:
        raise SpecError(
            f"a window of {window} samples at {rate} Hz is too short for spectral contrast: use a longer one"
        )
    return low, high, count


class Chroma(nn.Module):
    """Energy of the twelve pitch classes, the strongest of every frame set to 1."""

    def __init__(self, rate: int, window: int) -> None:
        super().__init__()
        self.filterbank = frontends.Filterbank(frontends.chroma_weights(rate, window))

    def forward(self, power: Tensor) -> Tensor:
        """(batch, frames, bins) to (batch, frames, 12)."""
        energy: Tensor = self.filterbank(power)
        strongest = energy.amax(-1, keepdim=True)
        return energy / torch.where(strongest < _TINY, torch.ones_like(strongest), strongest)


def zero_crossing_rate(waveforms: Tensor, window: int, hop: int) -> Tensor:
    """Share of samples in each frame at which the sign changes: (batch, samples) to (batch, frames).

    Samples within 1e-10 of zero are zero, and zero counts as positive. The clip's end values go on beyond its ends.
    """
    negative = waveforms < -_SILENCE
    changes = (negative[:, 1:] ^ negative[:, :-1]).to(waveforms.dtype)
    # The sign before a frame's first sample is not that frame's, so it holds one change less than samples.
    padded = functional.pad(changes, (window // 2, window // 2))
    return frontends.moving_mean(padded, window - 1, hop) * ((window - 1) / window)


def rms(waveforms: Tensor, window: int, hop: int) -> Tensor:
    """Root of the mean square of each frame, with silence beyond the clip: (batch, samples) to (batch, frames)."""
    padded = functional.pad(waveforms.square(), (window // 2, window // 2))
    return frontends.moving_mean(padded, window, hop).sqrt()


def handcrafted(spec: Spec) -> Handcrafted:
    """`handcrafted`: 86 numbers a frame at the defaults, of 128 mel bands and 20 coefficients."""
    return Handcrafted(read_settings(spec, COMMON | {"bands": 128, "coefficients": 20}))
