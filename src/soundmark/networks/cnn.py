"""`cnn`: a small convolutional network on a log-mel spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from soundmark.networks.base import BandNorm, Network, groups, mean_and_peak
from soundmark.networks.front import take_settings
from soundmark.spec import Spec, bounded

_REDUCTION = 16  # of a map's size on its way through


class Cnn(Network):
    """Four stages of 3 x 3 convolutions, each halving time and frequency; mean and maximum over time; linear.

    Args:
        spec: its name; `width` is the number of channels of the first stage, `dropout` comes before the head.
        classes: how many.

    Raises:
        SpecError: for a setting that is unknown or out of bounds.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        self.front, own = take_settings(spec, {"width": 24, "dropout": 0.2})
        bounded(spec, own | {"bands": self.front.bands}, width=(1, 1024), dropout=(0.0, 0.99), bands=(_REDUCTION, 4096))
        width, self.dropout = own["width"], own["dropout"]
        self.spec, self.sample_rate = str(spec), self.front.sample_rate
        self.policy = self.front.policy(frames=_REDUCTION)
        self.norm = BandNorm(self.front.bands)
        sizes = [1, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(*_normed(inputs, outputs), *(_normed(outputs, outputs) if place else ()))
            for place, (inputs, outputs) in enumerate(pairwise(sizes))
        )
        self.head = nn.Linear(sizes[-1], classes)

    def vectors(self, heard: Tensor) -> Tensor:
        """See `Network.vectors`."""
        maps = self.norm(heard).unsqueeze(1)
        for stage in self.stages:
            maps = functional.avg_pool2d(stage(maps), 2)
        return functional.dropout(mean_and_peak(maps), self.dropout, self.training)

    def depths(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Network.depths`."""
        return groups(self.norm, *self.stages)


def _normed(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
