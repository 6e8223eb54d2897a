"""Data augmentation: clips as they could also have sounded, drawn anew in every epoch.

A text such as `gain?db=6+shift+noise?snr=10+timemask+mix` names what is done, in the grammar of all names. However it
is ordered, waveforms come first, then spectrograms, then mixtures of clips; within each the order is the text's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from soundmark.errors import SpecError
from soundmark.networks.augment_acoustic import Gain, Noise, Pitch, Reverb, Shift, Stretch
from soundmark.networks.augment_base import Augmentation, Draw
from soundmark.networks.augment_levels import BandShift, Filter, FrequencyMask, TimeMask
from soundmark.networks.front import Front
from soundmark.networks.mixing import Mix, Mixing, MixUp
from soundmark.spec import lookup, parse_joined

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "gain": Gain,
    "shift": Shift,
    "noise": Noise,
    "reverb": Reverb,
    "pitch": Pitch,
    "stretch": Stretch,
    "timemask": TimeMask,
    "freqmask": FrequencyMask,
    "bandshift": BandShift,
    "filter": Filter,
    "mixup": MixUp,
    "mix": Mix,
}
"""Every augmentation by name."""


class Augment:
    """What is done to the clips of a training, batch by batch. `parse` makes one.

    All random numbers come from the generator that is passed in, which lives on the CPU. Clips of a batch have numbers
    of their own, and but for mixtures none hears of another. What is passed in is never changed.

    Args:
        parts: the augmentations, in order.

    Attributes:
        text: the canonical text, with the settings that differ from the defaults; empty if nothing is done.
        needs_waveforms: whether anything works on waveforms, so that spectrograms cannot be kept from epoch to epoch.
    """

    def __init__(self, parts: Iterable[Augmentation]) -> None:
        self.parts = tuple(parts)
        self.text = "+".join(part.text for part in self.parts)
        self.needs_waveforms = any(part.where == "waveform" for part in self.parts)

    def __repr__(self) -> str:
        return f"Augment({self.text!r})"

    def check(self, front: Front | None) -> None:
        """See whether a network with this front end can be trained so.

        Raises:
            SpecError: if spectrograms were to be augmented and there are none.
        """
        for part in self.parts:
            if front is None and part.where == "levels":
                way = f", or write {part.name}?on=waveform" if "on" in part.given else ""
                raise SpecError(
                    f"{part.name} works on spectrograms, and this network hears waveforms themselves: leave it out{way}"
                )

    def on_waveforms(self, waveforms: Tensor, rate: int, rng: torch.Generator) -> Tensor:
        """Do what is done to waveforms.

        Args:
            waveforms: (batch, samples).
            rate: Hz.
            rng: on the CPU.

        Returns:
            Of the same shape and type, on the same device.

        Raises:
            MissingExtra: for pitch or stretch without audiomentations.
        """
        for part in self.parts:
            if part.where == "waveform":
                chosen = part.chosen(rng, len(waveforms))
                waveforms = _done(partial(part.on_waveforms, rate=rate), waveforms, chosen, rng)
        return waveforms

    def on_levels(self, levels: Tensor, front: Front, rng: torch.Generator) -> Tensor:
        """Do what is done to spectrograms.

        Args:
            levels: (batch, frames, bands).
            front: what they come from; it tells what power they stand for.
            rng: on the CPU.

        Returns:
            Of the same shape and type, on the same device.

        Raises:
            SpecError: if `front` is None and there is anything to do.
        """
        self.check(front)
        # Most work on power: it is computed once, and turned back when a part wants levels or all is done.
        heard, domain = levels, "levels"
        for part in self.parts:
            if part.where != "levels":
                continue
            chosen = part.chosen(rng, len(heard))
            if chosen is not None and not len(chosen):
                continue
            if part.domain not in (domain, "either"):
                heard, domain = _turned(heard, front, part.domain), part.domain
            heard = _done(partial(part.on_levels, front=front), heard, chosen, rng)
        return _turned(heard, front, "levels") if domain == "power" else heard

    def mixed(self, heard: Tensor, targets: Tensor, front: Front | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix clips of a batch with one another.

        Args:
            heard: levels (batch, frames, bands), or waveforms (batch, samples) where `front` is None.
            targets: (batch, classes) labels, float.
            front: what the levels come from.
            rng: on the CPU.

        Returns:
            Mixtures of the shape of `heard`, and their soft labels of the shape of `targets`. Each row of labels that
            summed to one still does.
        """
        parts = [part for part in self.parts if isinstance(part, Mixing) and part.p > 0]
        if not parts or len(heard) < 2:
            return heard, targets
        domain = "levels"
        for part in parts:
            if front is not None and part.domain != domain:
                heard, domain = _turned(heard, front, part.domain), part.domain
            heard, targets = part.mixed(heard, targets, front, rng)
        return heard if front is None or domain == "levels" else _turned(heard, front, "levels"), targets


def parse(text: str) -> Augment:
    """The augmentation that a text asks for; an empty one does nothing.

    Args:
        text: names with settings, joined with `+`.

    Raises:
        SpecError: for an unknown name or setting, or a value out of bounds.
    """
    if not text.strip():
        return Augment(())
    return Augment(lookup("augmentation", spec.name, AUGMENTATIONS)(spec) for spec in parse_joined(text))


def _turned(heard: Tensor, front: Front, domain: str) -> Tensor:
    return front.power(heard) if domain == "power" else front.levels(heard)


def _done(work: Callable[..., Tensor], heard: Tensor, chosen: Tensor | None, rng: torch.Generator) -> Tensor:
    """`heard` after `work` on the chosen clips, or on all of them."""
    if chosen is None:
        return work(heard, draw=Draw(rng, len(heard), heard.device))
    if not len(chosen):
        return heard
    draw = Draw(rng, len(chosen), heard.device)
    chosen = chosen.to(heard.device)
    return heard.index_copy(0, chosen, work(heard.index_select(0, chosen), draw=draw))
