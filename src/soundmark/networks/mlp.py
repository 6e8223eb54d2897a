"""`mlp`: two fully connected layers on a flattened log-mel spectrogram, the plainest network there is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark.audio.waveforms import samples_of
from soundmark.errors import AudioError, SpecError
from soundmark.networks.base import BandNorm, Network, groups
from soundmark.networks.front import take_settings
from soundmark.spec import Spec, bounded

MOST_WEIGHTS = 1 << 28


class Mlp(Network):
    """One hidden layer with a ReLU, dropout, and the head. It hears clips of one length only.

    At its defaults a clip of 5 s is a spectrogram of 128 bands and 431 frames.

    Args:
        spec: its name; `seconds` is the length of a clip, `hidden` the size of the layer between, `dropout` comes
            before the head.
        classes: how many.

    Raises:
        SpecError: for a setting that is unknown or out of bounds.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        defaults = {"seconds": 5.0, "hidden": 256, "dropout": 0.5}
        self.front, own = take_settings(spec, defaults, window=1024, hop=256, bands=128)
        bounded(spec, own, seconds=(0.1, 60.0), hidden=(1, 65_536), dropout=(0.0, 0.99))
        self.spec, self.sample_rate, self.dropout = str(spec), self.front.sample_rate, own["dropout"]
        self.policy = self.front.policy(window_seconds=own["seconds"])
        self.frames = 1 + samples_of(own["seconds"], self.sample_rate) // self.front.hop
        size = self.frames * self.front.bands
        if size * own["hidden"] > MOST_WEIGHTS:
            raise SpecError(
                f"{spec} would have {size * own['hidden']:,} weights: choose fewer seconds, bands or hidden units, "
                "or a longer hop"
            )
        self.norm = BandNorm(self.front.bands)
        self.hidden = nn.Linear(size, own["hidden"])
        self.head = nn.Linear(own["hidden"], classes)

    def vectors(self, heard: Tensor) -> Tensor:
        """See `Network.vectors`.

        Raises:
            AudioError: for another number of frames than it was made for.
        """
        if torch.compiler.is_exporting():
            # A graph's samples are any number, and these are so many of them; the window policy sees to it.
            heard = heard.index_select(1, torch.arange(self.frames, device=heard.device))
        elif heard.shape[1] != self.frames:
            raise AudioError(
                f"{self.spec} hears {self.frames} frames ({self.policy.window_seconds:g} s) at once, not "
                f"{heard.shape[1]}: cut or fill clips first, as its policy does"
            )
        hidden = self.hidden(self.norm(heard).flatten(1)).relu()
        return functional.dropout(hidden, self.dropout, self.training)

    def depths(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Network.depths`."""
        return groups(self.norm, self.hidden)
