"""Spectral encoders: power spectrograms on linear, logarithmic and mel frequency scales, and cepstral coefficients.

All of them share one set of settings: `rate` (Hz), `window` and `hop` (samples), `bands`, `fmin` and `fmax` (Hz;
`fmax=0` is half the rate). Levels are in dB of power, `10 log10(max(x, 1e-10))`, relative to full scale, so that a
clip's loudness stays in its frames; `ref=max` makes them relative to the clip's loudest band, and `top_db=80` lets none
reach further than that under it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soundmark import frontends
from soundmark.encoders.base import Encoder
from soundmark.errors import SpecError
from soundmark.spec import Spec, bounded, take, written

COMMON = {"rate": 44100, "window": 2048, "hop": 512, "bands": 64, "fmin": 0.0, "fmax": 0.0}
# What librosa's `power_to_db` calls so: levels relative to full scale (1) or to the clip's loudest band (max), and how
# far under the loudest they may reach (0: as far as they go).
LEVELS = {"ref": "1", "top_db": 0.0}
# Double precision, where nothing but rounding noise lies beside pure tones: synthetic sounds. Recordings need it not.
PRECISE = {"precise": False}
_LIMITS: dict[str, tuple[float, float]] = {
    "rate": (1000, 384_000),
    "window": (16, 65_536),
    "hop": (1, 65_536),
    "bands": (0, 4096),
    "coefficients": (1, 4096),
    "octave": (1, 96),
}

DELTA_WIDTH = 9
"""Frames that a delta looks at, librosa's default."""


class SpectralEncoder(Encoder):
    """An encoder that reads the power spectrogram, so that encoders joined over one spectrogram compute it once.

    Args:
        name: its name in the grammar.
        settings: every setting of it, converted.
        min_frames: fewest frames it can describe.
        precise: whether the spectrogram is transformed in double precision.
    """

    rounds_up = True  # the first frame stands on the first sample, and one more on every whole hop
    centred_on = 0.0

    def __init__(self, name: str, settings: Mapping[str, Any], *, min_frames: int = 1, precise: bool = False) -> None:
        super().__init__()
        self.spec = str(Spec(name, settings={key: written(value) for key, value in settings.items()}))
        self.sample_rate = settings["rate"]
        self.window, self.hop = settings["window"], settings["hop"]
        self.hop_seconds = self.hop / self.sample_rate
        # A clip shorter than the window would be mostly the silence around it.
        self.min_seconds = max(self.window, (min_frames - 1) * self.hop + self.window % 2) / self.sample_rate
        self.spectrogram = frontends.PowerSpectrogram(self.window, self.hop, precise=precise)

    def encode(self, waveforms: Tensor) -> Tensor:
        """Frames of (batch, samples) waveforms: (batch, frames, dim)."""
        self.require_input(waveforms)
        return self.finish(waveforms, self.spectrogram.map(waveforms, self.describe))

    def describe(self, power: Tensor) -> Tensor:
        """What each frame says by itself: (batch, frames, bins) power to (batch, frames, size) rows."""
        raise NotImplementedError(f"{type(self).__name__} must define describe")

    def finish(self, waveforms: Tensor, rows: Tensor) -> Tensor:
        """Frames from the rows of the whole clip, where they need their neighbours or the waveform."""
        return rows


class BandLevels(SpectralEncoder):
    """Level in dB of the bands of a filterbank.

    Args:
        name, settings: see `SpectralEncoder`.
        weights: (bands, bins) of the filterbank, or the range of bins that are bands themselves.
        centres: Hz of every band, for the names.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], weights: Tensor | slice, centres: np.ndarray) -> None:
        # A mel band averages many bins over the noise of single precision; a single bin is at its mercy.
        super().__init__(name, settings, precise=settings.get("precise", True))
        self.to_loudest, self.top_db = settings["ref"] == "max", settings["top_db"]
        self.bins = weights if isinstance(weights, slice) else slice(None)
        self.filterbank = nn.Identity() if isinstance(weights, slice) else frontends.Filterbank(weights)
        self.dim = len(centres)
        self.feature_names = tuple(f"{name} {centre:.6g} Hz" for centre in centres)

    def describe(self, power: Tensor) -> Tensor:
        """Levels of the bands, dB."""
        bands: Tensor = self.filterbank(power[..., self.bins])
        return frontends.decibels(bands)

    def finish(self, waveforms: Tensor, rows: Tensor) -> Tensor:
        """Levels relative to the clip's loudest, and no lower than `top_db` under it, where asked."""
        return frontends.relative(rows, to_loudest=self.to_loudest, top_db=self.top_db)


