"""Mixtures of two clips of a batch, with labels that say how much of each is in them.

Sounds add up, and power with them. `mix` therefore mixes the power of spectrograms, which is what the sum of the two
recordings would have, but for how they beat; `mixup` does so if asked. Where a network hears waveforms, they are added
with the roots of the same weights.

Sources:
    Zhang et al.: "mixup: beyond empirical risk minimization", ICLR 2018 (`mixup`)
    Tokozume, Ushiku, Harada: "Learning from between-class examples for deep sound recognition", ICLR 2018 (`mix`)
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from soundmark.networks.augment_base import Augmentation, Draw, over
from soundmark.networks.ear import SILENT, ear
from soundmark.networks.front import Front
from soundmark.spec import Spec

_WINDOW = 2048  # samples whose power tells how loud a waveform is at a moment


class Mixing(Augmentation):
    """Every clip with another one of the batch; `p` is the share of clips to which that happens."""

    where = "clips"

    def ratio(self, draw: Draw) -> Tensor:
        """(clips,) the label of a clip itself in its mixture, from 0 to 1."""
        raise NotImplementedError(f"{type(self).__name__} must define ratio")

    def weights(self, ratio: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """What the power of two clips is multiplied with, by how loud their loudest moments are; all (clips,)."""
        raise NotImplementedError(f"{type(self).__name__} must define weights")

    def mixed(self, heard: Tensor, targets: Tensor, front: Front | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix what is heard: power or levels (batch, frames, bands), or waveforms (batch, samples) without a `front`.

        Returns:
            The mixtures and their soft labels, of the shapes of `heard` and `targets`.
        """
        clips = len(heard)
        order = torch.randperm(clips, generator=rng)
        partner = torch.empty_like(order)
        partner[order] = order.roll(1)  # somebody else, if there is anybody
        chosen = self.chosen(rng, clips)
        ratio = self.ratio(Draw(rng, clips, heard.device))
        if chosen is not None:
            rest = torch.ones(clips, dtype=torch.bool)
            rest[chosen] = False
            ratio = ratio.masked_fill(rest.to(heard.device), 1.0)
        partner = partner.to(heard.device)
        loud = loudest(heard, front)
        first, second = self.weights(ratio, loud, loud[partner])
        if front is None:
            first, second = first.sqrt(), second.sqrt()
        both = torch.addcmul(heard * over(first, heard), heard.index_select(0, partner), over(second, heard))
        ratio = ratio.to(targets)[:, None]
        return both, targets * ratio + targets[partner.to(targets.device)] * (1.0 - ratio)


class MixUp(Mixing):
    """A weighted mean of two clips and of their labels, the weight drawn from a beta distribution of `alpha` twice.

    As published it is of what the network hears, its levels, where a soft clip counts as much as a loud one. With
    `domain=power` it is that of real sounds, in which the louder one may drown a label that says it is hardly there.
    """

    defaults: ClassVar = {"alpha": 0.3, "domain": "levels"}
    limits: ClassVar = {"alpha": (0.001, 1000.0), "domain": ("levels", "power")}

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.domain = self.given["domain"]

    def ratio(self, draw: Draw) -> Tensor:
        """See `Mixing.ratio`; one for every clip."""
        # Torch has no beta distribution that takes a generator.
        seed = int(torch.randint(1 << 62, (), generator=draw.rng))
        drawn = np.random.default_rng(seed).beta(self.given["alpha"], self.given["alpha"], draw.clips)
        return torch.from_numpy(drawn.astype(np.float32)).to(draw.device)

    def weights(self, ratio: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """See `Mixing.weights`."""
        return ratio, 1.0 - ratio


class Mix(Mixing):
    """Between-class learning: two clips in a ratio that is heard as the one the labels say, drawn evenly from 0 to 1.

    A loud clip gets less weight and a soft one more, by how loud either is at its loudest under A-weighting. Together
    they are about as loud as the softer one. Against silence no weight helps, and the two count as equally loud.
    """

    def ratio(self, draw: Draw) -> Tensor:
        """See `Mixing.ratio`."""
        return draw.uniform(0.0, 1.0)

    def weights(self, ratio: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """See `Mixing.weights`; equations 2 and 3 of the paper."""
        silent = (own <= SILENT) | (other <= SILENT)
        louder = torch.where(silent, 1.0, own / other.clamp_min(SILENT)).sqrt()  # 10 ** ((G1 - G2) / 20)
        share = ratio / (ratio + (1.0 - ratio) * louder)
        own_power, other_power = share.square(), (1.0 - share).square()
        both = own_power + other_power
        return own_power / both, other_power / both


def loudest(heard: Tensor, front: Front | None) -> Tensor:
    """Power of every clip's loudest moment: (batch,), 1 for full-scale white noise.

    Under A-weighting for a front end's power. Of waveforms, whose rate is not known here, as it is.
    """
    if front is not None:
        return (heard @ ear(front, heard.device).perceived).amax(1)
    window = min(_WINDOW, heard.shape[1])
    return heard.square().unfold(1, window, max(1, window // 2)).mean(2).amax(1)
