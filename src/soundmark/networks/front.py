"""Spectrograms as a network's first layer: levels that the layers after it learn from, and the power behind them.

Augmentation mixes, colours and shifts sounds where they add up, which is in power; every front end therefore tells how
its levels and power become each other.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from soundmark.audio import WindowPolicy
from soundmark.errors import SpecError
from soundmark.frontends import Filterbank, PowerSpectrogram, mel_weights
from soundmark.spec import Spec, bounded, take

FLOOR = 1e-5
"""Power added to every band, so that silence is -50 dB and not the depth of rounding noise."""


class Front(nn.Module):
    """Waveforms to levels. Subclasses set the attributes and define the three methods.

    Attributes:
        sample_rate: Hz of the waveforms.
        hop: samples between frames.
        bands: levels in a frame.
        low, high: Hz of the lowest and the highest band's centre.
    """

    sample_rate: int
    hop: int
    bands: int
    low: float
    high: float

    def forward(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) to levels (batch, frames, bands), each frame by itself."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def power(self, levels: Tensor) -> Tensor:
        """Power of levels, of the same shape, not negative."""
        raise NotImplementedError(f"{type(self).__name__} must define power")

    def levels(self, power: Tensor) -> Tensor:
        """Levels of power, of the same shape; the inverse of `power`."""
        raise NotImplementedError(f"{type(self).__name__} must define levels")

    @property
    def key(self) -> str:
        """All that its levels depend on, so that networks with equal front ends share what they hear."""
        said = {name: value for name, value in vars(self).items() if isinstance(value, int | float | str)}
        settings = [f"{name}={value}" for name, value in sorted(said.items()) if name[0] != "_" and name != "training"]
        return " ".join([type(self).__name__, *settings])

    @property
    def frames_per_second(self) -> float:
        """How many frames a second has."""
        return self.sample_rate / self.hop

    def policy(self, *, frames: int = 1, window_seconds: float = 0.0) -> WindowPolicy:
        """A window policy for clips of `frames` frames and more, or of one length."""
        return WindowPolicy(min_seconds=max(frames * self.hop / self.sample_rate, 0.05), window_seconds=window_seconds)


class LogMel(Front):
    """Log-mel levels in dB: `10 log10(power + floor)` of Slaney's mel bands.

    Args:
        rate: Hz.
        window, hop: samples.
        bands: mel bands.
        fmin, fmax: Hz; fmax=0 is half the rate.
        floor: power added to every band.
    """

    def __init__(
        self, rate: int, window: int, hop: int, bands: int, fmin: float = 0.0, fmax: float = 0.0, floor: float = FLOOR
    ) -> None:
        super().__init__()
        self.sample_rate, self.window, self.hop, self.bands, self.floor = rate, window, hop, bands, floor
        self.low, self.high = fmin or rate / window, fmax or rate / 2
        self.spectrogram = PowerSpectrogram(window, hop)
        self.filterbank = Filterbank(mel_weights(rate, window, bands, fmin, fmax or rate / 2))

    def forward(self, waveforms: Tensor) -> Tensor:
        """See `Front.forward`; `1 + samples // hop` frames."""
        return self.spectrogram.map(waveforms, lambda power: self.levels(self.filterbank(power)))

    def power(self, levels: Tensor) -> Tensor:
        """See `Front.power`."""
        return ((levels * (math.log(10.0) / 10.0)).exp() - self.floor).clamp_min(0.0)

    def levels(self, power: Tensor) -> Tensor:
        """See `Front.levels`."""
        return 10.0 * torch.log10(power + self.floor)


LIMITS: dict[str, tuple[float, float]] = {
    "rate": (1000, 384_000),
    "window": (16, 65_536),
    "hop": (1, 65_536),
    "bands": (8, 4096),
}
SETTINGS = {"rate": 22050, "window": 1024, "hop": 441, "bands": 64, "fmin": 0.0, "fmax": 0.0}
"""Of every network that begins with a log-mel spectrogram, and their defaults."""


def take_settings(spec: Spec, own: dict[str, Any], **defaults: Any) -> tuple[LogMel, dict[str, Any]]:
    """The log-mel front end that a network's name asks for, and the network's own settings.

    Args:
        spec: the parsed name.
        own: the network's own settings and their defaults.
        defaults: of the front end, where the network has others than `SETTINGS`.

    Raises:
        SpecError: for a setting that is unknown, mistyped or out of bounds.
    """
    front = SETTINGS | defaults
    given = take(spec, front | own)
    bounded(spec, given, **LIMITS)
    if not 0 <= given["fmin"] < (given["fmax"] or given["rate"] / 2) <= given["rate"] / 2:
        raise SpecError(
            f"fmin={given['fmin']:g} and fmax={given['fmax']:g} in {spec.name!r} do not lie in order from 0 to half "
            f"the rate, {given['rate'] / 2:g} Hz"
        )
    return LogMel(**{key: given[key] for key in front}), {key: given[key] for key in own}