class Mfcc(SpectralEncoder):
    """Mel-frequency cepstral coefficients: librosa's `feature.mfcc` with `top_db=None`, and their deltas if asked."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(
            "mfcc", settings, min_frames=DELTA_WIDTH if settings["deltas"] else 1, precise=settings["precise"]
        )
        self.filterbank = mel_filterbank(settings)
        self.cepstrum = Cepstrum(settings["bands"], settings["coefficients"], settings["deltas"])
        self.feature_names = self.cepstrum.feature_names
        self.dim = len(self.feature_names)

    def describe(self, power: Tensor) -> Tensor:
        """Coefficients."""
        return self.cepstrum.coefficients(self.filterbank(power))

    def finish(self, waveforms: Tensor, rows: Tensor) -> Tensor:
        """Coefficients, then deltas, then second deltas."""
        return self.cepstrum.with_deltas(rows)


class Cepstrum(nn.Module):
    """Cosine transform of mel levels, with deltas and second deltas over time where asked.

    Args:
        bands: mel bands it takes.
        coefficients: how many it keeps, from the zeroth on.
        deltas: whether to add first and second derivatives (`feature.delta`, width 9, `mode="interp"`).

    Raises:
        SpecError: if there are more coefficients than bands.
    """

    cosines: Tensor
    slopes: Tensor

    def __init__(self, bands: int, coefficients: int, deltas: bool) -> None:
        super().__init__()
        if coefficients > bands:
            raise SpecError(f"{coefficients} coefficients cannot come from {bands} bands: use more bands")
        self.deltas = deltas
        self.register_buffer("cosines", frontends.cosine_weights(bands, coefficients), persistent=False)
        self.register_buffer("slopes", _savitzky_golay(), persistent=False)
        kinds = ("mfcc", "mfcc delta", "mfcc delta2") if deltas else ("mfcc",)
        self.feature_names = tuple(f"{kind} {index}" for kind in kinds for index in range(coefficients))

    def forward(self, bands: Tensor) -> Tensor:
        """(batch, frames, bands) power to (batch, frames, coefficients, three times as many with deltas)."""
        return self.with_deltas(self.coefficients(bands))

    def coefficients(self, bands: Tensor) -> Tensor:
        """(batch, frames, bands) power to (batch, frames, coefficients), each frame by itself."""
        return frontends.decibels(bands) @ self.cosines

    def with_deltas(self, coefficients: Tensor) -> Tensor:
        """Coefficients of whole clips, with their derivatives where asked."""
        if not self.deltas:
            return coefficients
        # (batch, 2, frames - 8, coefficients): both derivatives in one pass down the frames.
        inner = nn.functional.conv2d(coefficients.unsqueeze(1), self.slopes)
        # A line fitted to the first nine frames has one slope in all of them, and a parabola one curvature, so what
        # savgol_filter's "interp" gives at the edges is the nearest inner value, exactly.
        side = DELTA_WIDTH // 2
        batch, kinds, _, size = inner.shape
        first = inner[:, :, :1].expand(batch, kinds, side, size)
        last = inner[:, :, -1:].expand(batch, kinds, side, size)
        derivatives = torch.cat([first, inner, last], dim=2)
        return torch.cat([coefficients, derivatives[:, 0], derivatives[:, 1]], dim=-1)


def linear(spec: Spec) -> BandLevels:
    """`linear`: levels of bands of equal width (each the mean power of its bins); `bands=0` keeps every bin."""
    settings = read_settings(spec, COMMON | {"bands": 128} | LEVELS)
    rate, window, fmin, fmax = (settings[key] for key in ("rate", "window", "fmin", "fmax"))
    frequencies = frontends.bin_frequencies(rate, window)
    top = fmax or rate / 2
    if settings["bands"] == 0:
        bins = slice(*frontends.linear_range(rate, window, fmin, top))
        return BandLevels("linear", settings, bins, frequencies[bins])
    weights = frontends.linear_weights(rate, window, settings["bands"], fmin, top)
    return BandLevels("linear", settings, weights, weights.numpy() @ frequencies)


def logfreq(spec: Spec) -> BandLevels:
    """`logfreq`: levels of `octave` bands per octave from `fmin` (C1) up; `bands=0` takes all that fit below `fmax`.

    Each is the weighted mean of the power under a triangle; see `frontends.log_frequency_weights`.
    """
    settings = read_settings(spec, COMMON | {"bands": 0, "fmin": 32.7, "octave": 12} | LEVELS)
    arguments = [settings["bands"], settings["fmin"], settings["fmax"] or settings["rate"] / 2, settings["octave"]]
    if not settings["fmin"]:
        raise SpecError("logfreq starts from fmin, which must lie above 0 Hz: give one, such as fmin=32.7")
    weights = frontends.log_frequency_weights(settings["rate"], settings["window"], *arguments)
    centres = frontends.log_frequencies(settings["rate"], *arguments)
    return BandLevels("logfreq", settings, weights, centres)


def logmel(spec: Spec) -> BandLevels:
    """`logmel`: levels of Slaney's mel bands; librosa's `power_to_db(melspectrogram(...), top_db=None)`."""
    settings = read_settings(spec, COMMON | LEVELS | PRECISE)
    fmin, fmax = settings["fmin"], settings["fmax"] or settings["rate"] / 2
    centres = frontends.mel_frequencies(settings["bands"], fmin, fmax)[1:-1]
    return BandLevels("logmel", settings, mel_weights_of(settings), centres)


def mfcc(spec: Spec) -> Mfcc:
    """`mfcc`: cepstral coefficients of 128 mel bands, librosa's own number; `deltas=true` adds derivatives."""
    return Mfcc(read_settings(spec, COMMON | PRECISE | {"bands": 128, "coefficients": 20, "deltas": False}))


