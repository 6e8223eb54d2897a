"""`densenet121`: every layer hears all those before it.

Source: Huang, Liu, van der Maaten, Weinberger: "Densely connected convolutional networks", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark.networks.base import BandNorm, Network, groups, he_normal, mean_and_peak
from soundmark.networks.front import take_settings
from soundmark.networks.resnet import stem
from soundmark.spec import Spec, bounded

BLOCKS: dict[str, tuple[int, ...]] = {"densenet121": (6, 12, 24, 16)}
"""Every network by name, with the number of layers in each of its blocks."""

_BOTTLENECK = 4  # times the growth
_REDUCTION = 32  # of a map's size on its way through


class DenseNet(Network):
    """Blocks of layers that append `growth` channels each; between blocks, half the channels and half the size.

    It is as published but for its one input channel and the maximum over time, which short sounds need.

    Args:
        spec: its name; `growth` is the number of channels that each layer adds, `dropout` comes before the head.
        classes: how many.

    Raises:
        SpecError: for a setting that is unknown or out of bounds.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        self.front, own = take_settings(spec, {"growth": 32, "dropout": 0.0}, bands=128)
        bounded(spec, own | {"bands": self.front.bands}, growth=(1, 256), dropout=(0.0, 0.99), bands=(_REDUCTION, 4096))
        self.spec, self.sample_rate, self.dropout = str(spec), self.front.sample_rate, own["dropout"]
        self.policy = self.front.policy(frames=_REDUCTION)
        self.norm = BandNorm(self.front.bands)
        growth: int = own["growth"]
        channels = 2 * growth
        self.stem = stem(channels, size=7, stride=2, pooled=True)
        self.blocks = nn.ModuleList()
        for place, count in enumerate(BLOCKS[spec.name]):
            block = nn.Sequential()
            if place:
                block.append(_transition(channels))
                channels //= 2
            block.extend(Layer(channels + growth * i, growth) for i in range(count))
            channels += growth * count
            self.blocks.append(block)
        self.last = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, classes)
        he_normal(self)

    def vectors(self, heard: Tensor) -> Tensor:
        """See `Network.vectors`."""
        maps = self.stem(self.norm(heard).unsqueeze(1))
        for block in self.blocks:
            maps = block(maps)
        return functional.dropout(mean_and_peak(self.last(maps).relu()), self.dropout, self.training)

    def depths(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Network.depths`."""
        *early, deepest = self.blocks
        return groups(nn.ModuleList([self.norm, self.stem]), *early, nn.ModuleList([deepest, self.last]))


class Layer(nn.Module):
    """Norm, ReLU and convolution twice: 1 x 1 to a bottleneck and 3 x 3 to `growth` channels."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        between = _BOTTLENECK * growth
        self.added = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, between, 1, bias=False),
            nn.BatchNorm2d(between),
            nn.ReLU(inplace=True),
            nn.Conv2d(between, growth, 3, padding=1, bias=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, inputs, frames, bands) to (batch, inputs + growth, frames, bands)."""
        return torch.cat([maps, self.added(maps)], 1)


def _transition(channels: int) -> nn.Sequential:
    """Half the channels, half the size."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels // 2, 1, bias=False),
        nn.AvgPool2d(2),
    )
