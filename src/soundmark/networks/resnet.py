"""`resnet18`: residual learning, on a log-mel spectrogram.

Source: He, Zhang, Ren, Sun: "Deep residual learning for image recognition", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from soundmark.networks.base import BandNorm, Network, groups, he_normal, mean_and_peak
from soundmark.networks.front import take_settings
from soundmark.spec import Spec, bounded

BLOCKS: dict[str, tuple[int, ...]] = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Every network by name, with the number of blocks in each of its stages."""

STEMS = ("large", "small")


class Staged(Network):
    """A stem and stages of residual blocks; mean and maximum over time. Subclasses build `stem` and `stages`.

    Attributes:
        norm, stem, stages: what the levels go through, in this order.
        dropout: share of the vector that is left out in training.
    """

    norm: BandNorm
    stem: nn.Sequential
    stages: nn.ModuleList
    dropout: float

    def vectors(self, heard: Tensor) -> Tensor:
        """See `Network.vectors`."""
        maps = self.stem(self.norm(heard).unsqueeze(1))
        for stage in self.stages:
            maps = stage(maps)
        return functional.dropout(mean_and_peak(maps), self.dropout, self.training)

    def depths(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Network.depths`."""
        return groups(nn.ModuleList([self.norm, self.stem]), *self.stages)


class ResNet(Staged):
    """Stages of residual blocks, each stage of half the size and twice the channels; mean and maximum over time.

    It is as published but for its one input channel and the maximum over time, which short sounds need.

    Args:
        spec: its name; `width` is the number of channels of the first stage, `stem=small` begins with a convolution of
            3 x 3 at full size in place of 7 x 7 and pooling to a quarter, `dropout` comes before the head.
        classes: how many.

    Raises:
        SpecError: for a setting that is unknown or out of bounds.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        self.front, own = take_settings(spec, {"width": 64, "stem": "large", "dropout": 0.0}, bands=128)
        bounded(spec, own, width=(1, 1024), stem=STEMS, dropout=(0.0, 0.99))
        self.spec, self.sample_rate, self.dropout = str(spec), self.front.sample_rate, own["dropout"]
        self.policy = self.front.policy(frames=8)
        self.norm = BandNorm(self.front.bands)
        width = own["width"]
        self.stem = stem(width, size=7, stride=2, pooled=True) if own["stem"] == "large" else stem(width)
        self.stages, inputs = nn.ModuleList(), width
        for place, count in enumerate(BLOCKS[spec.name]):
            outputs = width << place
            first = Block(inputs, outputs, 2 if place else 1)
            self.stages.append(nn.Sequential(first, *(Block(outputs, outputs) for _ in range(count - 1))))
            inputs = outputs
        self.head = nn.Linear(inputs, classes)
        he_normal(self)


class Block(nn.Module):
    """Two convolutions of 3 x 3, added to what they were given."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_normed(inputs, outputs, 3, stride), nn.ReLU(inplace=True), *_normed(outputs, outputs, 3)
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*_normed(inputs, outputs, 1, stride))

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, inputs, frames, bands) to (batch, outputs, frames / stride, bands / stride), rounded up."""
        return functional.relu(self.residual(maps) + self.shortcut(maps), inplace=True)


def stem(width: int, *, size: int = 3, stride: int = 1, pooled: bool = False) -> nn.Sequential:
    """One channel to `width`, by a kernel of `size`; `pooled` halves the map once more."""
    normed = _normed(1, width, size, stride)
    return nn.Sequential(*normed, nn.ReLU(inplace=True), *([nn.MaxPool2d(3, 2, 1)] if pooled else []))


def _normed(inputs: int, outputs: int, size: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