def read_settings(spec: Spec, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a spectral encoder, each within its bounds.

    Raises:
        SpecError: for a setting that is unknown, malformed or out of bounds; and for a view or a layer.
    """
    if spec.view or spec.layer:
        raise SpecError(f"{spec.name!r} has neither views nor layers: write {spec.name} or {spec.name}?setting=value")
    settings = take(spec, defaults)
    if settings.get("ref", "1") not in ("1", "max"):
        raise SpecError(
            f"ref={settings['ref']} in {spec.name!r}: it is 1 (full scale) or max (the clip's loudest band)"
        )
    limits = {key: _LIMITS.get(key, (0.0, settings["rate"] / 2)) for key in settings if key != "ref"}
    if "bands" in limits and defaults["bands"] == COMMON["bands"]:
        limits["bands"] = (1, limits["bands"][1])
    bounded(spec, settings, **limits)
    if settings["fmin"] >= (settings["fmax"] or settings["rate"] / 2):
        raise SpecError(f"fmin={settings['fmin']:g} in {spec.name!r} leaves no band: it must lie below fmax")
    return settings


def mel_weights_of(settings: Mapping[str, Any]) -> Tensor:
    """The (bands, bins) mel filterbank that some settings ask for."""
    fmax = settings["fmax"] or settings["rate"] / 2
    return frontends.mel_weights(settings["rate"], settings["window"], settings["bands"], settings["fmin"], fmax)


def mel_filterbank(settings: Mapping[str, Any]) -> frontends.Filterbank:
    """`mel_weights_of` as a module."""
    return frontends.Filterbank(mel_weights_of(settings))


def _savitzky_golay() -> Tensor:
    """Slope of a line and curvature of a parabola fitted to nine frames, as (2, 1, 9, 1) kernels."""
    place = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    slope = np.linalg.pinv(np.vander(place, 2, increasing=True))[1]
    curvature = 2.0 * np.linalg.pinv(np.vander(place, 3, increasing=True))[2]
    return torch.from_numpy(np.stack([slope, curvature]).astype(np.float32)).reshape(2, 1, DELTA_WIDTH, 1)
