"""What every augmentation is: settings, a place on the way, and random numbers of its own for every clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from soundmark.errors import SpecError
from soundmark.networks.front import Front
from soundmark.spec import Spec, bounded, take, written


class Draw:
    """Random numbers for the clips of one batch, one row for each.

    They are drawn on the CPU, so that a seed means the same on every device, and moved to where the clips are.

    Args:
        rng: a generator on the CPU.
        clips: how many.
        device: where the numbers are wanted.
    """

    def __init__(self, rng: torch.Generator, clips: int, device: torch.device) -> None:
        self.rng, self.clips, self.device = rng, clips, device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(clips, *shape) float32 from `low` to `high`."""
        return (low + (high - low) * torch.rand(self.clips, *shape, generator=self.rng)).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """(clips, *shape) float32 of mean 0 and deviation 1."""
        return torch.randn(self.clips, *shape, generator=self.rng).to(self.device)

    def apart(self) -> Draw:
        """The same clips, with random numbers apart from these.

        For those of which there are as many as frames or samples. Whoever hears fewer of them, as a teacher with ears
        of its own may, still draws the same as all others after them.
        """
        seed = int(torch.randint(1 << 62, (), generator=self.rng))
        return Draw(torch.Generator().manual_seed(seed), self.clips, self.device)


class Augmentation:
    """One augmentation. Subclasses set the class attributes and define the method of the place they work at.

    Args:
        spec: its name and settings.

    Attributes:
        defaults: settings and their defaults, besides `p`, the probability for every clip, which is 1 unless said.
        limits: the lowest and the highest value of a number, or all words that a setting can be.
        domain: what `on_levels` takes: `levels`, `power`, or `either` where it only moves frames or bands about.
        given: every setting's value.
        text: the canonical name, with what differs from the defaults.
        where: `waveform`, `levels` or `clips` (between those of a batch).

    Raises:
        SpecError: for a setting that is unknown, mistyped or out of bounds.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    limits: ClassVar[Mapping[str, tuple[float, float] | tuple[str, ...]]] = {}
    domain: str = "power"
    where: str = "levels"

    def __init__(self, spec: Spec) -> None:
        if spec.view or spec.layer:
            raise SpecError(f"cannot read the augmentation '{spec}': write it as name?setting=value&other=value")
        defaults = self.all_defaults()
        self.given = take(spec, defaults)
        bounded(spec, self.given, **self.limits, p=(0.0, 1.0))
        said = {key: written(value) for key, value in self.given.items() if value != defaults[key]}
        self.name, self.text, self.p = spec.name, str(Spec(spec.name, settings=said)), float(self.given["p"])

    @classmethod
    def all_defaults(cls) -> dict[str, Any]:
        """Every setting with its default."""
        return {"p": 1.0, **cls.defaults}

    def chosen(self, rng: torch.Generator, clips: int) -> Tensor | None:
        """Which clips it is done to: (n,) positions on the CPU, or None for all of them."""
        if self.p == 1.0:
            return None
        return (torch.rand(clips, generator=rng) < self.p).nonzero().flatten()

    def on_waveforms(self, waveforms: Tensor, rate: int, draw: Draw) -> Tensor:
        """(batch, samples) waveforms at `rate` Hz to new ones of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} does not work on waveforms")

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """(batch, frames, bands) levels or power, as `domain` says, to new ones of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} does not work on levels")


class Acoustic(Augmentation):
    """An augmentation that a room, an instrument or a microphone could have made, with a version on either side.

    `on=levels`, the default, works on the batch's spectrogram at next to no cost, and spectrograms can be kept.
    `on=waveform` works on the samples.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        bounded(spec, self.given, on=("levels", "waveform"))
        self.where = self.given["on"]

    @classmethod
    def all_defaults(cls) -> dict[str, Any]:
        """See `Augmentation.all_defaults`."""
        return {"on": "levels", **super().all_defaults()}


def moved(rows: Tensor, index: Tensor) -> Tensor:
    """The rows that `index` names, clip by clip.

    Args:
        rows: (batch, rows, ...).
        index: (batch, wanted) int64.

    Returns:
        (batch, wanted, ...).
    """
    clips, count = rows.shape[:2]
    first = torch.arange(clips, device=rows.device)[:, None] * count
    return rows.flatten(0, 1).index_select(0, (index + first).flatten()).view(*index.shape, *rows.shape[2:])


def over(values: Tensor, like: Tensor) -> Tensor:
    """(batch,) values with as many dimensions as `like`, to be multiplied with it clip by clip."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
