"""Tempo of a clip: the strongest period of its onsets, as librosa's `feature.tempo` finds it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark import frontends
from soundmark.errors import SpecError

MEMORY_SECONDS = 8.0
"""How far back the onsets are compared with themselves."""

_START_BPM, _MAX_BPM = 120.0, 320.0
_RANGE_DB = 80.0
_LONGEST = 8192  # frames of memory beyond which the autocorrelation of every frame no longer fits


class Tempo(nn.Module):
    """One tempo per clip, in beats per minute.

    Onset strength is the mean rise of the mel levels from frame to frame (levels 80 dB below the clip's loudest are
    cut). Its autocorrelation under a sliding 8-s Hann window, normalised in each and averaged over all, is weighted by
    a log-normal prior around 120 BPM (one octave wide), and the best lag below 320 BPM wins.

    Sources: Ellis, "Beat tracking by dynamic programming" (2007); Grosche, Müller and Kurth, "Cyclic tempogram"
    (2010); at the defaults of librosa 0.11.

    Args:
        rate: Hz.
        window, hop: samples, of the mel spectrogram it is given.

    Raises:
        SpecError: if the frames are too coarse or too fine to tell a tempo.
    """

    ramp: Tensor
    beats: Tensor
    prior: Tensor

    def __init__(self, rate: int, window: int, hop: int) -> None:
        super().__init__()
        self.memory = int(MEMORY_SECONDS * rate) // hop
        if not 16 <= self.memory <= _LONGEST:
            fault = "long" if self.memory < 16 else "short"
            raise SpecError(
                f"a hop of {hop} samples at {rate} Hz is too {fault} to tell a tempo: "
                f"use one from {int(MEMORY_SECONDS * rate) // _LONGEST + 1} to {int(MEMORY_SECONDS * rate) // 16}"
            )
        self.delay = 1 + window // (2 * hop)
        self.length = 1 << (2 * self.memory - 1).bit_length()  # no lag wraps around, and powers of two are quickest
        beats = 60.0 * rate / (hop * np.arange(1, self.memory, dtype=np.float64))
        self.first_lag = 1 + int(np.argmax(beats < _MAX_BPM))
        beats = beats[self.first_lag - 1 :]
        prior = -0.5 * np.log2(beats / _START_BPM) ** 2
        half = self.memory // 2
        # In double precision: a clip with one event has no period, and there single precision's noise would pick one.
        self.spectra = frontends.PowerSpectrogram(self.memory, 1, length=self.length, pad_mode="none", precise=True)
        self.register_buffer("ramp", (torch.arange(half, 0, -1) - 1) / half, persistent=False)
        self.register_buffer("beats", torch.from_numpy(beats.astype(np.float32)), persistent=False)
        self.register_buffer("prior", torch.from_numpy(prior.astype(np.float32)), persistent=False)

    @property
    def min_frames(self) -> int:
        """Fewest frames it takes."""
        return self.delay + 1

    def forward(self, mel: Tensor) -> Tensor:
        """Tempo of (batch, frames, bands) mel power: (batch,)."""
        strength = self.autocorrelation(self.onsets(mel))[:, self.first_lag :]
        return self.beats[torch.argmax(torch.log1p(1e6 * strength) + self.prior, dim=1)]

    def onsets(self, mel: Tensor) -> Tensor:
        """Onset strength of (batch, frames, bands) mel power: (batch, frames); librosa's `onset.onset_strength`."""
        levels = frontends.decibels(mel)
        levels = torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - _RANGE_DB)
        rise = (levels[:, 1:] - levels[:, :-1]).clamp_min(0.0).mean(-1)
        # A frame hears an onset half a window before its centre reaches it.
        late = self.delay - 1
        return functional.pad(rise[:, :-late] if late else rise, (self.delay, 0))

    def autocorrelation(self, onsets: Tensor) -> Tensor:
        """Normalised local autocorrelation, averaged over time: (batch, lags from 0 up to 8 s).

        The mean of what librosa's `feature.tempogram` gives in every frame. Transforms are linear, so averaging the
        normalised power spectra first leaves one transform back instead of one per frame.
        """
        # Windows are centred; beyond the ends the onsets fade out linearly, and the transform is longer still.
        spare = self.length - self.memory
        left = onsets[:, :1] * self.ramp.flip(0)
        right = onsets[:, -1:] * (self.ramp if self.memory % 2 else self.ramp[:-1])
        extended = functional.pad(torch.cat([left, onsets, right], dim=1), (spare // 2, spare - spare // 2))
        sums = self.spectra.map(extended.double(), self._normalised_sum).sum(1)
        # The spectrum is real and even, so that the transform back is the same as forth.
        whole = torch.cat([sums, sums[:, 1:-1].flip(1)], dim=1)
        lags = torch.view_as_real(torch.fft.rfft(whole))[..., 0]
        return (lags[:, : self.memory] / onsets.shape[1]).clamp_min(0.0).to(onsets.dtype)

    @staticmethod
    def _normalised_sum(power: Tensor) -> Tensor:
        """Sum over frames of their power spectra, each scaled to an autocorrelation of 1 at lag 0: (batch, 1, bins)."""
        energy = 2.0 * power.sum(-1) - power[..., 0] - power[..., -1]
        return (1.0 / energy.clamp_min(1e-20)).unsqueeze(1) @ power
