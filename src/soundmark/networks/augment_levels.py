"""Augmentations of spectrograms that nothing in the air would make: masks, shifted bands and filters.

Sources:
    Park et al.: "SpecAugment", Interspeech 2019 (`timemask`, `freqmask`)
    Nam, Kim, Park: "FilterAugment: an acoustic environmental data augmentation method", ICASSP 2022 (`filter`)
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from soundmark.networks.augment_base import Augmentation, Draw
from soundmark.networks.front import Front


class Mask(Augmentation):
    """`number` stretches of frames or bands, each up to the share `widest` of them all, are covered.

    What covers them is the clip's mean level, as in the paper, whose levels have mean 0; or silence (`fill=silence`).
    """

    defaults: ClassVar = {"number": 2, "widest": 0.1, "fill": "mean"}
    limits: ClassVar = {"number": (0, 100), "widest": (0.0, 1.0), "fill": ("mean", "silence")}
    domain = "levels"
    axis: ClassVar[int]

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """See `Augmentation.on_levels`."""
        number, size = self.given["number"], heard.shape[self.axis]
        widest = int(self.given["widest"] * size + 1e-9)
        # A number below 1 times 1 more than the highest, rounded down, is each of 0 ... highest as often.
        width = (draw.uniform(0.0, 1.0, number, 1) * (widest + 1)).floor().clamp_max(widest)
        first = (draw.uniform(0.0, 1.0, number, 1) * (size - width + 1)).floor()
        place = torch.arange(size, device=heard.device)
        covered = ((place >= first) & (place < first + width)).any(1)
        if self.given["fill"] == "mean":
            filling = heard.mean((1, 2), keepdim=True)
        else:
            filling = front.levels(heard.new_zeros(1, 1, 1))
        return torch.where(covered.unsqueeze(3 - self.axis), filling, heard)


class TimeMask(Mask):
    """Stretches of time are covered."""

    axis = 1


class FrequencyMask(Mask):
    """Stretches of neighbouring bands are covered."""

    defaults: ClassVar = {"number": 2, "widest": 0.15, "fill": "mean"}
    axis = 2


class BandShift(Augmentation):
    """Up or down by up to so many `bands`; the end that is left open is filled with the last band."""

    defaults: ClassVar = {"bands": 3}
    limits: ClassVar = {"bands": (0, 4096)}
    domain = "either"

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """See `Augmentation.on_levels`."""
        most = self.given["bands"]
        offset = (draw.uniform(0.0, 1.0) * (2 * most + 1)).floor().clamp_max(2 * most).long() - most
        return shifted(heard, offset)


def shifted(heard: Tensor, bands: Tensor) -> Tensor:
    """(batch, frames, bands) levels moved up by so many bands, a number for each clip or one for all.

    The end that is left open is filled with the last band.
    """
    size = heard.shape[2]
    source = (torch.arange(size, device=heard.device) - bands[:, None]).clamp(0, size - 1)
    return heard.gather(2, source[:, None].expand_as(heard))


class Filter(Augmentation):
    """A smooth random filter: up to `db` louder or softer at both ends and at points between, which cut it in `pieces`.

    The points lie anywhere, a new set for every clip, and the curve between them is a half wave of a cosine.
    """

    defaults: ClassVar = {"db": 6.0, "pieces": 4}
    limits: ClassVar = {"db": (0.0, 60.0), "pieces": (1, 100)}

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """See `Augmentation.on_levels`."""
        pieces, size = self.given["pieces"], heard.shape[2]
        points = draw.uniform(0.0, 1.0, pieces - 1).sort(1).values
        points = torch.nn.functional.pad(torch.nn.functional.pad(points, (1, 0)), (0, 1), value=1.0)
        gains = draw.uniform(-self.given["db"], self.given["db"], pieces + 1)
        place = torch.linspace(0.0, 1.0, size, device=heard.device).repeat(len(heard), 1)
        below = (torch.searchsorted(points, place) - 1).clamp(0, pieces - 1)
        low, high = points.gather(1, below), points.gather(1, below + 1)
        share = ((place - low) / (high - low).clamp_min(1e-6)).clamp(0.0, 1.0)
        curve = torch.lerp(gains.gather(1, below), gains.gather(1, below + 1), 0.5 - 0.5 * torch.cos(torch.pi * share))
        return heard * (10.0 ** (curve / 10.0))[:, None]
