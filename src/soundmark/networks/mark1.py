"""`mark1`: our own network, small and quick on a processor, for sounds of any length.

A residual network in four stages on half the spectrogram's size, one block each. What it gives for its size comes from
how it is trained: see the recipe `mark1`.

Source: the blocks are those of He, Zhang, Ren, Sun: "Deep residual learning for image recognition", CVPR 2016.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from soundmark.networks.augment_levels import shifted
from soundmark.networks.base import BandNorm, he_normal
from soundmark.networks.front import take_settings
from soundmark.networks.resnet import Block, Staged, stem
from soundmark.spec import Spec, bounded

_REDUCTION = 16  # of a map's size on its way through

VIEWS = ((0, 0), (10, 1), (10, -1), (0, 2), (0, -2))
"""How a clip is heard: so many per cent slower, so many bands up. Slower serves better than faster."""


class Mark1(Staged):
    """A convolution of stride 2, then four stages of residual blocks; mean and maximum over time; linear.

    Args:
        spec: its name; `width` is the number of channels of the first stage, which doubles from stage to stage,
            `blocks` how many a stage has, `dropout` comes before the head. Clips that are measured or recognised are
            heard in the first so many of `VIEWS`, at as many times the cost.
        classes: how many.

    Raises:
        SpecError: for a setting that is unknown or out of bounds.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        self.front, own = take_settings(spec, {"width": 32, "blocks": 1, "dropout": 0.0, "views": 1})
        bounded(
            spec, own | {"bands": self.front.bands},
            width=(1, 1024), blocks=(1, 64), dropout=(0.0, 0.99), views=(1, len(VIEWS)), bands=(_REDUCTION, 4096),
        )  # fmt: skip
        self.spec, self.sample_rate, self.dropout = str(spec), self.front.sample_rate, own["dropout"]
        self.policy, self.seen = self.front.policy(frames=_REDUCTION), VIEWS[: own["views"]]
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

    def views(self, heard: Tensor) -> list[Tensor]:
        """See `Network.views`: as `stretch` with drawn frames and `bandshift` change clips in training."""
        seen = []
        for percent, bands in self.seen:
            view = slowed(heard, percent)
            seen.append(shifted(view, torch.tensor([bands], device=heard.device)) if bands else view)
        return seen


def slowed(heard: Tensor, percent: int) -> Tensor:
    """(batch, frames, bands) levels that last so much longer, each frame one of those that were heard."""
    if percent == 0:
        return heard
    # Whole numbers, so that a model file draws the very same frames.
    frames = torch.arange(heard.shape[1] * (100 + percent) // 100, device=heard.device)
    return heard.index_select(1, frames * 100 // (100 + percent))
