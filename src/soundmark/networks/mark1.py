"""`mark1`: our own network, small and quick on a processor, for sounds of any length.

A residual network in four stages on half the spectrogram's size, one block each. What it gives for its size comes from
how it is trained: see the recipe `mark1`.

Source: the blocks are those of He, Zhang, Ren, Sun: "Deep residual learning for image recognition", CVPR 2016.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from soundmark.networks.base import BandNorm, he_normal
from soundmark.networks.front import take_settings
from soundmark.networks.resnet import Block, Staged, stem
from soundmark.spec import Spec, bounded

_REDUCTION = 16  # of a map's size on its way through


class Mark1(Staged):
    """A convolution of stride 2, then four stages of residual blocks; mean and maximum over time; linear.

    Args:
        spec: its name; `width` is the number of channels of the first stage, which doubles from stage to stage,
            `blocks` how many a stage has, `dropout` comes before the head. Whole clips are heard `tempo` times as slow
            as they are: where `stretch` has moved every clip of a training between its frames, and so smoothed it, a
            clip that is not moved would be heard rougher than any that was learnt from.
        classes: how many.

    Raises:
        SpecError: for a setting that is unknown or out of bounds.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        self.front, own = take_settings(spec, {"width": 32, "blocks": 1, "dropout": 0.0, "tempo": 1.0})
        bounded(
            spec, own | {"bands": self.front.bands},
            width=(1, 1024), blocks=(1, 64), dropout=(0.0, 0.99), tempo=(0.5, 2.0), bands=(_REDUCTION, 4096),
        )  # fmt: skip
        self.spec, self.sample_rate, self.dropout = str(spec), self.front.sample_rate, own["dropout"]
        self.policy, self.tempo = self.front.policy(frames=_REDUCTION), own["tempo"]
        self.norm = BandNorm(self.front.bands)
        width, blocks = own["width"], own["blocks"]
        self.stem = stem(width, size=3, stride=2)
        sizes = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(
                Block(inputs, outputs, 2 if place else 1), *(Block(outputs, outputs) for _ in range(blocks - 1))
            )
            for place, (inputs, outputs) in enumerate(pairwise(sizes))
        )
        self.head = nn.Linear(sizes[-1], classes)
        he_normal(self)

    def whole(self, heard: Tensor) -> Tensor:
        """See `Network.whole`: the power of neighbouring frames is interpolated, as `stretch` does."""
        if self.tempo == 1.0:
            return heard
        assert self.front is not None
        power = self.front.power(heard).transpose(1, 2)
        slowed = functional.interpolate(power, scale_factor=self.tempo, mode="linear", align_corners=False)
        return self.front.levels(slowed.transpose(1, 2))
